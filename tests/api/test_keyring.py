"""Which client a key is that of, and that a changed file is known of without a restart."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deepseek_proxy import keyfile
from deepseek_proxy.api import keyring
from deepseek_proxy.api.keyring import Keyring
from deepseek_proxy.credentials import ClientKey, digest_of

ALICE = ClientKey.model_validate({"key": "the-key-of-alice-01", "name": "alice"})
BOB = ClientKey.model_validate({"key_sha256": digest_of("the-key-of-bob-0001"), "name": "bob"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def found(path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str | None]:
    """Who has a key, by a ring with alice in the settings and a file; it looks every time."""
    monkeypatch.setattr(keyring, "LOOK_SECONDS", 0)
    ring = Keyring([ALICE], path)

    def find(key: str) -> str | None:
        client = ring.find(key)
        return client.name if client is not None else None

    return find


def test_a_client_is_found_by_the_key_also_where_only_its_digest_is_known() -> None:
    ring = Keyring([ALICE, BOB])
    assert ring.find("the-key-of-alice-01") is ALICE
    assert ring.find("the-key-of-bob-0001") is BOB


def test_nothing_else_is_a_key() -> None:
    ring = Keyring([ALICE, BOB])
    for key in ("", "the-key-of-alice-02", "the-key-of-alice-0", BOB.digest, "alice", "schlüssel"):
        assert ring.find(key) is None


def test_who_is_let_in_where_nobody_is_known(path: Path) -> None:
    assert not Keyring([]).closed
    assert Keyring([ALICE]).closed
    assert Keyring([], path).closed


def test_keys_come_and_go_with_the_file(found: Callable[[str], str | None], path: Path) -> None:
    assert found("the-key-of-bob-0001") is None
    keyfile.change(path, lambda known: [*known, BOB])
    assert found("the-key-of-bob-0001") == "bob"
    keyfile.change(path, lambda known: [])
    assert found("the-key-of-bob-0001") is None
    keyfile.change(path, lambda known: [BOB])
    assert found("the-key-of-bob-0001") == "bob"
    path.unlink()
    assert found("the-key-of-bob-0001") is None
    assert found("the-key-of-alice-01") == "alice"


@pytest.mark.parametrize("wrong", ["{", '{"keys": [{"nam": "carol"}]}'])
def test_a_file_that_cannot_be_used_changes_nothing_and_is_told_once(
    found: Callable[[str], str | None], path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    keyfile.change(path, lambda known: [BOB])
    assert found("the-key-of-bob-0001") == "bob"
    path.write_text(wrong)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert found("the-key-of-bob-0001") == "bob"
    assert len(caplog.records) == 1
    assert str(path) in caplog.text


def test_a_key_of_the_settings_is_not_displaced(found: Callable[[str], str | None], path: Path) -> None:
    other = ClientKey.model_validate({"key": "the-key-of-another-1", "name": "alice"})
    keyfile.change(path, lambda known: [other, BOB])
    assert found("the-key-of-another-1") is None
    assert found("the-key-of-bob-0001") is None  # all of it, or nothing
    assert found("the-key-of-alice-01") == "alice"


def test_it_looks_once_a_second_at_most(path: Path) -> None:
    ring = Keyring([], path)
    assert ring.find("the-key-of-bob-0001") is None
    keyfile.change(path, lambda known: [BOB])
    assert ring.find("the-key-of-bob-0001") is None


def test_an_edit_in_place_of_the_same_length_is_seen(found: Callable[[str], str | None], path: Path) -> None:
    keyfile.change(path, lambda known: [BOB])
    assert found("the-key-of-bob-0001") == "bob"
    before = path.stat()
    path.write_text(path.read_text().replace('"bob"', '"rob"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found("the-key-of-bob-0001") == "rob"
