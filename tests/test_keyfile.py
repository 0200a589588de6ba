"""The file of clients' keys: what is in it, who may read it, and that no writer undoes another's work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepseek_proxy import keyfile
from deepseek_proxy.credentials import ClientKey, digest_of
from deepseek_proxy.keyfile import KeyFileError

KEY = "the-key-of-alice-01"
ALICE = ClientKey.model_validate(
    {"key": KEY, "name": "alice", "budget_per_day": 2.5, "expires": "2026-12-31"}
)
BOB = ClientKey.model_validate({"key": "the-key-of-bob-0001", "name": "bob", "store": False})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "keys.json"


def test_a_file_that_is_not_there_has_no_keys(path: Path) -> None:
    assert keyfile.read(path) == ()


def test_what_is_written_is_read_again_without_the_key(path: Path) -> None:
    keyfile.change(path, lambda known: [*known, ALICE, BOB])
    alice, bob = keyfile.read(path)
    assert (alice.key_sha256, alice.key, alice.expires) == (digest_of(KEY), None, ALICE.expires)
    assert alice.budget_per_day == 2.5
    assert (bob.name, bob.store) == ("bob", False)
    assert "the-key-of" not in path.read_text()
    keyfile.change(path, lambda known: known[1:])
    assert [client.name for client in keyfile.read(path)] == ["bob"]


def test_it_is_for_its_owner_alone_and_nothing_is_left_beside_it(path: Path) -> None:
    keyfile.change(path, lambda known: [ALICE])
    path.chmod(0o644)
    keyfile.change(path, lambda known: [*known, BOB])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_written_by_root_it_belongs_to_whom_its_folder_or_the_old_file_belongs(path: Path) -> None:
    path.parent.mkdir()
    os.chown(path.parent, 1234, 1235)
    keyfile.change(path, lambda known: [ALICE])
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)
    os.chown(path, 2345, 2346)
    keyfile.change(path, lambda known: [*known, BOB])
    assert (path.stat().st_uid, path.stat().st_gid) == (2345, 2346)


def test_a_link_stays_one(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    path.parent.mkdir()
    link.symlink_to(path)
    keyfile.change(link, lambda known: [ALICE])
    assert link.is_symlink()
    assert len(keyfile.read(path)) == 1


def test_a_change_that_fails_changes_nothing(path: Path) -> None:
    keyfile.change(path, lambda known: [ALICE])
    before = path.read_bytes()
    with pytest.raises(KeyError):
        keyfile.change(path, lambda known: [{}["nothing"]])
    with pytest.raises(ValueError, match="same key"):
        keyfile.change(path, lambda known: [*known, ALICE])
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting"),
        ("[]", "valid dictionary"),
        ('{"keys": [{"name": "x", "key_sha256": "1"}, {"nam": 1}]}', "keys[0].key_sha256: "),
        ('{"keys": [{"nam": 1}]}', "keys[0].nam: no such setting; did you mean name?"),
        ('{"key": []}', "key: no such setting"),
        (b"\xff", "utf-8"),
    ],
)
def test_a_file_that_is_none_says_what_is_wrong(path: Path, text: str | bytes, words: str) -> None:
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(KeyFileError) as raised:
        keyfile.read(path)
    assert words in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_file_that_cannot_be_read_or_is_too_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.mkdir(parents=True)
    with pytest.raises(KeyFileError, match="cannot be read: Is a directory"):
        keyfile.read(path)
    monkeypatch.setattr(keyfile, "MAX_BYTES", 10)
    large = path / "large.json"
    large.write_text('{"keys": []}')
    with pytest.raises(KeyFileError, match="larger than 10 bytes"):
        keyfile.read(large)


_WRITER = """
import sys
from pathlib import Path
from deepseek_proxy import keyfile
from deepseek_proxy.credentials import ClientKey
path, name = Path(sys.argv[1]), sys.argv[2]
for number in range(10):
    key = {"key": f"the-key-of-{name}-{number:02}-and-more", "name": f"{name}{number}"}
    client = ClientKey.model_validate(key)
    keyfile.change(path, lambda known: [*known, client])
"""


def test_several_writers_take_turns(path: Path) -> None:
    command = [sys.executable, "-c", _WRITER, str(path)]
    writers = [subprocess.Popen([*command, name]) for name in ("alice", "bob", "carol")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    names = {client.name for client in keyfile.read(path)}
    assert names == {f"{name}{number}" for name in ("alice", "bob", "carol") for number in range(10)}
    assert len(json.loads(path.read_text())["keys"]) == 30
