"""Credentials as settings: the keys that clients of the gateway bring, and the accounts and proxies it uses.

Values and their checks. Refuses to know requests, and how limits are counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

MIN_KEY_CHARACTERS: Final = 16
MAX_KEY_CHARACTERS: Final = 512

_SHA256 = r"^[0-9a-f]{64}$"

PROXY_SCHEMES: Final = ("http", "https", "socks4", "socks5", "socks5h")
DIRECT: Final = "direct"
"""In place of a proxy's URL: no proxy."""

Count = Annotated[int, Field(ge=1, le=2**53)]


def digest_of(key: str) -> str:
    """The SHA-256 of a key, in hexadecimal digits: all that is kept of one, and what it is looked up by.

    There is no salt, as keys are random and long: nobody has a table of them.
    """
    return hashlib.sha256(key.encode()).hexdigest()


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

    key: SecretStr | None = Field(None, description="The key, of 16 characters or more.")
    key_file: Path | None = Field(None, description="File that holds the key.")
    key_sha256: Annotated[str, Field(pattern=_SHA256)] | None = Field(
        None, description="SHA-256 of the key in hexadecimal digits, in place of the key itself."
    )
    name: str = Field(
        pattern=r"^[\w.@+-]{1,64}$",
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
            try:
                values["key"] = Path(values["key_file"]).expanduser().read_text("utf-8").strip()
            except (OSError, ValueError, TypeError):
                pass  # _readable says so, together with all other mistakes
        if not values.get("name"):
            digest = values.get("key_sha256") or digest_of(_text(values.get("key")))
            # Of the digest's digest: the name is shown, and must not help to find the key.
            values["name"] = f"key-{digest_of(str(digest))[:8]}"
        return values

    @field_validator("key_file")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        return path if path is None else readable(path.expanduser())

    @field_validator("key")
    @classmethod
    def _hard_to_guess(cls, key: SecretStr | None) -> SecretStr | None:
        return key if key is None else long_enough(one_word(key))

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


def _text(key: Any) -> str:
    return key.get_secret_value() if isinstance(key, SecretStr) else str(key)


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


def readable(path: Path) -> Path:
    """`path`. Raises `ValueError` where there is no text file that can be read."""
    try:
        path.read_text("utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{path} is not a text file") from None
    return path
