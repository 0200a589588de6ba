"""From an accepted request to the steps of its answer: what is said, cut to the limits, with its faults.

Joins script, brain, cache, wire and faults. Refuses to know HTTP; what it cannot answer is a `Refusal`.
"""

from __future__ import annotations

import secrets
import string
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from deepseek_proxy.simulator import brain, cache, errors, faults, markup, tokens, wire
from deepseek_proxy.simulator.directives import DirectiveError
from deepseek_proxy.simulator.pacing import Pause, Send, Step
from deepseek_proxy.simulator.request import ChatRequest
from deepseek_proxy.simulator.state import State
from deepseek_proxy.simulator.turns import Fault, Turn
from deepseek_proxy.simulator.wire import Answer, Identity, Shape

FINGERPRINT: Final = "fp_simulator"
_ALPHABET: Final = string.ascii_letters + string.digits
Body = dict[str, Any]
_BODY_PARTS: Final = 8  # what a fault can cut a body in one piece into


def prepare(
    request: ChatRequest, state: State, wished: Sequence[Fault], shaped: Callable[[Body], Body] = lambda b: b
) -> Iterator[Step]:
    """The steps that send the answer to `request`. Raises `Refusal`. `shaped` words a chunk, or the body."""
    prompt = cache.render(request)
    _check_window(request, prompt, state.config.context_window)
    try:
        turn = state.script.take(request.prompt, request.model.id) or brain.answer(request)
    except DirectiveError as problem:
        raise errors.invalid(f"Simulator: {problem}") from None
    if not request.thinking:
        turn = replace(turn, reasoning="")
    due = state.due(request, (*wished, *turn.faults))
    if (refusal := faults.refusal(due)) is not None:
        raise refusal
    turn = faults.on_turn(_parsed_calls(turn, request), due)
    answer = _limited(turn, request, prompt, state.cache)
    identity = _identity(request, turn)
    shape = _shape(request)
    state.cache.remember(request, prompt)
    body = wire.completion(answer, identity, shape)
    state.cache.remember(request, prompt + cache.render_answer(body["choices"][0]["message"]))
    if not request.stream:
        return _body(orjson.dumps(shaped(body)), due)
    characters, seconds = turn.chunk_characters, turn.token_seconds
    chunks = wire.chunks(
        answer, identity, shape, state.config.chunk_characters if characters is None else characters
    )
    steps = _stream(
        faults.on_chunks([*map(shaped, chunks)], due),
        state.config.token_seconds if seconds is None else seconds,
    )
    return faults.on_steps(steps, due)


def _parsed_calls(turn: Turn, request: ChatRequest) -> Turn:
    """The turn as DeepSeek's server parses it: where the request has no tools, calls stay markup in the
    text."""
    if request.tools or not turn.calls:
        return turn
    style = "v4.1" if request.model.vision else "v4"
    return replace(turn, text=turn.text + markup.of_calls(turn.calls, style), calls=())


def _check_window(request: ChatRequest, prompt: bytes, window: int) -> None:
    asked = request.body.get("max_tokens") or 0
    if tokens.count(prompt) + asked > window:
        raise errors.context_overflow(window, tokens.count(prompt), asked)


def _limited(turn: Turn, request: ChatRequest, prompt: bytes, prefixes: cache.PrefixCache) -> Answer:
    """The turn after stop sequences and `max_tokens`."""
    stopped = _stopped(turn, request.stop)
    pieces = wire.pieces_of(stopped)
    natural = "tool_calls" if stopped.calls else "stop"
    finish = stopped.finish or natural
    if len(pieces) > request.max_tokens:
        pieces, finish = pieces[: request.max_tokens], "length"
    return Answer(pieces, finish, tokens.count(prompt), prefixes.hit_tokens(request, prompt))


def _stopped(turn: Turn, stops: Sequence[str]) -> Turn:
    """The turn up to the first stop sequence in its text; the sequence itself is not said."""
    found = [position for stop in stops if (position := turn.text.find(stop)) >= 0]
    return replace(turn, text=turn.text[: min(found)], calls=()) if found else turn


def _identity(request: ChatRequest, turn: Turn) -> Identity:
    return Identity(
        id=str(uuid.uuid4()),
        created=int(time.time()),
        model=request.model.id,
        fingerprint=FINGERPRINT,
        call_ids=[f"call_{i:02d}_{_random(24)}" for i in range(len(turn.calls))],
    )


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _shape(request: ChatRequest) -> Shape:
    return Shape(
        thinking=request.thinking,
        usage_everywhere=request.include_usage,
        logprobs=bool(request.body.get("logprobs")),
        top_logprobs=request.body.get("top_logprobs") or 0,
    )


def _stream(chunks: Iterable[dict[str, Any]], token_seconds: float) -> Iterator[Step]:
    for chunk in chunks:
        yield Send(b"data: %b\n\n" % orjson.dumps(chunk))
        if token_seconds:
            yield Pause(token_seconds)
    yield Send(faults.DONE_FRAME)


def _body(body: bytes, due: Sequence[Fault]) -> Iterator[Step]:
    """A body in one piece; in a few where faults may take hold in between, with blank lines for comments."""
    if not due:
        return iter([Send(body)])
    size = len(body) // _BODY_PARTS + 1
    parts: Iterator[Step] = (Send(body[i : i + size]) for i in range(0, len(body), size))
    blank = Send(b"\n")
    return (blank if step == Send(faults.KEEP_ALIVE_FRAME) else step for step in faults.on_steps(parts, due))
