"""systemd's credentials, and places as they are written; files are tested with the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepseek_proxy.sources import SettingsError, credentials, expanded, place_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def test_credentials_have_the_names_of_settings(folder: Path) -> None:
    (folder / "admin_key").write_text("secret\n")
    (folder / "other").write_text("not asked for")
    (folder / "seal_keys").write_text("\n")
    assert credentials(["admin_key", "seal_keys"]) == {"admin_key": "secret"}


def test_without_systemd_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert credentials(["admin_key"]) == {}


def test_one_that_cannot_be_read_is_a_mistake(folder: Path) -> None:
    (folder / "admin_key").mkdir()
    with pytest.raises(SettingsError, match="admin_key: systemd's credential cannot be read"):
        credentials(["admin_key"])
    (folder / "seal_keys").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="seal_keys: systemd's credential is not text"):
        credentials(["seal_keys"])


def test_paths_may_begin_with_the_folder_of_credentials_or_the_home_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert expanded(Path("$CREDENTIALS_DIRECTORY/alice.key")) == folder / "alice.key"
    assert expanded(Path("~/alice.key")) == Path("/home/someone/alice.key")
    assert expanded(Path("/etc/$CREDENTIALS_DIRECTORY/x")) == Path("/etc/$CREDENTIALS_DIRECTORY/x")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert expanded(Path("$CREDENTIALS_DIRECTORY/x")) == Path("$CREDENTIALS_DIRECTORY/x")


def test_how_a_place_is_written() -> None:
    assert place_of(("keys", 0, "name")) == "keys[0].name"
    assert place_of(("port",)) == "port"
    assert place_of(()) == ""
