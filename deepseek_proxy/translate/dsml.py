"""DeepSeek's tool markup: its tags, wherever the text that holds them is cut, and the form of a call.

    <｜DSML｜tool_calls>                                      V4; V4.1 writes `<｜DSML｜ calls>`
    <｜DSML｜invoke name="read">
    <｜DSML｜parameter name="path" string="true">a.py</｜DSML｜parameter>
    </｜DSML｜invoke>
    </｜DSML｜tool_calls>

Hosts write other pipes (`|DSML|`, `｜｜DSML｜｜`, `‖DSML‖`) and leave the outer tags away (reference section
14). Between tags only white space may stand. Refuses to know what becomes of a call, or of text that has
not the form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container
from enum import Enum
from typing import Final

import orjson

_PIPES: Final = "[|｜‖]{1,2}"
_NAME: Final = r'[^"<>\r\n]{1,200}'
_BLOCKS: Final = ("tool_calls", "calls", "function_calls")  # of V4, of V4.1, of V3.2

TAG: Final = re.compile(
    rf"<{_PIPES}DSML{_PIPES} ?(?:(?P<block>{'|'.join(_BLOCKS)})"
    rf'|invoke name="(?P<tool>{_NAME})"'
    rf'|parameter name="(?P<parameter>{_NAME})" string="(?P<string>true|false)")>'
    rf"|</{_PIPES}DSML{_PIPES} ?(?P<close>{'|'.join(_BLOCKS)}|invoke|parameter)>"
    r"|</(?P<think>think)>"
)


def _beginnings(*atoms: str) -> str:
    """A pattern for each beginning of what the atoms match one after the other, of one atom at least."""
    pattern = atoms[-1]
    for atom in reversed(atoms[:-1]):
        pattern = f"{atom}(?:{pattern})?"
    return pattern


def _one_of(*patterns: str) -> str:
    return f"(?:{'|'.join(patterns)})"


_MARK: Final = (_PIPES, *"DSML", _PIPES, " ?")
_OPENINGS: Final = _one_of(
    *(_beginnings(*block, ">") for block in _BLOCKS),
    _beginnings(*'invoke name="', _NAME, *'">'),
    _beginnings(
        *'parameter name="', _NAME, *'" string="', _one_of(_beginnings(*'true">'), _beginnings(*'false">'))
    ),
)
_CLOSINGS: Final = _one_of(*(_beginnings(*name, ">") for name in (*_BLOCKS, "invoke", "parameter")))
BEGINNING: Final = re.compile(
    _beginnings(
        "<",
        _one_of(
            _beginnings(*_MARK, _OPENINGS),
            _beginnings("/", _one_of(_beginnings(*"think>"), _beginnings(*_MARK, _CLOSINGS))),
        ),
    )
)
"""Matches each text from `<` on that is a tag as soon as the right characters follow."""


class _Place(Enum):
    BLOCK = "between the calls of a block"
    CALL = "between the parameters of a call"
    VALUE = "in the value of a parameter"


class Step(Enum):
    """What a tag means for the markup it stands in."""

    MORE = "the form is kept"
    CALL = "a call is complete"
    END = "the block ends"
    BROKEN = "it does not belong here"


class Markup:
    """A stretch of markup from its first tag on. Knows its form, and keeps what came as it came."""

    __slots__ = (
        "_arguments",
        "_key",
        "_place",
        "_quoted",
        "_value",
        "calls",
        "in_block",
        "raw",
        "size",
        "tool",
    )

    def __init__(self, tag: re.Match[str]) -> None:
        self.in_block = tag["block"] is not None
        self.calls = 0  # completed so far
        self.raw: list[str] = []  # since the last complete call
        self.size = 0  # of `raw`, in bytes
        self.tool = ""
        self._place = _Place.BLOCK
        self._arguments: list[str] = []
        self._key = ""
        self._quoted = False
        self._value: list[str] = []
        self._keep(tag.group())
        if not self.in_block:
            self._open_call(tag["tool"])

    @property
    def arguments(self) -> str:
        """The JSON object of the last complete call, spaced as DeepSeek spaces it."""
        return "{" + ", ".join(self._arguments) + "}"

    @property
    def is_spent(self) -> bool:
        """Whether there were calls, and nothing but white space after the last one."""
        return self.calls > 0 and self._place is _Place.BLOCK and not "".join(self.raw).strip()

    def text(self, text: str) -> bool:
        """Takes text; False where the form has no place for it, which then is not taken."""
        if self._place is _Place.VALUE:
            self._value.append(text)
        elif not text.isspace():
            return False
        self._keep(text)
        return True

    def tag(self, tag: re.Match[str], declared: Container[str]) -> Step:
        if self._place is _Place.VALUE and tag["close"] != "parameter":
            self.text(tag.group())  # a value may speak of markup
            return Step.MORE
        step = self._step(tag, declared)
        if step is Step.CALL:
            self.calls += 1
            self.raw, self.size = [], 0
        elif step is not Step.BROKEN:
            self._keep(tag.group())
        return step

    def _keep(self, text: str) -> None:
        self.raw.append(text)
        self.size += len(text.encode())

    def _step(self, tag: re.Match[str], declared: Container[str]) -> Step:
        if self._place is _Place.VALUE:
            self._arguments.append(f"{_quote(self._key)}: {self._argument()}")
            self._place = _Place.CALL
        elif self._place is _Place.CALL and tag["parameter"] is not None:
            self._key, self._quoted, self._value = tag["parameter"], tag["string"] == "true", []
            self._place = _Place.VALUE
        elif self._place is _Place.CALL and tag["close"] == "invoke":
            self._place = _Place.BLOCK
            return Step.CALL
        elif self._place is _Place.BLOCK and tag["tool"] is not None and tag["tool"] in declared:
            self._open_call(tag["tool"])
        elif self._place is _Place.BLOCK and tag["close"] in _BLOCKS:
            return Step.END
        else:
            return Step.BROKEN
        return Step.MORE

    def _open_call(self, tool: str) -> None:
        self.tool = tool
        self._arguments = []
        self._place = _Place.CALL

    def _argument(self) -> str:
        """A string is escaped; anything else is copied as it stands, if it is JSON."""
        value = "".join(self._value)
        if not self._quoted:
            try:
                orjson.loads(value)
                return value
            except orjson.JSONDecodeError:
                pass
        return _quote(value)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
