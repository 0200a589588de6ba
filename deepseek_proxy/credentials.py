"""Credentials as settings: the keys that clients of the gateway bring, and the accounts and proxies it uses.

Values and their checks. Refuses to know requests, and how limits are counted.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from deepseek_proxy.values import TextFile, text_in

MIN_KEY_CHARACTERS: Final = 16
MAX_KEY_CHARACTERS: Final = 512
KEY_PREFIX: Final = "dsp-"
DEEPSEEK_KEY_PREFIX: Final = "sk-"

KEYS_PAGE: Final = "https://platform.deepseek.com/api_keys"
_WEB_LOGIN: Final = frozenset({"email", "mobile", "password"})
_SHA256: Final = r"^[0-9a-f]{64}$"
_NAME: Final = r"^[\w.@+-]{1,64}$"

PROXY_SCHEMES: Final = ("http", "https", "socks4", "socks5", "socks5h")
DIRECT: Final = "direct"
"""In place of a proxy's URL: no proxy."""

Count = Annotated[int, Field(ge=1, le=2**53)]


def digest_of(key: str) -> str:
    """The SHA-256 of a key, in hexadecimal digits: all that is kept of one, and what it is looked up by.

    There is no salt, as keys are random and long: nobody has a table of them.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def one_word(key: SecretStr) -> SecretStr:
    """`key`. Raises `ValueError` where it would not fit into a header."""
    text = key.get_secret_value()
    if not text or len(text) > MAX_KEY_CHARACTERS or not all("!" <= char <= "~" for char in text):
        raise ValueError("a key is one word of ASCII characters; this one would not fit into a header")
    return key


def long_enough(key: SecretStr) -> SecretStr:
    """`key`. Raises `ValueError` where strangers could find it by trying."""
    if len(key.get_secret_value()) < MIN_KEY_CHARACTERS:
        raise ValueError(
            f"fewer than {MIN_KEY_CHARACTERS} characters can be guessed; "
            "`openssl rand -hex 16` makes a good one"
        )
    return key


HeaderKey = Annotated[SecretStr, AfterValidator(one_word)]
StrongKey = Annotated[SecretStr, AfterValidator(one_word), AfterValidator(long_enough)]


def _end_of(moment: Any) -> Any:
    """A day, without a time, stands for its end."""
    if isinstance(moment, str):
        try:
            moment = date.fromisoformat(moment)
        except ValueError:
            return moment  # a moment, or a mistake
    if isinstance(moment, date) and not isinstance(moment, datetime):
        return datetime.combine(moment + timedelta(days=1), time(), UTC)
    return moment


class ClientKey(BaseModel):
    """One client of the gateway: how its key is known, and what it may do. Limits of None are none.

    A text alone stands for the key. Exactly one of `key`, `key_file` and `key_sha256` is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    key: StrongKey | None = Field(None, description="The key, of 16 characters or more.")
    key_file: TextFile | None = Field(None, description="File that holds the key.")
    key_sha256: Annotated[str, Field(pattern=_SHA256)] | None = Field(
        None, description="SHA-256 of the key in hexadecimal digits, in place of the key itself."
    )
    name: str = Field(
        description="Who this is, in logs, and for what is stored and counted: change the key, not the name. "
        "By default it is made of the key's digest.",
    )
    models: tuple[str, ...] = Field((), description="The only models it may ask for; all by default.")
    max_concurrency: Count | None = Field(None, description="Answers at the same time.")
    requests_per_minute: Count | None = Field(None, description="Answers begun within a minute.")
    tokens_per_day: Count | None = Field(None, description="Tokens of a day (UTC), read and written.")
    budget_per_day: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = Field(
        None, description="US dollars of a day (UTC), by DeepSeek's prices."
    )
    expires: Annotated[datetime, BeforeValidator(_end_of)] | None = Field(
        None,
        description="When it ends: a day, whose end is meant, or a moment; in UTC, if nothing else is said.",
    )
    store: bool = Field(True, description="Whether its responses may be stored.")
    created: datetime | None = Field(None, description="When the key was made; for people.")

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, given: Any) -> Any:
        """With the key from its file, and a name."""
        if isinstance(given, str):
            given = {"key": given}
        if not isinstance(given, Mapping):
            return given
        values = dict(given)
        if values.get("key_file") and not values.get("key"):
            values["key"] = text_in(values["key_file"])
        if not values.get("name"):
            digest = values.get("key_sha256") or digest_of(_text(values.get("key")))
            # Of the digest's digest: the name is shown, and must not help to find the key.
            values["name"] = f"key-{digest_of(str(digest))[:8]}"
        return values

    @field_validator("name")
    @classmethod
    def _fits_a_log(cls, name: str) -> str:
        if not re.search(_NAME, name):
            raise ValueError("a name is 1 to 64 letters, digits and . @ + - _")
        return name

    @field_validator("expires")
    @classmethod
    def _with_time_zone(cls, moment: datetime | None) -> datetime | None:
        return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if (self.key is None) == (self.key_sha256 is None):
            raise ValueError("exactly one of key, key_file and key_sha256 has to be given")
        return self

    @cached_property
    def digest(self) -> str:
        """`digest_of` the key."""
        return self.key_sha256 or digest_of(_text(self.key))

    def has_expired(self, moment: datetime) -> bool:
        return self.expires is not None and moment >= self.expires


def proxy_url(given: SecretStr) -> SecretStr:
    """A proxy's URL in the one form that all libraries read; empty for no proxy.

    Raises `ValueError`, without showing the URL, which may hold a password.
    """
    text = given.get_secret_value().strip()
    if text in ("", DIRECT):
        return SecretStr("")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.path not in ("", "/") or parts.query or parts.fragment:
        schemes = ", ".join(f"{scheme}://" for scheme in PROXY_SCHEMES)
        raise ValueError(f"not a proxy: expected '{DIRECT}', or {schemes} with [user:password@]host:port")
    userinfo, at, place = parts.netloc.rpartition("@")
    if at and ":" not in userinfo:
        userinfo += ":"  # a user without a password is lost otherwise
    return SecretStr(f"{parts.scheme}://{userinfo}{at}{place}")


ProxyUrl = Annotated[SecretStr, AfterValidator(proxy_url)]


def plain_url(url: AnyHttpUrl) -> AnyHttpUrl:
    """`url`. Raises `ValueError` where it is more than an address and a path."""
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("a base URL has no user, password, query or fragment")
    return url


BaseUrl = Annotated[AnyHttpUrl, AfterValidator(plain_url)]


def _renamed(models: Any) -> Any:
    """A list of names stands for a table in which each keeps its own."""
    if isinstance(models, list | tuple) and all(isinstance(name, str) for name in models):
        return {name: name for name in models}
    return models


class Account(BaseModel):
    """One account at DeepSeek, or at another host that serves its models with the same API.

    A text alone stands for the key. Exactly one of `api_key`, `api_key_file` and `token` is given. The fields
    from `reasoning_field` on say in which ways such a host differs; DeepSeek's own needs none of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(
        pattern=_NAME,
        description="What it is called in logs, in metrics and for what is counted. By default it is made of "
        "the key's digest.",
    )
    api_key: HeaderKey = Field(
        validation_alias=AliasChoices("api_key", "token"),
        description="The API key; `token` means the same.",
    )
    api_key_file: TextFile | None = Field(None, description="File that holds the key.")
    base_url: BaseUrl | None = Field(None, description="Base URL of its host; `upstream_url` by default.")
    models: Annotated[Mapping[str, str], BeforeValidator(_renamed)] = Field(
        {},
        description="The only models that it serves: their names, or a table from DeepSeek's names to the "
        "host's own. All by default.",
    )
    group: str | None = Field(
        None,
        pattern=_NAME,
        description="Accounts of one group share one limit: DeepSeek counts the requests of an account, "
        "whichever of its keys they use.",
    )
    max_concurrency: Count | None = Field(
        None,
        description="Requests at the same time, over all models. By default what DeepSeek allows for each "
        "model.",
    )
    proxy: ProxyUrl | None = Field(
        None, description="Its own proxy, in place of every other; `direct` for none at all."
    )
    weight: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = Field(
        1, description="How much of the load it takes, compared with others."
    )
    full_api: bool | None = Field(
        None,
        description="Whether its host has what DeepSeek's API has beside the chat: web search, FIM, the "
        "balance. By default those without a `base_url` have.",
    )
    reasoning_field: Literal["reasoning_content", "reasoning", ""] = Field(
        "reasoning_content",
        description="What thinking is called in the messages that it takes; empty: it takes none.",
    )
    thinking_on: Mapping[str, Any] | None = Field(
        None,
        description="Fields that switch thinking on, in place of DeepSeek's "
        '`thinking: {"type": "enabled"}`.',
    )
    thinking_off: Mapping[str, Any] | None = Field(None, description="Fields that switch thinking off.")
    omit: tuple[str, ...] = Field((), description="Fields of a request that it does not take.")

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, given: Any) -> Any:
        """With the key from its file, and a name."""
        if isinstance(given, str):
            given = {"api_key": given}
        if not isinstance(given, Mapping):
            return given
        if not _WEB_LOGIN.isdisjoint(given):
            raise ValueError(
                "logins to DeepSeek's web application (email, mobile, password) are not used here, only its "
                f"official API: make an API key at {KEYS_PAGE} and set it as api_key"
            )
        values = dict(given)
        sources = [name for name in ("api_key", "api_key_file", "token") if values.get(name)]
        if len(sources) != 1:
            raise ValueError("exactly one of api_key, api_key_file and token has to be given")
        if sources == ["api_key_file"]:
            text = text_in(values["api_key_file"])
            values["api_key"] = "unread" if text is None else text  # the file's own check says so
        if not values.get("name"):
            # Of the digest's digest: the name is shown, and must not help to find the key.
            key = _text(values.get("api_key") or values.get("token"))
            values["name"] = f"account-{digest_of(digest_of(key))[:8]}"
        return values

    @property
    def shares_with(self) -> str:
        """The name under which its requests are counted."""
        return self.group or self.name

    @property
    def has_full_api(self) -> bool:
        return self.full_api if self.full_api is not None else self.base_url is None

    def serves(self, model: str) -> bool:
        return not self.models or model in self.models


def distinct_accounts(accounts: tuple[Account, ...]) -> tuple[Account, ...]:
    """`accounts`. Raises `ValueError` where two have a name or a key in common, or a group has two limits."""
    names: dict[str, int] = {}
    keys: dict[tuple[str, str], int] = {}
    limits: dict[str, tuple[int, int | None]] = {}
    for index, account in enumerate(accounts):
        first = names.setdefault(account.name, index)
        if first != index:
            raise ValueError(f"[{index}].name: [{first}] is called {account.name}, too")
        first = keys.setdefault((account.api_key.get_secret_value(), str(account.base_url)), index)
        if first != index:
            raise ValueError(f"[{index}].api_key: the key of [{first}]")
        first, limit = limits.setdefault(account.shares_with, (index, account.max_concurrency))
        if limit != account.max_concurrency:
            raise ValueError(
                f"[{index}].max_concurrency: accounts of a group share one limit, and [{first}] of group "
                f"{account.shares_with} has another one"
            )
    return accounts


Accounts = Annotated[tuple[Account, ...], AfterValidator(distinct_accounts)]


def distinct_keys(keys: tuple[ClientKey, ...]) -> tuple[ClientKey, ...]:
    """`keys`. Raises `ValueError` where two of them are the same, or of the same name."""
    wrong, names, digests = [], dict[str, int](), dict[str, int]()
    for index, key in enumerate(keys):
        if (first := digests.setdefault(key.digest, index)) != index:
            wrong.append(f"[{index}]: the same key as [{first}]")
        elif (first := names.setdefault(key.name, index)) != index:
            wrong.append(f"[{index}].name: [{first}] is called {key.name}, too: they would be one client")
    if wrong:
        raise ValueError("\n".join(wrong))
    return keys


def new_key() -> str:
    """A random key. It begins unlike any DeepSeek key, so that one cannot be taken for the other."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def _text(key: Any) -> str:
    return key.get_secret_value() if isinstance(key, SecretStr) else str(key)


ClientKeys = Annotated[tuple[ClientKey, ...], AfterValidator(distinct_keys)]
