"""What Codex's configuration is made to say, and that nothing else in it changes."""

import stat
import tomllib
from pathlib import Path

import pytest
import tomlkit

from deepseek_proxy.api import auth
from deepseek_proxy.cli import codex_config
from deepseek_proxy.cli.codex_config import ConfigError, Wanted, changed, keep_backup, read, restore, write

WANTED = Wanted(
    base_url="http://127.0.0.1:8787/v1",
    model="deepseek-flash",
    effort="high",
    gateway_has_key=False,
    web_search=False,
)

MINE = """\
# my own remark
model = "gpt-5"      # another one
approval_policy = "on-request"

[mcp_servers.files]
command = "files"

[model_providers.other]
name = "Other"
base_url = "http://127.0.0.1:1/v1"
"""


def test_a_new_file_says_what_is_wanted_and_no_more() -> None:
    assert tomllib.loads(changed("", WANTED)) == {
        "model": "deepseek-flash",
        "model_provider": "deepseek",
        "model_reasoning_effort": "high",
        "web_search": "disabled",
        "model_providers": {
            "deepseek": {
                "name": "DeepSeek",
                "base_url": "http://127.0.0.1:8787/v1",
                "wire_api": "responses",
                "model_catalog_url": "http://127.0.0.1:8787/v1/models",
                "supports_websockets": False,
                "env_key": "DEEPSEEK_API_KEY",
            }
        },
    }


def test_everything_else_in_the_file_stays() -> None:
    text = changed(MINE, WANTED)
    before, after = tomllib.loads(MINE), tomllib.loads(text)
    assert after["mcp_servers"] == before["mcp_servers"]
    assert after["model_providers"]["other"] == before["model_providers"]["other"]
    assert after["approval_policy"] == "on-request"
    assert "# my own remark\n" in text
    assert "# another one\n" in text


def test_the_change_is_made_once() -> None:
    once = changed(MINE, WANTED)
    assert changed(once, WANTED) == once


def test_the_provider_is_never_called_openai() -> None:
    assert tomllib.loads(changed("", WANTED))["model_providers"]["deepseek"]["name"].lower() != "openai"


def test_a_gateway_with_a_key_gets_the_placeholder_that_it_knows() -> None:
    wanted = Wanted("http://127.0.0.1:8787/v1", "deepseek-flash", "high", True, True)
    provider = tomllib.loads(changed("", wanted))["model_providers"]["deepseek"]
    assert "env_key" not in provider
    assert provider["experimental_bearer_token"] == auth.PLACEHOLDER_KEY
    assert "web_search" not in tomllib.loads(changed("", wanted))


def test_overrides_say_the_same_as_the_file() -> None:
    options = WANTED.as_overrides()
    assert options[::2] == ["-c"] * (len(options) // 2)
    assert tomllib.loads("\n".join(options[1::2])) == tomllib.loads(changed("", WANTED))


def test_what_is_no_toml_is_left_alone() -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        changed("model = ", WANTED)
    with pytest.raises(ConfigError, match="'model_providers' is not a table"):
        changed("model_providers = 5", WANTED)


def test_writing_keeps_the_mode_and_follows_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "config.toml"
    real.write_text("a = 1\n")
    real.chmod(0o640)
    link.symlink_to(real)
    write(link, "a = 2\n")
    assert link.is_symlink()
    assert real.read_text() == "a = 2\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "real.toml"]


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "codex" / "config.toml"
    write(path, "a = 1\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_first_backup_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    keep_backup(path, MINE)
    keep_backup(path, changed(MINE, WANTED))
    path.write_text(changed(MINE, WANTED))
    restore(path)
    assert path.read_text() == MINE
    assert not codex_config.backup_of(path).exists()


def test_undoing_removes_a_file_that_was_not_there(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    keep_backup(path, read(path))
    write(path, changed("", WANTED))
    restore(path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(path)


def test_values_are_toml(tmp_path: Path) -> None:
    awkward = Wanted('http://h/"quoted"\\/v1', "m", "high", True, True)
    assert tomlkit.parse(changed("", awkward))["model_providers"]["deepseek"]["base_url"] == awkward.base_url
