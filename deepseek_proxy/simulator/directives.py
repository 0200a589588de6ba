"""Directives: what a user message can tell the simulator to do, in double square brackets.

    [[simulate: call exec_command {"cmd": "echo hi"}]]   call this tool (again: a parallel call)
    [[simulate: reason 20]]                              think for 20 words; or: reason TEXT
    [[simulate: say TEXT]]                               answer with this text
    [[simulate: finish length]]                          end for this reason
    [[simulate: fault truncate after=3]]                 break the answer (see `faults.py`)
    [[simulate: pace 0.05]]                              seconds between chunks
    [[simulate: chunk 1]]                                characters in each chunk
    [[simulate: then say done]]                          `then` before any of them: in the next turn

Directives without `then` make the first turn after the message, the first `then` begins the second one,
and so on. Refuses to know the rest of the request; the brain decides what is said where no directive says it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import cycle, islice

from deepseek_proxy.simulator import faults
from deepseek_proxy.simulator.turns import FINISH_REASONS, Call, Fault, Turn

_OPEN = "[[simulate:"
_CLOSE = "]]"
_THOUGHT = "Let me think about this step by step before I answer the question that was asked. "


class DirectiveError(ValueError):
    """A directive that cannot be read; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Directed:
    """What the directives of one turn fix. None: nothing said about it."""

    reasoning: str | None = None
    text: str | None = None
    calls: tuple[tuple[str, str | None], ...] = ()
    """Names and arguments; None arguments are made to fit the tool's schema."""
    finish: str | None = None
    faults: tuple[Fault, ...] = ()
    token_seconds: float | None = None
    chunk_characters: int | None = None

    def turn(self, calls: tuple[Call, ...], default: Turn) -> Turn:
        """The turn, with `default` where nothing is said. Text is only made up where there are no calls."""
        made_up = "" if calls or self.text is not None else default.text
        return replace(
            default,
            reasoning=default.reasoning if self.reasoning is None else self.reasoning,
            text=made_up if self.text is None else self.text,
            calls=calls if calls or self.text is not None else default.calls,
            finish=self.finish,
            faults=self.faults,
            token_seconds=self.token_seconds,
            chunk_characters=self.chunk_characters,
        )


def parse(text: str) -> list[Directed]:
    """The directives in `text`, one entry for each turn; empty where there are none."""
    turns: list[Directed] = []
    position = text.find(_OPEN)
    while position >= 0:
        end, statement, arguments = _one(text, position + len(_OPEN))
        verb, _, rest = statement.partition(" ")
        if verb == "then":
            turns.append(Directed())
            verb, _, rest = rest.strip().partition(" ")
        elif not turns:
            turns.append(Directed())
        turns[-1] = _add(turns[-1], verb, rest.strip(), arguments)
        position = text.find(_OPEN, end)
    if turns and text.find(_OPEN) >= 0 and _starts_with_then(text):
        turns.insert(0, Directed())
    return turns


def strip(text: str) -> str:
    """`text` without its directives."""
    kept, start = [], 0
    while (position := text.find(_OPEN, start)) >= 0:
        kept.append(text[start:position])
        start, _, _ = _one(text, position + len(_OPEN))
    return "".join([*kept, text[start:]]).strip()


def _starts_with_then(text: str) -> bool:
    return text[text.find(_OPEN) + len(_OPEN) :].lstrip().startswith("then ")


def _one(text: str, start: int) -> tuple[int, str, str | None]:
    """Where the directive ends, its words, and a call's JSON, which may hold `]]` itself."""
    end = text.find(_CLOSE, start)
    if end < 0:
        raise DirectiveError(f"This directive has no end (']]'): {text[start - len(_OPEN) : start + 60]}")
    words = text[start:end].strip()
    brace = text.find("{", start, end)
    if brace >= 0 and words.removeprefix("then").strip().startswith("call "):
        try:
            _, stop = json.JSONDecoder().raw_decode(text, brace)
        except ValueError:
            # Broken arguments are sent as they stand.
            return end + len(_CLOSE), text[start:brace].strip(), text[brace:end].strip()
        end = text.find(_CLOSE, stop)
        if end < 0:
            raise DirectiveError(f"This directive has no end (']]'): {words[:60]}")
        return end + len(_CLOSE), text[start:brace].strip(), text[brace:stop]
    return end + len(_CLOSE), words, None


def _add(turn: Directed, verb: str, rest: str, arguments: str | None) -> Directed:
    try:
        match verb:
            case "call":
                return replace(turn, calls=(*turn.calls, (rest, arguments)))
            case "reason":
                return replace(turn, reasoning=_reasoning(int(rest)) if rest.isdecimal() else rest)
            case "say":
                return replace(turn, text=rest)
            case "finish" if rest in FINISH_REASONS:
                return replace(turn, finish=rest)
            case "fault":
                return replace(turn, faults=turn.faults + faults.parse(rest))
            case "pace":
                return replace(turn, token_seconds=float(rest))
            case "chunk" if int(rest) > 0:
                return replace(turn, chunk_characters=int(rest))
    except faults.FaultError as problem:
        raise DirectiveError(str(problem)) from None
    except ValueError:
        raise DirectiveError(f"{rest!r} is not a number that {verb!r} takes.") from None
    raise DirectiveError(f"There is no directive {verb + ' ' + rest!r}.")


def _reasoning(words: int) -> str:
    return " ".join(islice(cycle(_THOUGHT.split()), words))
