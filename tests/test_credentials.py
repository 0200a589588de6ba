"""Keys of clients, accounts and proxies as settings: every form, and every mistake with its place."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from deepseek_proxy.credentials import (
    DEEPSEEK_KEY_PREFIX,
    Account,
    Accounts,
    ClientKey,
    digest_of,
    distinct_keys,
    new_key,
    proxy_url,
)

KEY = "a-key-of-a-client-0123"


def mistakes(given: Any, model: type[BaseModel] = ClientKey) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(given)
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
        ({"key": KEY, "name": "two words"}, "name", "1 to 64 letters"),
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


def test_no_two_clients_are_the_same_or_of_one_name() -> None:
    def clients(*given: tuple[str, str]) -> tuple[ClientKey, ...]:
        return tuple(ClientKey.model_validate({"key": key, "name": name}) for key, name in given)

    good = clients((KEY, "alice"), (KEY + "2", "bob"))
    assert distinct_keys(good) is good
    with pytest.raises(ValueError, match=r"\[2\]: the same key as \[0\]\n\[3\]\.name: \[1\] is called bob"):
        distinct_keys((*good, *clients((KEY, "carol"), (KEY + "3", "bob"))))


def test_new_keys_are_random_and_no_keys_of_deepseeks() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    for key in made:
        assert ClientKey.model_validate(key).digest == digest_of(key)
        assert key.startswith("dsp-")
        assert len(key) >= 40
        assert not key.startswith(DEEPSEEK_KEY_PREFIX)


def test_no_key_shows() -> None:
    client = ClientKey.model_validate(KEY)
    assert KEY not in f"{client} {client!r} {client.model_dump()} {client.model_dump_json()}"


# -- accounts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [KEY, {"api_key": KEY}, {"token": KEY}])
def test_an_account_is_its_key(given: Any) -> None:
    account = Account.model_validate(given)
    assert account.api_key.get_secret_value() == KEY
    assert account.name == Account.model_validate(KEY).name
    assert account.name.removeprefix("account-") not in digest_of(KEY)
    assert account.shares_with == account.name
    assert account.has_full_api
    assert KEY not in repr(account)
    assert KEY not in account.model_dump_json()


def test_the_key_of_an_account_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "main"
    path.write_text(f"{KEY}\n")
    account = Account.model_validate({"name": "main", "api_key_file": str(path), "group": "company"})
    assert account.api_key.get_secret_value() == KEY
    assert account.shares_with == "company"


def test_the_models_of_an_account() -> None:
    every = Account.model_validate(KEY)
    assert every.serves("deepseek-flash")
    some = Account.model_validate(
        {"api_key": KEY, "models": ["deepseek-flash"], "base_url": "https://host/v1"}
    )
    assert (some.serves("deepseek-flash"), some.serves("deepseek-v4-pro")) == (True, False)
    assert not some.has_full_api
    renamed = Account.model_validate({"api_key": KEY, "models": {"deepseek-flash": "host/flash"}})
    assert renamed.models == {"deepseek-flash": "host/flash"}


@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ({"email": "someone@example.com", "password": KEY}, "", "https://platform.deepseek.com/api_keys"),
        ({"mobile": "123456", "password": KEY, "api_key": KEY}, "", "web application"),
        ({"email": "", "password": "", "token": KEY}, "", "official API"),
        ({"name": "nothing"}, "", "exactly one"),
        ({"api_key": KEY, "token": KEY}, "", "exactly one"),
        ({"api_key_file": "/no/such/file"}, "api_key_file", "cannot be read"),
        ({"api_key": f"two words {KEY}"}, "api_key", "one word"),
        ({"api_key": KEY, "base_url": "https://user:password@host"}, "base_url", "base URL"),
        ({"api_key": KEY, "base_url": "host"}, "base_url", "valid URL"),
        ({"api_key": KEY, "proxy": f"ftp://user:{KEY}@host"}, "proxy", "socks5h://"),
        ({"api_key": KEY, "weight": 0}, "weight", "greater"),
        ({"api_key": KEY, "max_concurrency": 0}, "max_concurrency", "greater"),
        ({"api_key": KEY, "models": "flash"}, "models", "dictionary"),
        ({"api_key": KEY, "reasoning_field": "thoughts"}, "reasoning_field", "reasoning_content"),
        ({"api_key": KEY, "nickname": "x"}, "nickname", "Extra"),
    ],
)
def test_a_mistake_in_an_account_has_its_place(given: Any, place: str, words: str) -> None:
    found = mistakes(given, Account)
    assert list(found) == [place]
    assert words in found[place]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([{"api_key": "k1", "name": "a"}, {"api_key": "k2", "name": "a"}], "[1].name: [0] is called a, too"),
        (["k1", "k2", "k1"], "[2].name"),
        (
            [{"api_key": "k1", "name": "a"}, {"api_key": "k1", "name": "b"}],
            "[1].api_key: the key of [0]",
        ),
        (
            [
                {"api_key": "k1", "group": "g", "max_concurrency": 5},
                {"api_key": "k2", "group": "g", "max_concurrency": 6},
            ],
            "[1].max_concurrency: accounts of a group share one limit",
        ),
    ],
)
def test_accounts_are_distinct(given: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Accounts).validate_python(given)
    assert words in str(caught.value)


# -- proxies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", ""),
        ("direct", ""),
        ("http://proxy:3128", "http://proxy:3128"),
        ("https://user:p%40ss@proxy:3128/", "https://user:p%40ss@proxy:3128"),
        ("socks4://user@10.0.0.1:1080", "socks4://user:@10.0.0.1:1080"),
        ("socks5://[::1]:1080", "socks5://[::1]:1080"),
        ("socks5h://proxy", "socks5h://proxy"),
    ],
)
def test_a_proxy(given: str, meant: str) -> None:
    assert proxy_url(SecretStr(given)).get_secret_value() == meant


@pytest.mark.parametrize(
    "given",
    [
        "proxy:3128",
        "ftp://secret@proxy",
        "http://",
        "http://secret@",
        "http://proxy:0",
        "http://proxy:99999",
        "http://proxy/path",
        "http://proxy?secret",
        "http://[secret",
        "secret",
    ],
)
def test_no_proxy_and_not_shown(given: str) -> None:
    with pytest.raises(ValueError, match="not a proxy") as caught:
        proxy_url(SecretStr(given))
    assert "secret" not in str(caught.value)
