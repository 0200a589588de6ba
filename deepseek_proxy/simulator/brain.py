"""What the simulated model says when no script says it: simple, deterministic, and useful to a test.

In this order: the user's directives are followed; a forced tool is called; a tool is called where the user
asks for one; JSON mode gets JSON; tool results are answered from; a summary lists what the user said; facts
from the conversation are recalled; everything else is an echo. Refuses to know HTTP, limits and faults.
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
FEW_TOKENS: Final = 8
"""With a limit this low the answer is one that the limit cuts."""

_SAY: Final = re.compile(
    r"(?:please\s+)?(?:say|reply with|answer with|respond with|repeat)"
    r"(?:\s+(?:exactly|only|just|the words?|the following))*\s*:?\s+"
    r"(?:(?P<quote>[\"'`])(?P<quoted>.+?)(?P=quote).*|(?P<plain>.+))",
    re.IGNORECASE | re.DOTALL,
)
_SUMMARY: Final = re.compile(r"\b(summar(?:y|ise|ize)|compaction|handoff)", re.IGNORECASE)
_ASKED: Final = re.compile(
    r"\b(?:what(?:'s| is| was| are)|which is|who is|tell me|recall|remind me of|repeat)\s+(?:again\s+)?"
    r"(?:my|the|our|your)\s+([\w -]{2,40}?)\s*(?:again|i (?:told|gave)\b.*)?[?.!]*\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_SCHEMA_START: Final = re.compile(
    r'\{\s*"(?:\$schema|\$defs|\$ref|definitions|type|title|description|properties|required|items|enum|const'
    r'|anyOf|oneOf|allOf|additionalProperties|name|schema|strict)"'
)
_SCHEMA_KEYS: Final = ("properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const", "items")
_SCHEMA_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean")


def answer(request: ChatRequest) -> Turn:
    """The model's next turn. Raises `DirectiveError` for a directive that cannot be read."""
    turn = _undirected(request)
    turn = replace(turn, reasoning=_thought(request, turn))
    directed = directives.parse(request.prompt)
    if request.turn_number < len(directed):
        step = directed[request.turn_number]
        turn = step.turn(tuple(_called(request, name, arguments) for name, arguments in step.calls), turn)
    if request.must_call and not turn.calls:
        turn = replace(turn, calls=(_forced(request),))
    # A call that is forced begins the answer: there is no text before it.
    return replace(turn, text="") if request.must_call else turn


def _undirected(request: ChatRequest) -> Turn:
    if request.must_call:
        return Turn(calls=(_forced(request),))
    results = [message for message in request.since_prompt if message["role"] == "tool"]
    if not results and (call := tools.wanted(request.tools, _asked(request))) is not None:
        return Turn(calls=(call,))
    if request.json_mode:
        return Turn(text=_json(request))
    if results:
        return Turn(text=_from_results(results))
    return Turn(text=_talk(request))


def _asked(request: ChatRequest) -> str:
    """What the user wrote last, without directives."""
    return directives.strip(request.prompt)


def _thought(request: ChatRequest, turn: Turn) -> str:
    if turn.calls:
        plan = f"I need {turn.calls[0].name} for that."
    elif request.turn_number:
        plan = "Now I know enough to answer."
    else:
        plan = "I can answer that."
    return f'The user wrote "{_shortened(_asked(request), 80)}". {plan}'


def _forced(request: ChatRequest) -> Call:
    asked = _asked(request)
    return tools.call(tools.best_match(request.tools, asked), asked)


def _called(request: ChatRequest, name: str, arguments: str | None) -> Call:
    """A directed call: of a declared tool if the name fits one, else of the name as it stands."""
    tool = tools.named(request.tools, name)
    if arguments is None:
        arguments = arguments_json(minimal((tool or {}).get("parameters") or {"type": "object"}))
    elif (values := tools.object_in(arguments)) is not None:
        arguments = arguments_json(values)  # broken ones are sent as they stand
    return Call(tool["name"] if tool else name, arguments)


def _from_results(results: Sequence[Mapping[str, Any]]) -> str:
    shown = "\n".join(text_of(result) for result in results)
    return f"The tool returned: {_shortened(shown, MAX_QUOTED_CHARACTERS)}"


def _talk(request: ChatRequest) -> str:
    asked = _asked(request)
    if _SUMMARY.search(asked):
        return _summary(request)
    if (fact := _recalled(request, asked)) is not None:
        return fact
    said = _SAY.fullmatch(asked)
    if said is not None and request.max_tokens > FEW_TOKENS:
        return said["quoted"] or said["plain"]
    images = sum(image_count(message) for message in request.messages[request.prompt_position :])
    if images and request.model.vision:
        seen = f"I see {images} {'image' if images == 1 else 'images'}."
    else:
        seen = "This is the DeepSeek simulator."
    return f"{seen} You wrote: {_shortened(asked, MAX_QUOTED_CHARACTERS)}"


def _recalled(request: ChatRequest, asked: str) -> str | None:
    """`What is my NAME?`, where somebody said `my NAME is VALUE` before; also a code word in any question."""
    subjects = [found[1].strip() for found in _ASKED.finditer(asked)]
    if "?" in asked:
        subjects += [subject for subject in ("code word", "name") if subject in asked.lower()]
    for subject in subjects:
        words = r"\s*".join(re.escape(word) for word in subject.split())
        told = re.compile(
            rf"\b{words}\s*(?:\s(?:is|was|are)\b|=|:)\s*(?:now\s+)?[\"'`*]*([^\"'`*\n.!?;,]+)", re.IGNORECASE
        )
        for message in reversed(request.messages[: max(request.prompt_position, 0)]):
            if (found := told.search(text_of(message))) is not None:
                return f"Your {subject} is {found[1].strip()}."
    return None


def _summary(request: ChatRequest) -> str:
    said = [
        directives.strip(text_of(message))
        for message in request.messages[: max(request.prompt_position, 0)]
        if message["role"] == "user"
    ]
    lines = [f"- The user wrote: {_shortened(text, 400)}" for text in said[-50:] if text]
    return "\n".join(["Summary of the conversation so far:", *lines])


def _json(request: ChatRequest) -> str:
    schema = _schema_in(request)
    value = {"answer": _talk(request)} if schema is None else minimal(schema)
    return orjson.dumps(value).decode()


def _schema_in(request: ChatRequest) -> Mapping[str, Any] | None:
    """The schema that the answer is to fit: the request's own, else the last one that the prompt shows."""
    wanted = request.body["response_format"].get("json_schema")
    if wanted is not None:
        schema: Mapping[str, Any] = wanted["schema"]
        return schema
    systems = [message for message in request.messages if message["role"] == "system"]
    users = [message for message in reversed(request.messages) if message["role"] == "user"]
    for message in (*systems, *users):
        schemas = list(_schemas(text_of(message)))
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
