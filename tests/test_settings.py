"""Where settings come from, which are refused, and that no secret shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import environments

from deepseek_proxy import models
from deepseek_proxy.credentials import digest_of
from deepseek_proxy.settings import Settings, SettingsError, isolated, load, variables


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of whoever runs the tests must not count."""
    environments.bare(monkeypatch)


def complaints(config: Path | None = None, **overrides: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(config, **overrides)
    return str(caught.value).splitlines()


def key(settings: Settings) -> str | None:
    return settings.deepseek_api_key.get_secret_value() if settings.deepseek_api_key else None


# -- sources --------------------------------------------------------------------------------------


def test_nothing_is_needed() -> None:
    settings = load()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8787, 1)
    assert str(settings.upstream_url) == "https://api.deepseek.com/"
    assert settings.deepseek_api_key is None
    assert settings.model_fields_set == set()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gateway.toml", 'port = 9000\nseal_keys = ["a", "b"]\n[model_aliases]\nmine = "deepseek-v4-pro"\n'),
        (
            "gateway.json",
            '{"port": 9000, "seal_keys": ["a", "b"], "model_aliases": {"mine": "deepseek-v4-pro"}}',
        ),
    ],
)
def test_a_file_in_either_format(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    settings = load(path)
    assert settings.port == 9000
    assert settings.model_aliases == {"mine": "deepseek-v4-pro"}
    assert [secret.get_secret_value() for secret in settings.seal_keys] == ["a", "b"]


def test_options_beat_the_environment_and_that_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("port = 1001\nworkers = 2\nhost = 'localhost'\n")
    monkeypatch.setenv("DEEPSEEK_PROXY_CONFIG", str(path))
    monkeypatch.setenv("DEEPSEEK_PROXY_PORT", "1002")
    monkeypatch.setenv("DEEPSEEK_PROXY_WORKERS", "3")
    settings = load(port=1003, workers=None)
    assert (settings.port, settings.workers, settings.host) == (1003, 3, "localhost")


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_PORT", "")
    monkeypatch.setenv("DEEPSEEK_API_KEY", "")
    assert load().port == 8787
    assert load().deepseek_api_key is None


def test_lists_are_comma_separated_and_maps_are_json_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_SEAL_KEYS", "first,second")
    monkeypatch.setenv("DEEPSEEK_PROXY_MODEL_ALIASES", '{"gpt-5": "deepseek-v4-pro"}')
    settings = load()
    assert [secret.get_secret_value() for secret in settings.seal_keys] == ["first", "second"]
    assert settings.model_aliases == {"gpt-5": "deepseek-v4-pro"}


def test_isolated_settings_read_neither_environment_nor_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("workers = 7\n")
    monkeypatch.setenv("DEEPSEEK_PROXY_CONFIG", str(path))
    monkeypatch.setenv("DEEPSEEK_PROXY_PORT", "1")
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-other")
    settings = isolated(deepseek_api_key="sk-mine")
    assert (settings.port, settings.workers, key(settings)) == (8787, 1, "sk-mine")


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert load(log_dir="~/logs").log_dir == Path("/home/someone/logs")


def test_systemd_chooses_the_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/gateway")
    assert load().state_dir == Path("/var/lib/gateway")


# -- the key --------------------------------------------------------------------------------------


def test_the_sources_of_the_key_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sk-file\n")
    config = tmp_path / "gateway.toml"
    config.write_text(f'deepseek_api_key_file = "{secret}"\n')
    assert key(load(config)) == "sk-file"
    config.write_text(f'deepseek_api_key_file = "{secret}"\ndeepseek_api_key = "sk-config"\n')
    assert key(load(config)) == "sk-config"
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-plain")
    assert key(load(config)) == "sk-plain"
    monkeypatch.setenv("DEEPSEEK_PROXY_DEEPSEEK_API_KEY", "sk-own")
    assert key(load(config)) == "sk-own"
    assert key(load(config, deepseek_api_key="sk-option")) == "sk-option"


def test_a_key_file_that_cannot_be_read_is_a_mistake_like_all_others(tmp_path: Path) -> None:
    path = tmp_path / "none"
    found = complaints(deepseek_api_key_file=path, port=-1)
    assert f"deepseek_api_key_file: {path} cannot be read: No such file or directory" in found
    assert any(line.startswith("port: ") for line in found)


@pytest.mark.parametrize("bad", ["", "two words", "sk-naïve", "sk-a\r\nX-Evil: 1"])
def test_a_key_must_fit_a_header(bad: str) -> None:
    (line,) = complaints(deepseek_api_key=bad)
    assert line.startswith("deepseek_api_key: ")
    assert not bad or bad not in line


@pytest.mark.parametrize("name", ["deepseek_api_key_file", "admin_key_file"])
def test_what_is_no_path_is_a_mistake_like_all_others(name: str) -> None:
    (found,) = complaints(**{name: 5})
    assert found.startswith(f"{name}: Input is not a valid path")


def test_the_admin_key_comes_from_its_file_unless_it_is_set(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of-the-file-of-the-file\n")
    found = load(admin_key_file=secret).admin_key
    assert found is not None
    assert found.get_secret_value() == "of-the-file-of-the-file"
    found = load(admin_key_file=secret, admin_key="of-an-option-of-an-option").admin_key
    assert found is not None
    assert found.get_secret_value() == "of-an-option-of-an-option"
    assert complaints(admin_key_file=tmp_path / "none") == [
        f"admin_key_file: {tmp_path / 'none'} cannot be read: No such file or directory"
    ]


@pytest.mark.parametrize("bad", ["short", "fifteen-letters", "two words are not one key"])
def test_an_admin_key_is_one_word_that_nobody_guesses(bad: str) -> None:
    (line,) = complaints(admin_key=bad)
    assert line.startswith("admin_key: ")
    assert bad not in line


# -- mistakes -------------------------------------------------------------------------------------


def test_every_mistake_at_once_with_the_variable_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("log_backups = -1\nworker = 3\n")
    monkeypatch.setenv("DEEPSEEK_PROXY_PORT", "high")
    monkeypatch.setenv("DEEPSEEK_PROXY_WORKERS", "many")
    found = complaints(path, workers=0)
    assert [line.partition(": ")[0] for line in found] == [
        "port (DEEPSEEK_PROXY_PORT)",
        "workers",  # an option, not the variable
        "log_backups",
        "worker",
    ]
    assert found[-1] == "worker: no such setting; did you mean workers?"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("broken.toml", "port = \n", "line 1"),
        ("broken.json", "{", "line 1"),
        ("list.json", "[1]", "one object"),
        ("latin.toml", b"host = '\xe9'", "utf-8"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, name: str, text: str | bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (line,) = complaints(path)
    assert line.startswith(f"{path}: ")
    assert words in line


def test_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_CONFIG", str(tmp_path / "none.toml"))
    assert complaints() == [
        f"{tmp_path / 'none.toml'}: the configuration file cannot be read: No such file or directory"
    ]


def test_a_map_in_the_environment_that_is_not_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_MODEL_ALIASES", "gpt-5=deepseek-flash")
    (line,) = complaints()
    assert "model_aliases" in line
    assert "not JSON" in line


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_duration_is_a_positive_number(seconds: float) -> None:
    (line,) = complaints(heartbeat_seconds=seconds)
    assert line.startswith("heartbeat_seconds: ")


@pytest.mark.parametrize("url", ["https://user:secret@host", "https://host/?a=b", "ftp://host", "host"])
def test_the_upstream_is_a_plain_http_url(url: str) -> None:
    (line,) = complaints(upstream_url=url)
    assert line.startswith("upstream_url: ")
    assert "secret" not in line


@pytest.mark.parametrize(
    "wrong",
    [
        {"default_model": "gpt-5"},
        {"model_aliases": {"mine": "gpt-5"}},
        {"model_aliases": {"mine": "other", "other": "deepseek-flash"}},  # an alias of an alias
    ],
)
def test_aliases_and_the_default_name_known_models(wrong: dict[str, object]) -> None:
    (line,) = complaints(**wrong)
    assert "is not a model" in line
    assert all(name in line for name in models.MODELS)


def test_the_default_may_be_an_alias() -> None:
    settings = load(default_model="mine", model_aliases={"mine": "deepseek-r1"})
    assert settings.default_model == "mine"


# -- clients --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "the-key-of-alice-01,the-key-of-bob-0001",
        '["the-key-of-alice-01", {"key": "the-key-of-bob-0001"}]',
    ],
)
def test_keys_of_clients_in_the_environment(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_KEYS", text)
    alice, bob = load().keys
    assert alice.key is not None
    assert alice.key.get_secret_value() == "the-key-of-alice-01"
    assert bob.digest == digest_of("the-key-of-bob-0001")


def test_a_mistake_in_a_list_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        '{"keys": ["short", {"key": "the-key-of-bob-0001", "budget": 1, "expires": "soon"}], "port": -1}'
    )
    found = complaints(path)
    assert [line.partition(": ")[0] for line in found] == [
        "port",
        "keys[0].key",
        "keys[1].expires",
        "keys[1].budget",
    ]
    assert found[-1] == "keys[1].budget: no such setting; did you mean budget_per_day?"
    monkeypatch.setenv("DEEPSEEK_PROXY_KEYS", "[1")
    assert "keys (DEEPSEEK_PROXY_KEYS): not JSON" in complaints(path)


def test_names_and_models_of_clients_are_looked_at_together() -> None:
    alice = {"key": "the-key-of-alice-01", "name": "alice"}
    found = complaints(keys=[alice, {**alice, "key": "the-key-of-bob-0001"}, "the-key-of-alice-01"])
    assert [line.partition(": ")[0] for line in found] == ["keys[1].name", "keys[2]"]
    (line,) = complaints(keys=[{**alice, "models": ["deepseek-flash", "gpt-5"]}])
    assert line == "keys[0].models: 'gpt-5' is not a model"
    assert load(keys=[{**alice, "models": ["mine"]}], model_aliases={"mine": "deepseek-v4-pro"}).keys


def test_a_file_of_keys_with_mistakes_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text('{"keys": [{"name": "two words", "key_sha256": "1"}]}')
    found = complaints(keys_file=path, port=-1)
    assert [line.partition(": ")[0] for line in found] == ["port", "keys_file", "keys_file"]
    assert "keys[0].name: a name is" in found[1] + found[2]
    path.unlink()
    assert load(keys_file=path).asks_for_keys


def test_a_mistyped_key_shall_look_like_none_of_deepseeks() -> None:
    (line,) = complaints(keys="the-key-of-alice-01,sk-the-key-of-bob-0001", passthrough=True)
    assert line.startswith("keys[1].key: with passthrough")
    assert load(keys="sk-the-key-of-bob-0001").keys
    assert load(keys="the-key-of-alice-01", passthrough=True).passthrough


# -- systemd --------------------------------------------------------------------------------------


def test_secrets_come_as_credentials_of_systemds_unless_they_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "deepseek_api_key").write_text("sk-credential\n")
    (tmp_path / "admin_key").write_text("of-the-file-of-the-file\n")
    (tmp_path / "keys").write_text('["the-key-of-alice-01"]\n')
    (tmp_path / "bob").write_text("the-key-of-bob-0001\n")
    settings = load()
    assert key(settings) == "sk-credential"
    assert settings.admin_key is not None
    assert [client.digest for client in settings.keys] == [digest_of("the-key-of-alice-01")]
    assert isolated().deepseek_api_key is None
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-plain")
    bob = {"key_file": "$CREDENTIALS_DIRECTORY/bob", "name": "bob"}
    settings = load(keys=[bob], admin_key_file="$CREDENTIALS_DIRECTORY/admin_key")
    assert key(settings) == "sk-plain"
    assert [client.digest for client in settings.keys] == [digest_of("the-key-of-bob-0001")]
    assert settings.admin_key is not None


# -- who pays -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.example"])
def test_the_own_key_is_not_for_the_whole_network_unless_it_is_meant(host: str) -> None:
    (line,) = complaints(host=host, deepseek_api_key="sk-own")
    assert line.startswith("host: ")
    assert "DEEPSEEK_PROXY_ALLOW_REMOTE=true" in line
    assert load(host=host, deepseek_api_key="sk-own", allow_remote=True).host == host
    assert load(host=host, deepseek_api_key="sk-own", keys="the-key-of-alice-01").host == host
    assert load(host=host).host == host  # every client pays for itself


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_always_allowed(host: str) -> None:
    assert load(host=host, deepseek_api_key="sk-own").host == host


@pytest.mark.parametrize("variable", ["VERCEL", "VERCEL_IPC_PATH"])
def test_on_vercel_everybody_is_remote_whatever_the_host_says(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    (line,) = complaints(deepseek_api_key="sk-own")
    assert line.startswith("everybody who knows the address of this deployment")
    assert load(deepseek_api_key="sk-own", allow_remote=True).allow_remote
    assert load().deepseek_api_key is None


# -- secrets --------------------------------------------------------------------------------------


def test_no_secret_shows_when_settings_are_printed() -> None:
    settings = load(
        deepseek_api_key="sk-canary-1", seal_keys="canary-2", upstream_proxy="http://u:canary-3@proxy:1"
    )
    shown = f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
    assert "canary" not in shown


def test_the_variables_of_a_setting() -> None:
    assert variables("heartbeat_seconds") == ("DEEPSEEK_PROXY_HEARTBEAT_SECONDS",)
    assert variables("deepseek_api_key") == ("DEEPSEEK_PROXY_DEEPSEEK_API_KEY", "DEEPSEEK_API_KEY")


# -- the store ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["sqlite:", "sqlite:/a/file", "rediss://:secret@host/0", "unix:///socket", "off"]
)
def test_stores(url: str) -> None:
    stored = load(store_url=url).store_url
    assert stored is not None
    assert stored.get_secret_value() == url


@pytest.mark.parametrize("url", ["mysql://user:secret@host", "memory", "redis://user:secret@host:secret"])
def test_a_store_that_is_none_is_refused_without_being_shown(url: str) -> None:
    (line,) = complaints(store_url=url)
    assert line.startswith("store_url: ")
    assert "secret" not in line


def test_memory_is_for_one_worker() -> None:
    (line,) = complaints(store_url="memory:", workers=2)
    assert line.startswith("store_url: memory: is for one worker")


def test_a_pool_without_proxies_is_refused_rather_than_gone_around() -> None:
    (line,) = complaints(proxy_pool_enabled=True)
    assert line.startswith("proxy_pool: it is enabled, and empty")


# -- pages ----------------------------------------------------------------------------------------


def test_origins_are_as_browsers_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_CORS_ORIGINS", "https://app.example, http://[::1]:3000")
    assert load().cors_origins == ("https://app.example", "http://[::1]:3000")
    for wrong in ("app.example", "https://app.example/", "HTTPS://App.example", "https://*.example", "null"):
        (line,) = complaints(cors_origins=[wrong])
        assert line.startswith("cors_origins")


def test_no_origin_is_named_for_the_own_key_by_a_star() -> None:
    (line,) = complaints(cors_origins="*", deepseek_api_key="sk-own")
    assert line.startswith("cors_origins: every page")
    assert load(cors_origins="*").cors_origins == ("*",)
    assert load(cors_origins="*", deepseek_api_key="sk-own", keys="the-key-of-alice-01").asks_for_keys
