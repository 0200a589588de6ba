"""Scripted turns: a test tells the simulator beforehand what it will say.

`POST /_simulator/script` takes a JSON list of turns. Each is an object with any of these keys:

    reasoning, text       strings
    calls                 list of {"name": …, "arguments": object or string}
    finish                a finish reason, where it is not the natural one
    fault                 faults in the grammar of `faults.py`
    chunk_characters      characters in each chunk
    token_seconds         seconds between chunks
    match                 the turn is for the request whose last user message contains this text
    model                 the turn is for requests for this model
    repeat                how many requests the turn serves (default 1)

Turns are used in their order; a turn with `match` or `model` waits until a request fits it, and lets others
pass. Refuses to know requests beyond those two texts.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from deepseek_proxy.simulator import faults
from deepseek_proxy.simulator.turns import FINISH_REASONS, Call, Turn
from deepseek_proxy.simulator.wire import arguments_json

_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "reasoning": str,
    "text": str,
    "calls": list,
    "finish": str,
    "fault": str,
    "chunk_characters": int,
    "token_seconds": (int, float),
    "match": str,
    "model": str,
    "repeat": int,
}


class ScriptError(ValueError):
    """A script that cannot be read; the message says where and why."""


@dataclass(slots=True)
class _Entry:
    turn: Turn
    match: str
    model: str
    left: int


class Script:
    """The turns still to be said. Safe to use from several threads."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._lock = threading.Lock()

    def add(self, turns: object) -> int:
        """Appends a JSON list of turns; returns how many are waiting. Raises `ScriptError`."""
        if not isinstance(turns, list):
            raise ScriptError("A script is a JSON list of turns.")
        entries = [_entry(turn, f"turns[{i}]") for i, turn in enumerate(turns)]
        with self._lock:
            self._entries += entries
            return len(self._entries)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def waiting(self) -> int:
        with self._lock:
            return len(self._entries)

    def take(self, prompt: str, model: str) -> Turn | None:
        """The first turn that fits, which is used up by it; None where the script has none."""
        with self._lock:
            for entry in self._entries:
                if entry.match in prompt and entry.model in ("", model):
                    entry.left -= 1
                    if entry.left <= 0:
                        self._entries.remove(entry)
                    return entry.turn
        return None


def _entry(turn: object, path: str) -> _Entry:
    if not isinstance(turn, dict):
        raise ScriptError(f"{path} is not an object.")
    for key, value in turn.items():
        if key not in _KEYS:
            raise ScriptError(f"{path} has an unknown key {key!r}. Known: {', '.join(_KEYS)}.")
        if not isinstance(value, _KEYS[key]) or isinstance(value, bool):
            raise ScriptError(f"{path}.{key} has the wrong type.")
    if turn.get("finish") not in (None, *FINISH_REASONS):
        raise ScriptError(f"{path}.finish must be one of {', '.join(FINISH_REASONS)}.")
    try:
        broken = faults.parse(turn.get("fault", ""))
    except faults.FaultError as problem:
        raise ScriptError(f"{path}.fault: {problem}") from None
    said = Turn(
        reasoning=turn.get("reasoning", ""),
        text=turn.get("text", ""),
        calls=tuple(_call(call, f"{path}.calls[{i}]") for i, call in enumerate(turn.get("calls", ()))),
        finish=turn.get("finish"),
        faults=broken,
        chunk_characters=turn.get("chunk_characters"),
        token_seconds=turn.get("token_seconds"),
    )
    return _Entry(said, turn.get("match", ""), turn.get("model", ""), turn.get("repeat", 1))


def _call(call: object, path: str) -> Call:
    match call:
        case {"name": str(name), "arguments": str(arguments)}:
            return Call(name, arguments)
        case {"name": str(name), "arguments": dict(values)}:
            return Call(name, arguments_json(values))
        case {"name": str(name), **rest} if not rest:
            return Call(name, "{}")
    raise ScriptError(f"{path} must have a name, and arguments that are an object or a string.")
