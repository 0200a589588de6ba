"""What the simulated model says when no script says it: simple, deterministic, and useful to a test.

In this order: a forced tool is called; the user's directives are followed; JSON mode gets JSON; tool results
are answered from; a tool is called where the user asks for one; facts from the conversation are recalled; a
summary is a list of what the user said; everything else is an echo. Refuses to know HTTP, limits and faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from deepseek_proxy.simulator import directives, tools
from deepseek_proxy.simulator.instances import minimal
from deepseek_proxy.simulator.request import ChatRequest, image_count, text_of
from deepseek_proxy.simulator.turns import Call, Turn
from deepseek_proxy.simulator.wire import arguments_json

MAX_QUOTED_CHARACTERS: Final = 4_000

_SAY: Final = re.compile(
    r"(?:please\s+)?(?:say|reply with|answer with|respond with|repeat)"
    r"(?:\s+(?:exactly|only|just|the words?|the following))*\s*:?\s+(.+)",
    re.IGNORECASE | re.DOTALL,
)
_SUMMARY: Final = re.compile(r"\b(summar(?:y|ise|ize)|compaction|handoff)", re.IGNORECASE)
_QUESTION: Final = re.compile(
    r"\?|\b(what|which|who|tell me|recall|remind|repeat|do you remember)\b", re.IGNORECASE
)
_SCHEMA_KEYS: Final = ("properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const", "items")
_SCHEMA_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean")
_ASKED: Final = re.compile(
    r"\b(?:what(?:'s| is| was| are)|which is|who is|tell me|recall|remind me of|repeat)\s+(?:again\s+)?"
    r"(?:my|the|our|your)\s+([\w -]{2,40}?)\s*(?:again|i (?:told|gave)\b.*)?[?.!]*\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_SCHEMA_START: Final = re.compile(
    r'\{\s*"(?:\$schema|\$defs|\$ref|definitions|type|title|description|properties|required|items|enum|const'
    r'|anyOf|oneOf|allOf|additionalProperties|name|schema|strict)"'
)


def answer(request: ChatRequest) -> Turn:
    """The model's next turn. Raises `DirectiveError` for a directive that cannot be read."""
    default = replace(_undirected(request), reasoning=_thought(request))
    directed = directives.parse(request.prompt)
    turn = default
    if request.turn_number < len(directed):
        step = directed[request.turn_number]
        turn = step.turn(tuple(_called(request, name, arguments) for name, arguments in step.calls), default)
    if request.must_call and not turn.calls:
        turn = replace(turn, text="", calls=(_forced(request),))
    return turn if request.thinking else replace(turn, reasoning="")


def _undirected(request: ChatRequest) -> Turn:
    if request.must_call:
        return Turn(calls=(_forced(request),))
    results = [message for message in request.since_prompt if message["role"] == "tool"]
    if not results and (call := tools.wanted(request)) is not None:
        return Turn(calls=(call,))
    if request.json_mode:
        return Turn(text=_json(request))
    if results:
        return Turn(text=_from_results(results))
    return Turn(text=_talk(request))


def _thought(request: ChatRequest) -> str:
    asked = directives.strip(request.prompt)
    return f"The user wrote: {_shortened(asked, 80)}. I will answer that." if asked else "I will answer that."


def _forced(request: ChatRequest) -> Call:
    tool = tools.best_match(request.tools, request.prompt)
    return tools.call(tool, request.prompt)


def _called(request: ChatRequest, name: str, arguments: str | None) -> Call:
    """A directed call: of a declared tool if the name fits one, else of the name as it stands."""
    tool = tools.named(request.tools, name)
    if arguments is None:
        arguments = arguments_json(minimal((tool or {}).get("parameters") or {"type": "object"}))
    return Call(tool["name"] if tool else name, arguments)


def _from_results(results: Sequence[Mapping[str, Any]]) -> str:
    shown = "\n".join(text_of(result) for result in results)
    return f"The tool returned: {_shortened(shown, MAX_QUOTED_CHARACTERS)}"


def _talk(request: ChatRequest) -> str:
    asked = directives.strip(request.prompt)
    if _SUMMARY.search(asked):
        return _summary(request)
    if (fact := _recalled(request, asked)) is not None:
        return fact
    if (said := _SAY.fullmatch(asked)) is not None:
        return said[1].strip().strip("\"'`").strip()
    images = sum(image_count(message) for message in request.messages[request.prompt_position :])
    if images and request.model.vision:
        noun = "image" if images == 1 else "images"
        return f"I see {images} {noun}. You wrote: {_shortened(asked, MAX_QUOTED_CHARACTERS)}"
    return f"This is the DeepSeek simulator. You wrote: {_shortened(asked, MAX_QUOTED_CHARACTERS)}"


def _recalled(request: ChatRequest, asked: str) -> str | None:
    """`What is my NAME?`, where somebody said `my NAME is VALUE` before; also `code word` in any question."""
    subjects = [found[1].strip() for found in _ASKED.finditer(asked)]
    if _QUESTION.search(asked):
        subjects += [subject for subject in ("code word", "name") if subject in asked.lower()]
    for subject in subjects:
        pattern = r"\s*".join(re.escape(word) for word in subject.split())
        told = re.compile(
            rf"\b{pattern}\s*(?:\s(?:is|was|are)\b|=|:)\s*(?:now\s+)?[\"'`*]*([^\"'`*\n.!?;,]+)",
            re.IGNORECASE,
        )
        for message in reversed(request.messages[: request.prompt_position]):
            found = told.search(text_of(message))
            if found:
                return f"Your {subject} is {found[1].strip()}."
    return None


def _summary(request: ChatRequest) -> str:
    said = [
        text_of(message)
        for message in request.messages[: request.prompt_position]
        if message["role"] == "user" and text_of(message)
    ]
    lines = [f"- The user wrote: {_shortened(directives.strip(text), 400)}" for text in said[-50:]]
    return "\n".join(["Summary of the conversation so far:", *lines])


def _json(request: ChatRequest) -> str:
    schema = _schema_in(request)
    if schema is None:
        return orjson.dumps({"answer": _talk(request)}).decode()
    return orjson.dumps(minimal(schema)).decode()


def _schema_in(request: ChatRequest) -> Mapping[str, Any] | None:
    """The schema that the prompt asks the answer to fit: the last one of the first message that has one."""
    wanted = request.body["response_format"].get("json_schema") or {}
    if isinstance(wanted.get("schema"), dict):
        schema: Mapping[str, Any] = wanted["schema"]
        return schema
    texts = [text_of(message) for message in request.messages if message["role"] == "system"]
    for text in [*texts, *(text_of(m) for m in reversed(request.messages) if m["role"] == "user")]:
        schemas = list(_schemas(text))
        if schemas:
            return schemas[-1]
    return None


def _schemas(text: str) -> Iterator[Mapping[str, Any]]:
    """The outermost JSON objects in `text` that look like a schema."""
    end = 0
    for start in _SCHEMA_START.finditer(text):
        if start.start() < end:
            continue
        try:
            value, end = tools.DECODER.raw_decode(text, start.start())
        except ValueError:
            continue
        if isinstance(value.get("schema"), dict):
            value = value["schema"]
        if value.get("type") in _SCHEMA_TYPES or any(key in value for key in _SCHEMA_KEYS):
            yield value


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
