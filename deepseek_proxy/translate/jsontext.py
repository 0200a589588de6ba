"""JSON text in and out: strict where a client must be told, forgiving where DeepSeek would refuse.

Reads request bodies, writes bodies and events, decodes the literals that `hub` passes on unparsed, and
takes one string out of a JSON object that is still arriving. Refuses to know what any value means.
Follows RFC 8259; a lone surrogate escape, which JavaScript clients write when they cut an emoji in half
and DeepSeek answers with "unexpected end of hex escape", becomes U+FFFD in both directions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import orjson

from deepseek_proxy.errors import InvalidRequest, UpstreamError

_BOM: Final = b"\xef\xbb\xbf"
_CONTAINERS: Final = frozenset({dict, list})
_MAX_PATH_CHARS: Final = 200

# Any escape, with the surrogate pairs first, so that only a half that stands alone lands in the group.
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)


def loads(data: bytes, *, max_nesting: int) -> Any:
    """The value of a request body.

    Raises `InvalidRequest` that says where and what is wrong: no JSON, no UTF-8, NaN or Infinity, or
    arrays and objects nested more than `max_nesting` deep.
    """
    data = data.removeprefix(_BOM)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        value = _loads_mended(data, error, max_nesting)
    if data.count(b"[") + data.count(b"{") > max_nesting and _nested_deeper(value, max_nesting):
        raise _too_deep(data, max_nesting)
    return value


def loads_received(data: bytes, kind: str) -> Any:
    """The value of what the upstream has sent, with the allowances of `loads`; `kind` is "an event", say.

    Raises `UpstreamError` for what is no JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return orjson.loads(_without_halves(data.removeprefix(_BOM)))
    except orjson.JSONDecodeError:
        raise UpstreamError(f"The upstream sent {kind} that is not JSON.") from None


def loads_halved(data: bytes) -> Any:
    """Like `loads_received`, with surrogate halves left where they are; None where that cannot be."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON in insertion order: equal values give equal bytes."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_mended(value))


def literal_text(literals: Iterable[bytes]) -> str:
    """The text that JSON string literals (each with its quotes) mean together.

    Raises `UpstreamError` where one of them is no literal after all.
    """
    try:
        return "".join(orjson.loads(b"[" + b",".join(literals) + b"]"))
    except (orjson.JSONDecodeError, TypeError):
        raise UpstreamError("The upstream sent a text that is not a JSON string.") from None


class TextBuffer:
    """Text that arrives as JSON string literals, kept as one literal until somebody asks for it."""

    __slots__ = ("_json",)

    def __init__(self) -> None:
        self._json = bytearray()

    def add(self, literal: bytes) -> None:
        self._json += literal[1:-1]

    def __len__(self) -> int:
        return len(self._json)

    @property
    def text(self) -> str:
        return literal_text((b'"' + self._json + b'"',))


def mend_surrogates(text: str) -> str:
    """`text` with surrogate halves joined where they are a pair, and U+FFFD where one stands alone."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return mend_surrogates(value)
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mended(item) for item in value]
    return value


def _without_halves(data: bytes) -> bytes:
    """JSON with U+FFFD for each surrogate escape that stands alone."""
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], data)


def _loads_mended(data: bytes, error: orjson.JSONDecodeError, max_nesting: int) -> Any:
    mended = _without_halves(data)
    if mended != data:
        try:
            return orjson.loads(mended)
        except orjson.JSONDecodeError as second:
            error = second
    _refuse(mended, error, max_nesting)


def _refuse(data: bytes, error: json.JSONDecodeError, max_nesting: int) -> NoReturn:
    """Says what is wrong with `data`. The standard library's parser names what it expected."""
    if not data.strip():
        raise InvalidRequest("The request body is empty; a JSON object was expected.")
    if data.startswith(_BOM):
        raise InvalidRequest("The request body starts with more than one byte order mark; send none.")
    try:
        text = data.decode()
    except UnicodeDecodeError as wrong:
        raise InvalidRequest(
            f"The request body is not UTF-8: byte {wrong.start} is 0x{data[wrong.start]:02x}."
        ) from None
    reason, constants = error.msg, list[str]()
    try:
        json.loads(text, parse_constant=constants.append)
    except json.JSONDecodeError as clearer:
        error, reason = clearer, clearer.msg
    except RecursionError:
        raise _too_deep(data, max_nesting) from None
    except ValueError:
        reason = "a number has more digits than anybody reads"
    else:
        if constants:
            reason = f"{constants[0]} is no JSON number, send null instead"
        elif _path_at_depth(data, max_nesting) is not None:
            raise _too_deep(data, max_nesting)
    raise InvalidRequest(
        f"The request body is not valid JSON: {reason} (line {error.lineno}, column {error.colno})."
    ) from None


def _nested_deeper(value: Any, limit: int) -> bool:
    """Whether containers stand in each other more than `limit` deep. Goes level by level: no recursion."""
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(limit):
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) in _CONTAINERS
        ]
        if not level:
            return False
    return bool(level)


def _too_deep(data: bytes, limit: int) -> InvalidRequest:
    message = f"The request body nests arrays and objects more than {limit} deep; make it flatter."
    return InvalidRequest(message, param=_path_at_depth(data, limit))


def _path_at_depth(data: bytes, depth: int) -> str | None:
    """The path (`input[3].arguments`) of the first container that has `depth` containers around it."""
    path: list[bytes | int] = []  # for each open container the key or index being read
    key_next = False
    for token in _TOKEN.finditer(data):
        text = token.group()
        mark = text[:1]
        if mark in b"[{":
            if len(path) == depth:
                return _format_path(path)
            key_next = mark == b"{"
            path.append(b"" if key_next else 0)
        elif mark in b"]}":
            if path:
                path.pop()
            key_next = False
        elif mark == b'"':
            if key_next:
                path[-1] = text
                key_next = False
        elif path:  # a comma
            here = path[-1]
            key_next = isinstance(here, bytes)
            if isinstance(here, int):
                path[-1] = here + 1
    return None


def _format_path(path: list[bytes | int]) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else "." + step[1:-1].decode(errors="replace")
    text = text.removeprefix(".")
    return text if len(text) <= _MAX_PATH_CHARS else text[:_MAX_PATH_CHARS] + "…"


# One unit of a JSON string's inside: plain text, a surrogate pair, one escape, or the closing quote. A
# backslash before no known escape is kept as it stands: a model's slip must not lose its text.
_STRING_UNIT: Final = re.compile(
    r'([^"\\]+)|\\(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|["\\/bfnrt])|(")|(\\)'
)
# What may still become one of the above when more text comes.
_UNFINISHED: Final = re.compile(
    r"\\(?:u[0-9a-fA-F]{0,3}|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?)?"
)
_GAP: Final = " \t\n\r"


class StringField:
    """The string under `key` of a JSON object whose text arrives in pieces of any size.

    `feed()` returns the text it newly decoded and `finish()` the rest, so that all returned strings
    together are `value`, whatever the split. Where the object does not begin with `key` and a string,
    nothing comes before `finish()`, which then takes the whole text by best effort: the string under
    `key` wherever it stands, else the object's only string, else the text itself as it came.
    """

    __slots__ = ("_carry", "_expected", "_gaps", "_key", "_matched", "_pieces", "_raw", "_state")

    def __init__(self, key: str) -> None:
        name = json.dumps(key, ensure_ascii=False)
        self._key = key
        self._expected = "{" + name + ':"'
        self._gaps = (0, 1, len(name) + 1, len(name) + 2)  # white space may stand before these characters
        self._matched = 0
        self._state = "head"  # then "string" and "done", or "other"
        self._carry = ""
        self._raw: list[str] = []  # kept while it is not sure that the head matches
        self._pieces: list[str] = []

    @property
    def value(self) -> str:
        """All text returned so far."""
        return "".join(self._pieces)

    def feed(self, piece: str) -> str:
        """The text of the value that `piece` completes, often empty at the start and the end."""
        if self._state == "head":
            self._raw.append(piece)
            piece = self._match_head(piece)
        elif self._state == "other":
            self._raw.append(piece)
        if self._state != "string" or not piece:
            return ""
        return self._give(self._decode(self._carry + piece))

    def finish(self) -> str:
        """The text that is still owed; nothing may be fed afterwards."""
        state, self._state = self._state, "done"
        if state == "string":
            rest, self._carry = self._carry, ""
            # The text was cut inside an escape: a first surrogate half is a character, the rest is none.
            return self._give("\ufffd" if len(rest) >= 6 else "")
        if state in ("head", "other"):
            return self._give(self._best_effort("".join(self._raw)))
        return ""

    def _give(self, text: str) -> str:
        if text:
            self._pieces.append(text)
        return text

    def _match_head(self, piece: str) -> str:
        """Goes through `{"key": "`; returns what follows it."""
        for position, char in enumerate(piece):
            if char == self._expected[self._matched]:
                self._matched += 1
                if self._matched == len(self._expected):
                    self._state = "string"
                    self._raw.clear()
                    return piece[position + 1 :]
            elif not (char in _GAP and self._matched in self._gaps):
                self._state = "other"
                break
        return ""

    def _decode(self, text: str) -> str:
        decoded: list[str] = []
        self._carry = ""
        for unit in _STRING_UNIT.finditer(text):
            plain, escape, closing, stray = unit.groups()
            if not plain and _UNFINISHED.fullmatch(text, unit.start()):
                self._carry = text[unit.start() :]
                break
            if closing:
                self._state = "done"
                break
            decoded.append(plain or stray or mend_surrogates(json.loads(f'"\\{escape}"')))
        return "".join(decoded)

    def _best_effort(self, raw: str) -> str:
        try:
            body = json.loads(raw, strict=False)
        except (ValueError, RecursionError):
            return raw
        if not isinstance(body, dict):
            return raw
        if not body:
            return ""  # DeepSeek's arguments of a call that has none
        value = body.get(self._key)
        if value is None and len(body) == 1:
            (value,) = body.values()
        return mend_surrogates(value) if isinstance(value, str) else raw
