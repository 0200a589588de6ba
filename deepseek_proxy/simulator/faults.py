"""The fault switches: every way in which an upstream answer goes wrong, by name.

A fault is written `NAME option=value …`; several are separated by commas: `keep-alive seconds=2, truncate`.
Four kinds, by where they take hold: instead of the answer (`REFUSALS`), on what the model says
(`TURN_FAULTS`), on the chunks (`CHUNK_FAULTS`), on the bytes and their timing (`STEP_FAULTS`).
`docs/simulator.md` lists them for users. Refuses to know who asked for a fault (header, directive, script,
command line) and what was asked.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby
from typing import Any, Final

from deepseek_proxy.simulator import errors, markup
from deepseek_proxy.simulator.errors import Refusal
from deepseek_proxy.simulator.pacing import Break, Pause, Send, Step
from deepseek_proxy.simulator.turns import Fault, Turn

KEEP_ALIVE_FRAME: Final = b": keep-alive\n\n"
DONE_FRAME: Final = b"data: [DONE]\n\n"

Options = Mapping[str, float | str]
Chunks = list[dict[str, Any]]


class FaultError(ValueError):
    """A fault that is not in the table, or an option it does not have."""


# -- instead of the answer ------------------------------------------------------------------------

REFUSALS: Final[Mapping[str, tuple[Options, Callable[[Fault], Refusal]]]] = {
    "context-length": ({}, lambda _: errors.context_overflow(1_048_576, 985_647, 64_000)),
    "content-risk": ({}, lambda _: errors.invalid("Content Exists Risk")),
    "400": ({"message": "Invalid request"}, lambda f: errors.invalid(f.text("message"))),
    "401": ({}, lambda _: errors.bad_key("sk-simulator-0000")),
    "402": ({}, lambda _: errors.no_balance()),
    "422": ({}, lambda _: errors.undeserialisable("messages: invalid type: null, expected a sequence")),
    "429": ({"retry-after": -1}, lambda f: errors.too_many(26, 25, _given(f.number("retry-after")))),
    "500": ({}, lambda _: errors.server_error()),
    "503": ({}, lambda _: errors.busy()),
    "html": ({}, lambda _: Refusal(200, errors.SERVER_ERROR_PAGE, "text/html")),
    "error-body": ({}, lambda _: Refusal(200, errors.busy().body)),
}


def _given(number: float) -> float | None:
    return None if number < 0 else number


# -- on what the model says -----------------------------------------------------------------------


def _leaked(turn: Turn, fault: Fault) -> Turn:
    if not turn.calls:
        return turn
    return replace(
        turn, text=turn.text + markup.of_calls(turn.calls, fault.text("style"), fault.text("pipe")), calls=()
    )


TURN_FAULTS: Final[Mapping[str, tuple[Options, Callable[[Turn, Fault], Turn]]]] = {
    "insufficient_system_resource": ({}, lambda turn, fault: replace(turn, finish=fault.name)),
    "content_filter": ({}, lambda turn, fault: replace(turn, finish=fault.name)),
    "aborted": ({}, lambda turn, fault: replace(turn, finish=fault.name)),
    "empty": ({}, lambda turn, fault: replace(turn, text="", calls=())),
    "whitespace": (
        {"tokens": 200},
        lambda turn, fault: replace(
            turn, text="{" + " \n" * int(fault.number("tokens")), calls=(), finish="length"
        ),
    ),
    "dsml": ({"style": "v4.1", "pipe": markup.PIPE}, _leaked),
}


# -- on the chunks --------------------------------------------------------------------------------


def _separate_usage(chunks: Chunks) -> Chunks:
    *before, last = chunks
    return [*before, {**last, "usage": None}, {**last, "choices": []}]


def _two_finishes(chunks: Chunks) -> Chunks:
    last = chunks[-1]
    choice = last["choices"][0]
    again = {**last, "choices": [{**choice, "finish_reason": "length"}]}
    return [*chunks, again]


CHUNK_FAULTS: Final[Mapping[str, tuple[Options, Callable[[Chunks], Chunks]]]] = {
    "usage-chunk": ({}, _separate_usage),
    "two-finishes": ({}, _two_finishes),
    "no-finish": ({}, lambda chunks: chunks[:-1]),
}


# -- on the bytes and their timing ----------------------------------------------------------------


def _is_data(step: Step) -> bool:
    return isinstance(step, Send) and not step.data.startswith(b":")


def _after(steps: Iterator[Step], count: float) -> Iterator[Step]:
    """Passes on the first `count` data frames and stops."""
    sent = 0
    while sent < count and (step := next(steps, None)) is not None:
        sent += _is_data(step)
        yield step


def _inserted(steps: Iterator[Step], fault: Fault, *extra: Step) -> Iterator[Step]:
    return chain(_after(steps, fault.number("after")), extra, steps)


def _cut(steps: Iterator[Step], fault: Fault, *ending: Step) -> Iterator[Step]:
    return chain(_after(steps, fault.number("after")), ending)


def _keep_alive(steps: Iterator[Step], fault: Fault) -> Iterator[Step]:
    left, interval = fault.number("seconds"), fault.number("interval")
    yield Send(KEEP_ALIVE_FRAME)
    while left > 0:
        yield Pause(min(left, interval))
        yield Send(KEEP_ALIVE_FRAME)
        left -= interval
    yield from steps


def _slow(steps: Iterator[Step], fault: Fault) -> Iterator[Step]:
    for step in steps:
        yield step
        if isinstance(step, Send):
            yield Pause(fault.number("seconds"))


def _endless_comments(steps: Iterator[Step], fault: Fault) -> Iterator[Step]:
    yield from (step for step in steps if step != Send(DONE_FRAME))
    while True:
        yield Pause(fault.number("interval"))
        yield Send(KEEP_ALIVE_FRAME)


def _split(steps: Iterator[Step], fault: Fault) -> Iterator[Step]:
    size = max(1, int(fault.number("bytes")))
    for step in steps:
        if isinstance(step, Send):
            yield from (Send(step.data[i : i + size]) for i in range(0, len(step.data), size))
        else:
            yield step


def _crlf(steps: Iterator[Step]) -> Iterator[Step]:
    for step in steps:
        yield Send(step.data.replace(b"\n", b"\r\n")) if isinstance(step, Send) else step


def _huge(size: int) -> Send:
    return Send(b'data: {"x": "%b"}\n\n' % (b"x" * size))


_MALFORMED = Send(b'data: {"id": "broken", "choices": [{"delta": {"con\n\n')
_ERROR = Send(b"data: " + errors.busy().body + b"\n\n")

STEP_FAULTS: Final[Mapping[str, tuple[Options, Callable[[Iterator[Step], Fault], Iterator[Step]]]]] = {
    "keep-alive": ({"seconds": 2, "interval": 1}, _keep_alive),
    "silence": ({"seconds": 2}, lambda steps, f: chain([Pause(f.number("seconds"))], steps)),
    "slow": ({"seconds": 0.2}, _slow),
    "stall": (
        {"after": 3, "seconds": 2},
        lambda steps, f: _inserted(steps, f, Pause(f.number("seconds"))),
    ),
    "truncate": ({"after": 3}, _cut),
    "no-done": ({}, lambda steps, _: (step for step in steps if step != Send(DONE_FRAME))),
    "drop": ({"after": 3}, lambda steps, f: _cut(steps, f, Break(reset=False))),
    "reset": ({"after": 3}, lambda steps, f: _cut(steps, f, Break(reset=True))),
    "malformed": ({"after": 3}, lambda steps, f: _inserted(steps, f, _MALFORMED)),
    "error-chunk": ({"after": 3}, lambda steps, f: _cut(steps, f, _ERROR)),
    "huge": (
        {"after": 1, "bytes": 20_000_000},
        lambda steps, f: _inserted(steps, f, _huge(int(f.number("bytes")))),
    ),
    "endless-comments": ({"interval": 0.05}, _endless_comments),
    "split": ({"bytes": 1}, _split),
    "crlf": ({}, lambda steps, f: _crlf(steps)),
}

OPTIONS: Final[Mapping[str, Options]] = {
    name: options
    for table in (REFUSALS, TURN_FAULTS, CHUNK_FAULTS, STEP_FAULTS)
    for name, (options, _) in table.items()
}
"""The options of every fault, with their defaults. Every fault has `times` (0: always) besides."""

_COMMON: Final[Options] = {"times": 0}


def parse(text: str) -> tuple[Fault, ...]:
    """The faults in `text`. Raises `FaultError`, with what is possible."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=",")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError as problem:
        raise FaultError(f"{text!r} cannot be read: {problem}.") from None
    parts = [list(part) for comma, part in groupby(words, key=lambda word: word == ",") if not comma]
    return tuple(_parse_one(part) for part in parts)


def _parse_one(part: list[str]) -> Fault:
    name, *words = part
    if name not in OPTIONS:
        raise FaultError(f"There is no fault {name!r}. There are: {', '.join(OPTIONS)}.")
    options: dict[str, float | str] = {**_COMMON, **OPTIONS[name]}
    for word in words:
        option, _, value = word.partition("=")
        if option not in options:
            raise FaultError(f"The fault {name!r} has no option {option!r}. It has: {', '.join(options)}.")
        try:
            options[option] = value if isinstance(options[option], str) else float(value)
        except ValueError:
            raise FaultError(f"The option {option!r} of {name!r} must be a number.") from None
    return Fault(name, tuple(options.items()))


# -- applying them --------------------------------------------------------------------------------


def refusal(faults: Sequence[Fault]) -> Refusal | None:
    """The answer that takes the place of the completion, if any fault says so."""
    for fault in faults:
        if fault.name in REFUSALS:
            return REFUSALS[fault.name][1](fault)
    return None


def on_turn(turn: Turn, faults: Sequence[Fault]) -> Turn:
    for fault in faults:
        if fault.name in TURN_FAULTS:
            turn = TURN_FAULTS[fault.name][1](turn, fault)
    return turn


def on_chunks(chunks: Chunks, faults: Sequence[Fault]) -> Chunks:
    for fault in faults:
        if fault.name in CHUNK_FAULTS:
            chunks = CHUNK_FAULTS[fault.name][1](chunks)
    return chunks


def on_steps(steps: Iterator[Step], faults: Sequence[Fault]) -> Iterator[Step]:
    for fault in faults:
        if fault.name in STEP_FAULTS:
            steps = STEP_FAULTS[fault.name][1](steps, fault)
    return steps
