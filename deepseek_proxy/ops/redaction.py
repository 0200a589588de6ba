"""Keeps secrets, and what may be part of a prompt, out of every log record.

`Redactor` is a `logging.Filter` for handlers: it rewrites message, arguments, extra fields, exceptions and
stacks before any formatter sees them. Known keys are found by their value, unknown ones by their form.
Of a key at most the last four characters stay, as in DeepSeek's own messages. The message of an
exception that may quote data is left out: a traceback names the place, and the place is what helps.

Refuses to know where records go and what they look like there.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, SecretStr

from deepseek_proxy.errors import Fault, ProxyError
from deepseek_proxy.settings import Settings, SettingsError

HIDDEN: Final = "***"
MIN_SECRET_CHARACTERS: Final = 6
"""Shorter values are not looked for: they would turn up inside ordinary words."""

_NAMES = r"authorization|api[-_]?key|access[-_]token|client[-_]secret|password"
_FORMS: Final = re.compile(
    r"(?P<userinfo>://[^\s/:@\"']*:)[^\s/\"']+@"
    r"|(?<=[\w/.\-])\?[^\s\"'<>]+(?P<query>)"
    # In a header, a mapping or a pair, also where quotes are escaped inside a JSON text.
    rf"|(?P<name>(?:{_NAMES})(?:\\*[\"']?\s*[:=]\s*|\\*[\"']\s*,\s*)b?\\*[\"']?(?:(?:bearer|basic)\s+)?)"
    r"(?P<value>[^\s\"',;\\…]++)(?!…)"
    r"|(?P<scheme>\b(?:bearer|basic)\s+)(?P<token>[\w.~+/=\-]++)(?!…)"
    r"|(?<![A-Za-z0-9])(?P<key>(?:sk|dsp)-[\w\-]{8,})",
    re.IGNORECASE,
)
_NAME = re.compile(_NAMES, re.IGNORECASE)
# What every form has a piece of. Most fields have none, and this is found out in a fraction of the time.
_TRACES: Final = ("@", "?", "sk-", "dsp-", "bearer", "basic", "auth", "api", "access", "client", "password")

# Exceptions whose message is made of addresses, file names and identifiers, never of a request's content.
_SPEAKING: Final = (OSError, ImportError, AttributeError, NameError, TypeError, SettingsError)

_CAUSED: Final = "The above exception was the direct cause of the following exception:"
_MEANWHILE: Final = "During handling of the above exception, another exception occurred:"

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
_DONE: Final = "_redacted_by"  # a leading underscore keeps it out of JSON lines


class Redactor(logging.Filter):
    """Masks secrets in every record it filters; lets all of them pass.

    `secrets` are exact values to hide. `exception_messages` keeps the message of every exception: for
    debugging only, as bodies may be quoted there.
    """

    def __init__(self, secrets: Iterable[str] = (), *, exception_messages: bool = False) -> None:
        super().__init__()
        spellings = {form for secret in secrets for form in _spellings(secret)}
        exact = "|".join(re.escape(form) for form in sorted(spellings, key=len, reverse=True))
        self._exact = re.compile(exact) if exact else None
        self._exception_messages = exception_messages

    def filter(self, record: logging.LogRecord) -> bool:
        if record.__dict__.get(_DONE) is self:
            return True  # another handler's turn with the same record
        try:
            message = record.getMessage()
        except Exception:  # a wrong format must cost the arguments, not the request
            message = f"{record.msg} (its arguments do not fit)"
        record.msg, record.args = self.text(message), None
        if record.exc_info and record.exc_info[1] is not None:
            _, error, frames = record.exc_info
            record.exc_text = self.text(_describe(error, frames, self._exception_messages))
        elif record.exc_text:
            record.exc_text = self.text(record.exc_text)
        record.exc_info = None  # else a formatter would write it out again
        if record.stack_info:
            record.stack_info = self.text(record.stack_info)
        for name in record.__dict__.keys() - _STANDARD:
            record.__dict__[name] = self.value(record.__dict__[name], name)
        record.__dict__[_DONE] = self
        return True

    def text(self, text: str) -> str:
        """`text` with every secret masked."""
        if self._exact is not None:  # before the forms, which may see only a part of a value
            text = self._exact.sub(lambda found: masked(found.group()), text)
        return _FORMS.sub(_masked, text) if _has_trace(text) else text

    def value(self, value: Any, name: str = "") -> Any:
        """A field's value, masked at every depth; whole where its `name` is that of a secret."""
        if isinstance(value, str):  # as most are
            return masked(value) if _is_secret(name) else self.text(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(inner, str(key)) for key, inner in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], (str, bytes)):
                return [self.value(value[0]), self.value(value[1], _as_text(value[0]))]  # a header
            return [self.value(inner, name) for inner in value]
        return self.value(_as_text(value), name)


@lru_cache(maxsize=256)
def _is_secret(name: str) -> bool:
    """Whether a field of this name holds a secret."""
    return _NAME.search(name) is not None


def _has_trace(text: str) -> bool:
    lowered = text.lower()
    return not text.isascii() or any(trace in lowered for trace in _TRACES)


def masked(secret: str) -> str:
    """What may be shown of a secret: `sk-…e78f`, and nothing at all of a short one."""
    if len(secret) < 12:
        return HIDDEN
    return f"{'sk-' if secret.startswith('sk-') else ''}…{secret[-4:]}"


def secrets_of(settings: Settings) -> set[str]:
    """Every exact value that must not appear in a log; of a URL, its password."""
    found: set[str] = set()
    for value in _secret_values(settings):
        if "://" in value:
            password = urlsplit(value).password or ""
            found |= {password, unquote(password)}
        else:
            found.add(value)
    return {secret for secret in found if secret}


def mask(settings: Settings) -> dict[str, Any]:
    """The settings as plain values, secrets masked; for `deepseek-proxy config`."""
    return {name: _shown(getattr(settings, name)) for name in type(settings).model_fields}


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return _without_userinfo(secret) if "://" in secret else masked(secret)
    if isinstance(value, (list, tuple)):
        return [_shown(inner) for inner in value]
    if isinstance(value, BaseModel):  # a table in a list: what is not said in it is left out
        said = [name for name in type(value).model_fields if name in value.model_fields_set]
        return {name: _shown(getattr(value, name)) for name in said}
    if isinstance(value, Mapping):
        return {key: _shown(inner) for key, inner in value.items()}
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _without_userinfo(str(value))


def _without_userinfo(text: str) -> str:
    return re.sub(r"://[^/]*@", f"://{HIDDEN}@", text)


def _secret_values(settings: BaseModel) -> Iterator[str]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, SecretStr):
                yield inner.get_secret_value()
            elif isinstance(inner, BaseModel):
                yield from _secret_values(inner)
            elif "://" in str(inner) and "@" in str(inner):
                yield str(inner)


def _spellings(secret: str) -> Iterator[str]:
    """The forms in which a secret may appear: as it is, in JSON, in a `repr`, in a URL."""
    if len(secret) >= MIN_SECRET_CHARACTERS:
        yield from (secret, repr(secret)[1:-1], quote(secret), quote(secret, safe=""))
        yield from (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))


def _masked(found: re.Match[str]) -> str:
    groups = found.groupdict()
    if groups["userinfo"]:
        return f"{groups['userinfo']}{HIDDEN}@"
    if groups["query"] is not None:
        return "?…"
    if groups["name"]:
        return groups["name"] + masked(groups["value"])
    if groups["scheme"]:
        return groups["scheme"] + masked(groups["token"])
    return masked(groups["key"])


def _as_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _describe(error: BaseException, frames: TracebackType | None, messages: bool) -> str:
    """The traceback of `error` and of what led to it, as Python prints it."""
    text = _describe_one(error, frames, messages)
    seen = {id(error)}
    while True:
        cause, because = error.__cause__, _CAUSED
        if cause is None and not error.__suppress_context__:
            cause, because = error.__context__, _MEANWHILE
        if cause is None or id(cause) in seen:
            return text
        text = f"{_describe_one(cause, cause.__traceback__, messages)}\n\n{because}\n\n{text}"
        seen.add(id(cause))
        error = cause


def _describe_one(error: BaseException, frames: TracebackType | None, messages: bool) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    ours = isinstance(error, ProxyError) and error.fault is not Fault.CLIENT
    if messages or ours or isinstance(error, _SPEAKING):
        name = f"{name}: {error}"
    if frames is None:
        return name
    return f"Traceback (most recent call last):\n{''.join(traceback.format_tb(frames))}{name}"
