"""The keys of clients as settings: every form, and every mistake with its place."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deepseek_proxy.credentials import ClientKey, digest_of

KEY = "a-key-of-a-client-0123"


def mistakes(given: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        ClientKey.model_validate(given)
    assert KEY not in str(caught.value)
    return {".".join(map(str, detail["loc"])): detail["msg"] for detail in caught.value.errors()}


def test_a_text_stands_for_the_key() -> None:
    client = ClientKey.model_validate(KEY)
    assert client.digest == hashlib.sha256(KEY.encode()).hexdigest() == digest_of(KEY)
    assert client == ClientKey.model_validate({"key": KEY})


@pytest.mark.parametrize("given", [{"key": KEY}, {"key_sha256": digest_of(KEY)}])
def test_a_key_without_a_name_has_one_that_stays(given: dict[str, str]) -> None:
    client = ClientKey.model_validate(given)
    assert client.name == ClientKey.model_validate(KEY).name
    assert client.name.startswith("key-")
    assert client.name.removeprefix("key-") not in client.digest


def test_a_key_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "alice"
    path.write_text(f"{KEY}\n")
    client = ClientKey.model_validate({"key_file": str(path), "name": "alice"})
    assert client.digest == digest_of(KEY)


@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ("short", "key", "can be guessed"),
        ({"key": f"two words {KEY}"}, "key", "one word"),
        ({"key": "x" * 513}, "key", "header"),
        ({"key_sha256": "ABC"}, "key_sha256", "pattern"),
        ({"name": "nobody"}, "", "exactly one"),
        ({"key": KEY, "key_sha256": "0" * 64}, "", "exactly one"),
        ({"key_file": "/no/such/file"}, "key_file", "/no/such/file cannot be read: No such file"),
        ({"key_file": 7}, "key_file", "valid path"),
        ({"key": KEY, "name": "two words"}, "name", "pattern"),
        ({"key": KEY, "models": "deepseek-flash"}, "models", "tuple"),
        ({"key": KEY, "max_concurrency": 0}, "max_concurrency", "greater"),
        ({"key": KEY, "requests_per_minute": 1.5}, "requests_per_minute", "integer"),
        ({"key": KEY, "budget_per_day": 0}, "budget_per_day", "greater"),
        ({"key": KEY, "budget_per_day": float("inf")}, "budget_per_day", ""),
        ({"key": KEY, "expires": "soon"}, "expires", "date"),
        ({"key": KEY, "budget": 1}, "budget", "not permitted"),
        (7, "", "dictionary"),
    ],
)
def test_a_mistake_has_its_place(given: Any, place: str, words: str) -> None:
    found = mistakes(given)
    assert list(found) == [place]
    assert words in found[place]


def test_several_mistakes_come_together() -> None:
    assert list(mistakes({"key": "short", "tokens_per_day": -1, "store": "perhaps"})) == [
        "key",
        "tokens_per_day",
        "store",
    ]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2026-12-31", datetime(2027, 1, 1, tzinfo=UTC)),
        (date(2026, 12, 31), datetime(2027, 1, 1, tzinfo=UTC)),
        ("2026-12-31T12:00:00", datetime(2026, 12, 31, 12, tzinfo=UTC)),
        ("2026-12-31T12:00:00+08:00", datetime(2026, 12, 31, 4, tzinfo=UTC)),
    ],
)
def test_a_key_ends_with_its_last_day_or_at_a_moment(given: Any, meant: datetime) -> None:
    client = ClientKey.model_validate({"key": KEY, "expires": given})
    assert client.expires == meant
    assert client.has_expired(meant)
    assert not client.has_expired(meant - timedelta(seconds=1))


def test_a_key_without_an_end_has_none() -> None:
    assert not ClientKey.model_validate(KEY).has_expired(datetime(2999, 1, 1, tzinfo=UTC))


def test_no_key_shows() -> None:
    client = ClientKey.model_validate(KEY)
    assert KEY not in f"{client} {client!r} {client.model_dump()} {client.model_dump_json()}"
