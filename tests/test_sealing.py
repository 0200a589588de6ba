"""The token: it opens where it should and nowhere else. The key file: one for all, made once."""

import base64
import logging
import re
import secrets
import stat
import subprocess
import sys
import tracemalloc

import pytest

from deepseek_proxy.sealing import KEY_FILE, OpenFailure, Sealer, load_or_create_keys
from deepseek_proxy.settings import Settings, SettingsError

OLD, NEW = b"o" * 32, b"n" * 32
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
TEXT = "First look at the tests, then at the code. 先看测试。".encode()


class Failures(list[OpenFailure]):
    """Collects the reasons a sealer reports."""


def sealer(*keys: bytes, failures: Failures | None = None, **options: int) -> Sealer:
    return Sealer(keys or (NEW,), on_failure=None if failures is None else failures.append, **options)


def test_what_was_sealed_opens_again():
    token = sealer().seal("reasoning", "tenant", TEXT)
    assert sealer().open("reasoning", "tenant", token) == TEXT


@pytest.mark.parametrize("text", [b"", b"\x00", secrets.token_bytes(5000), b"thinking " * 120_000])
def test_any_bytes_survive(text):
    assert sealer().open("p", "t", sealer().seal("p", "t", text)) == text


def test_a_token_is_url_safe_recognisable_small_and_never_the_same():
    long = TEXT * 1000
    tokens = {sealer().seal("p", "t", long) for _ in range(50)}
    assert len(tokens) == 50
    for token in tokens:
        assert re.fullmatch(r"dsp1[A-Za-z0-9_-]+", token)
        assert len(token) < len(long) / 10


@pytest.mark.parametrize(
    ("purpose", "tenant"),
    [
        ("reasoning", "other"),
        ("other", "tenant"),
        ("reasoningt", "enant"),
        ("", "reasoningtenant"),
        ("reasoning", ""),
    ],
)
def test_a_token_opens_only_for_its_tenant_and_purpose(purpose, tenant):
    failures = Failures()
    token = sealer().seal("reasoning", "tenant", TEXT)
    assert sealer(failures=failures).open(purpose, tenant, token) is None
    assert failures == [OpenFailure.REJECTED]


def test_no_changed_character_goes_unnoticed():
    one = sealer()
    token = one.seal("p", "t", TEXT)
    for i, original in enumerate(token):
        for other in {ALPHABET[ALPHABET.index(original) ^ bit] for bit in (1, 2, 4, 8, 16, 32)}:
            assert one.open("p", "t", token[:i] + other + token[i + 1 :]) is None, (i, other)


def test_no_changed_byte_goes_unnoticed():
    one = sealer()
    token = one.seal("p", "t", TEXT)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for i in range(len(raw)):
        changed = bytearray(raw)
        changed[i] ^= 0x40
        assert one.open("p", "t", base64.urlsafe_b64encode(changed).rstrip(b"=").decode()) is None, i


def test_a_cut_or_lengthened_token_does_not_open():
    one = sealer()
    token = one.seal("p", "t", TEXT)
    for cut in range(len(token)):
        assert one.open("p", "t", token[:cut]) is None
    for more in ("A", "AAAA", "=", "\n", " ", "!"):
        assert one.open("p", "t", token + more) is None
        assert one.open("p", "t", more + token) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "=",
        "no base64 at all",
        "推理",
        "\ud800",
        "dsp1",
        "gAAAAABpIEF5" + "kV3x_" * 40,
        "CiQBj3Kx" * 20 + "==",
        None,
        17,
        b"dsp1",
        {"text": "x"},
    ],
)
def test_what_is_not_ours_does_not_open_and_does_not_raise(token):
    failures = Failures()
    assert sealer(failures=failures).open("p", "t", token) is None
    assert failures == [OpenFailure.FOREIGN]


def test_names_of_any_kind_are_accepted():
    assert sealer().open("p\0", "\ud800", sealer().seal("p\0", "\ud800", TEXT)) == TEXT


def test_the_first_key_seals_and_every_key_opens():
    yesterday = sealer(OLD).seal("p", "t", TEXT)
    today = sealer(NEW, OLD).seal("p", "t", TEXT)
    assert sealer(NEW, OLD).open("p", "t", yesterday) == TEXT
    assert sealer(NEW).open("p", "t", today) == TEXT
    failures = Failures()
    assert sealer(NEW, failures=failures).open("p", "t", yesterday) is None
    assert failures == [OpenFailure.UNKNOWN_KEY]


def test_a_sealer_without_a_key_is_refused():
    with pytest.raises(ValueError, match="at least one key"):
        Sealer(())


def test_the_bound_holds_for_sealing_and_for_opening():
    failures = Failures()
    small = sealer(max_plaintext_bytes=1000, failures=failures)
    assert small.open("p", "t", small.seal("p", "t", b"x" * 1000)) == b"x" * 1000
    with pytest.raises(ValueError, match="1000"):
        small.seal("p", "t", b"x" * 1001)
    assert small.open("p", "t", sealer().seal("p", "t", b"x" * 1001)) is None
    assert failures == [OpenFailure.TOO_LARGE]


def test_a_bomb_is_not_inflated():
    bomb = sealer().seal("p", "t", bytes(60_000_000))
    assert len(bomb) < 400_000
    small = sealer(max_plaintext_bytes=100_000)
    tracemalloc.start()
    try:
        assert small.open("p", "t", bomb) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000


# -- the key ring ---------------------------------------------------------------------------------


def test_keys_of_the_settings_are_read_in_either_alphabet():
    first, second = b"\xfb\xff" * 16, b"\x00" * 32
    given = (base64.b64encode(first).decode(), base64.urlsafe_b64encode(first).decode().rstrip("="))
    settings = Settings(seal_keys=(*given, base64.b64encode(second).decode()))
    assert load_or_create_keys(settings) == (first, first, second)


@pytest.mark.parametrize("bad", ["short", base64.b64encode(b"x" * 31).decode(), "!" * 44, "键" * 44])
def test_a_key_that_is_none_is_named_but_not_shown(bad):
    settings = Settings(seal_keys=(base64.b64encode(NEW).decode(), bad))
    with pytest.raises(SettingsError, match=r"seal_keys\[1\]: not a key of 32 bytes") as caught:
        load_or_create_keys(settings)
    assert bad not in str(caught.value)


def test_the_key_file_is_made_once_and_for_its_owner_only(tmp_path):
    settings = Settings(state_dir=tmp_path / "a" / "b")
    keys = load_or_create_keys(settings)
    assert [len(key) for key in keys] == [32]
    assert load_or_create_keys(settings) == keys
    path = tmp_path / "a" / "b" / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [KEY_FILE]


def test_every_line_of_the_key_file_is_a_key(tmp_path):
    lines = [base64.b64encode(key).decode() for key in (NEW, OLD)]
    (tmp_path / KEY_FILE).write_text("\n".join(lines) + "\n")
    assert load_or_create_keys(Settings(state_dir=tmp_path)) == (NEW, OLD)


RACE = """
import os, sys
from pathlib import Path
from deepseek_proxy.sealing import load_or_create_keys
from deepseek_proxy.settings import Settings

folder = Path(sys.argv[1])
for race in range(15):
    settings = Settings(state_dir=folder / str(race))
    gate, opener = os.pipe()
    children = []
    for runner in range(6):
        pid = os.fork()
        if pid == 0:
            os.close(opener)
            os.read(gate, 1)  # until the parent opens the gate for all at once
            key = load_or_create_keys(settings)[0]
            (folder / f"{race}-{runner}.seen").write_bytes(key)
            os._exit(0)
        children.append(pid)
    os.close(gate)
    os.close(opener)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 6
"""


def test_workers_that_start_together_share_one_key(tmp_path):
    subprocess.run([sys.executable, "-c", RACE, str(tmp_path)], check=True, timeout=60)
    for race in range(15):
        seen = [path.read_bytes() for path in tmp_path.glob(f"{race}-*.seen")]
        assert len(seen) == 6
        assert set(seen) == set(load_or_create_keys(Settings(state_dir=tmp_path / str(race))))
        assert [entry.name for entry in (tmp_path / str(race)).iterdir()] == [KEY_FILE]


def test_without_a_folder_to_write_a_key_is_kept_in_memory_with_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    settings = Settings(state_dir=tmp_path / "file" / "state")  # a folder that even root cannot make
    with caplog.at_level(logging.WARNING):
        first, second = load_or_create_keys(settings), load_or_create_keys(settings)
    assert len(first[0]) == 32
    assert first != second
    message = caplog.records[0].getMessage()
    for word in (str(settings.state_dir), "restart", "DEEPSEEK_PROXY_SEAL_KEYS", "DEEPSEEK_PROXY_STATE_DIR"):
        assert word in message


@pytest.mark.parametrize("content", ["", "\n", "not a key\n"])
def test_a_broken_key_file_is_never_replaced(tmp_path, content):
    path = tmp_path / KEY_FILE
    path.write_text(content)
    with pytest.raises(SettingsError, match=re.escape(str(path))):
        load_or_create_keys(Settings(state_dir=tmp_path))
    assert path.read_text() == content


def test_a_key_file_that_cannot_be_read_stops_the_start(tmp_path):
    (tmp_path / KEY_FILE).mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        load_or_create_keys(Settings(state_dir=tmp_path))


def test_a_key_file_open_to_others_is_reported(tmp_path, caplog):
    load_or_create_keys(Settings(state_dir=tmp_path))
    assert not caplog.records
    (tmp_path / KEY_FILE).chmod(0o644)
    load_or_create_keys(Settings(state_dir=tmp_path))
    assert "chmod 600" in caplog.text
