"""The regular expressions of JSON schemas: which ones DeepSeek takes, and which can be tried safely here.

DeepSeek checks every `pattern` of a tool's schema and answers 400 for one that its engine does not
compile, though JavaScript or Python may (`[\\w-.]`, `\\Z`). And a pattern of a client's tried on a text
of a model's must not occupy the gateway for minutes. Both judgements err on the safe side, from the
pattern's text alone. Refuses to know where in a schema a pattern stands. Measured with the validator of
deepseek-recipe 0.2.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# What ECMA 262, Python and DeepSeek's engine all read in the same way.
_ESCAPE: Final = (
    r"\\(?:[dDwWsSfnrtv^$.*+?()\[\]{}|/\\_:=!<>,;@#%&~'\" -]"
    r"|x[0-9a-fA-F]{2}|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}"
    r"|[pP]\{(?:L[ultmo]?|M[nce]?|N[dlo]?|P[cdseifo]?|S[mcko]?|Z[slp]?)\})"
)
_CLASS_CHAR: Final = rf"(?:{_ESCAPE}|[^\\\[\]-])"
_TOKEN: Final = re.compile(
    rf"""(?P<atom>{_ESCAPE}|\\[bB]|[^\\\[\](){{}}*+?|]|\[\^?+(?:-|-?(?:{_CLASS_CHAR}(?:-{_CLASS_CHAR})?)++-?)\])
    |(?P<open>\((?:\?(?::|<?[=!]|<[A-Za-z][A-Za-z0-9]*>))?)
    |(?P<close>\))
    |(?P<either>\|)
    |(?P<repeat>[*+?]|\{{(?P<least>[0-9]{{1,6}})(?:(?P<comma>,)(?P<most>[0-9]{{1,6}})?)?\}})\??""",
    re.VERBOSE,
)
# Sets within sets mean different things to different engines.
_AMBIGUOUS: Final = re.compile(r"&&|~~|\|\|")
_PROPERTY: Final = re.compile(r"\\[pP]\{[A-Za-z]+\}")
_ASSERTIONS: Final = frozenset({"^", "$", r"\b", r"\B"})
_GROUP_NAME: Final = re.compile(r"\(\?<(?![=!])")
_MAX_REPEATS: Final = 10_000  # larger counts outgrow the engine's program size
_MAX_PROPERTY_REPEATS: Final = 100
_MAX_STEPS: Final = 2_000_000  # some tens of milliseconds


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that DeepSeek takes.

    A search in a text of n characters takes at most about ways * n ** degree steps; `degree` is None
    where the steps may grow faster than any power, as for `(a+)+$`, and where Python has no such
    character class (`\\p{L}`).
    """

    compiled: re.Pattern[str]
    ways: int
    degree: int | None

    def fails(self, text: str) -> bool:
        """Whether `text` surely does not match: False also where finding out could take too long."""
        if self.degree is None or self.ways * len(text) ** self.degree > _MAX_STEPS:
            return False
        return self.compiled.search(text) is None


class _Group:
    """What is known of a group of the pattern while it is read."""

    __slots__ = ("empty", "endless", "looks_around", "runaway", "varies")

    def __init__(self, opening: str) -> None:
        self.looks_around = opening[-1:] in ("=", "!")
        self.empty = True
        self.varies = False  # it can match one text in several ways
        self.endless = 0  # how many of its parts repeat without end
        self.runaway = False  # a part that varies is repeated

    def take(self, inner: _Group) -> None:
        self.varies |= inner.varies
        self.endless += inner.endless
        self.runaway |= inner.runaway


class _Reader:
    """Goes through a pattern's tokens once. `accepted` says whether each stood where it may."""

    def __init__(self, source: str) -> None:
        self.groups = [_Group("")]
        self.size = 1  # how far explicit counts unroll
        self.ways = 1
        self.accepted = self._read(source) and len(self.groups) == 1

    def _read(self, source: str) -> bool:
        position = 0
        repeatable: _Group | None = None  # what ended just before this token
        while position < len(source):
            token = _TOKEN.match(source, position)
            if token is None:
                return False
            position = token.end()
            here = self.groups[-1]
            if token["repeat"]:
                if repeatable is None or repeatable.empty or repeatable.looks_around:
                    return False
                self._repeat(here, repeatable, token)
                repeatable = None
                continue
            repeatable = None
            if token["close"]:
                if len(self.groups) == 1:
                    return False
                repeatable = self.groups.pop()
                self.groups[-1].take(repeatable)
                continue
            here.empty = False
            if token["open"]:
                self.groups.append(_Group(token["open"]))
            elif token["either"]:
                here.varies = True
                self.ways *= 2
            elif token["atom"] not in _ASSERTIONS:
                repeatable = _ATOM
        return True

    def _repeat(self, here: _Group, inner: _Group, token: re.Match[str]) -> None:
        most = int(token["most"] or token["least"] or 1)
        fixed = token["least"] is not None and token["comma"] is None
        endless = not fixed and token["most"] is None and token["repeat"][0] != "?"
        self.size *= max(1, most)
        self.ways *= 2 if token["repeat"][0] == "?" else max(1, most)
        here.varies |= not fixed
        here.endless += endless
        if (inner.varies or inner.endless) and (endless or most > 1):
            here.runaway = True


_ATOM: Final = _Group("")
_ATOM.empty = False


def parse(source: str) -> Pattern | None:
    """The pattern, or None where DeepSeek might refuse it."""
    if _AMBIGUOUS.search(source):
        return None
    reader = _Reader(source)
    properties = _PROPERTY.search(source) is not None
    if not reader.accepted or reader.size > (_MAX_PROPERTY_REPEATS if properties else _MAX_REPEATS):
        return None
    try:
        compiled = re.compile(_GROUP_NAME.sub("(?P<", _PROPERTY.sub(r"\\w", source)))
    except (re.error, OverflowError):
        return None
    whole = reader.groups[0]
    if whole.runaway or properties:
        return Pattern(compiled, reader.ways, None)
    anchored = source[:1] == "^" and "|" not in source
    return Pattern(compiled, reader.ways, whole.endless + (not anchored))
