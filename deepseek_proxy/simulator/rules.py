"""DeepSeek's rules for a request: who may ask, and what is accepted, in the order in which DeepSeek looks.

Each rule is a function of the body that raises the `Refusal` DeepSeek answers with; `_RULES` is their order,
measured with pairs of violations on `deepseek-recipe` 0.2.0. Where that package and the production service
differ, the service wins: its model names, `file_id`, and `json_schema` not being available. Refuses to
answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from deepseek_proxy import models
from deepseek_proxy.simulator import errors, messages, schemas, shapes
from deepseek_proxy.simulator.errors import invalid
from deepseek_proxy.simulator.request import text_of, thinks

Body = Mapping[str, Any]

BROKE_KEY: Final = "sk-simulator-broke"
INVALID_KEY: Final = "sk-simulator-invalid"

MAX_OUTPUT_TOKENS: Final = models.FLASH.max_output_tokens
MAX_STOPS: Final = 16
MAX_TOP_LOGPROBS: Final = 20
MAX_TOOL_NAME: Final = 128
MAX_NESTING: Final = 127

_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]+")


def authorise(authorization: str | None) -> str:
    """The key of an `Authorization` header. Raises `Refusal`; keys that begin with `INVALID_KEY`
    are wrong."""
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise errors.no_key()
    if key.startswith(INVALID_KEY):
        raise errors.bad_key(key)
    return key


def is_broke(key: str) -> bool:
    """Whether the key's account is empty: those that begin with `BROKE_KEY` are."""
    return key.startswith(BROKE_KEY)


def check(raw: bytes, *, json_schema: bool = False) -> Body:
    """The body, when DeepSeek accepts it. Raises `Refusal`. `json_schema` opens that response format."""
    body = read(raw, shapes.REQUEST)
    for rule in _RULES:
        rule(body)
    if not json_schema and (body.get("response_format") or {}).get("type") in ("json_schema", "regex"):
        raise invalid("This response_format type is unavailable now")
    return body


def read(raw: bytes, shape: shapes.Reader) -> Body:
    """The body, where its types are those of `shape`. Raises `Refusal`."""
    body: Body = _parsed(raw)
    try:
        shape(body, "")
    except shapes.Mistyped as problem:
        raise errors.undeserialisable(str(problem)) from None
    return body


# -- the bytes ------------------------------------------------------------------------------------

_SYNTAX: Final = (
    ("end of data", "EOF while parsing a value"),
    ("zero-length", "EOF while parsing a value"),
    ("UTF-8", "invalid unicode code point"),
    ("high surrogate", "lone leading surrogate in hex escape"),
    ("surrogate", "unexpected end of hex escape"),
    ("control character", "control character (\\u0000-\\u001F) found while parsing a string"),
    ("after document", "trailing characters"),
    ("trailing comma", "trailing comma"),
    ("string key", "key must be a string"),
    ("infinity", "number out of range"),
    ("escape", "invalid escape"),
    ("depth limit", "recursion limit exceeded"),
)
"""What our JSON parser says, and what DeepSeek's says then; everything else is `expected value`."""


def _parsed(raw: bytes) -> Any:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as problem:
        words = next((theirs for ours, theirs in _SYNTAX if ours in problem.msg), "expected value")
        at = f" at line {problem.lineno} column {problem.colno}"
        raise errors.undeserialisable(words + at) from None
    if _nesting_exceeds(body, MAX_NESTING):
        raise errors.undeserialisable("recursion limit exceeded at line 1 column 1")
    return body


def _nesting_exceeds(body: object, limit: int) -> bool:
    level: list[Any] = [body] if isinstance(body, (dict, list)) else []
    for _ in range(limit):
        within = (node.values() if isinstance(node, dict) else node for node in level)
        level = [element for nodes in within for element in nodes if isinstance(element, (dict, list))]
        if not level:
            return False
    return True


# -- model and tools ------------------------------------------------------------------------------


def _model(body: Body) -> None:
    name = body["model"]
    alias = models.ALIASES.get(name)
    # An alias that stands for a thinking mode is a retired name.
    if name not in models.MODELS and (alias is None or alias.thinking is not None):
        known = ", ".join(models.MODELS)
        raise invalid(f"The supported API model names are {known}, but you passed {name}.")


def _functions(body: Body) -> list[Body]:
    return [tool["function"] for tool in body.get("tools") or ()]


def _tool_names(body: Body) -> None:
    for i, function in enumerate(_functions(body)):
        name, wrong = function["name"], f"Invalid 'tools[{i}].function.name':"
        if not name:
            raise invalid(
                f"{wrong} empty string. Expected a string with minimum length 1, but got an empty string "
                "instead."
            )
        if len(name) > MAX_TOOL_NAME:
            raise invalid(
                f"{wrong} string too long. Expected a string with maximum length {MAX_TOOL_NAME}, but got a "
                f"string with length {len(name)} instead."
            )
        if not _TOOL_NAME.fullmatch(name):
            raise invalid(
                f"{wrong} string does not match pattern. Expected a string that matches the pattern "
                "'^[a-zA-Z0-9_-]+$'."
            )


def _tools_sound(body: Body) -> None:
    names: set[str] = set()
    for function in _functions(body):
        if function["name"] in names:
            raise invalid("Tool names must be unique.")
        names.add(function["name"])
        parameters = function.get("parameters")
        if parameters is None:
            continue
        if (problem := schemas.problem_of(parameters)) is not None:
            raise invalid(f"Invalid schema for function '{function['name']}': {problem}")
        if function.get("strict") and (problem := schemas.strict_problem_of(parameters)) is not None:
            raise invalid(f"Invalid tool parameters schema : {problem}")


def _tool_choice(body: Body) -> None:
    choice = body.get("tool_choice")
    functions = _functions(body)
    if not functions or choice in (None, "none", "auto"):
        return
    if isinstance(choice, dict):
        name = choice["function"]["name"]
        if name not in (function["name"] for function in functions):
            raise invalid(
                f"Invalid value for 'tool_call': no function named '{name}' was specified in the 'tools' "
                "parameter."
            )
    if thinks(body):
        raise invalid("Thinking mode does not support this tool_choice")


def _strict_together(body: Body) -> None:
    if len({bool(function.get("strict")) for function in _functions(body)}) > 1:
        raise invalid("Cannot use strict tool with non-strict tool in the same request")


def _json_mentioned(body: Body) -> None:
    kind = (body.get("response_format") or {}).get("type")
    if kind == "json_object" and not any("json" in text_of(m).lower() for m in body["messages"]):
        raise invalid(
            "Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'."
        )


# -- parameters -----------------------------------------------------------------------------------


def _stop(body: Body) -> None:
    stop = body.get("stop")
    if isinstance(stop, list) and len(stop) > MAX_STOPS:
        raise invalid(f"Stop string array too long: {len(stop)}")
    named = {"stop": stop} if isinstance(stop, str) else {f"stop[{i}]": s for i, s in enumerate(stop or ())}
    for name, text in named.items():
        if not text:
            raise invalid(
                f"Invalid '{name}': empty string. Expected a string with minimum length 1, but got an empty "
                "string instead."
            )


def _stream_options(body: Body) -> None:
    if body.get("stream_options") is not None and not body.get("stream"):
        raise invalid("stream_options should be set along with stream = true")


def _n(body: Body) -> None:
    if body.get("n") not in (None, 1):
        raise invalid("Invalid n value (currently only n = 1 is supported)")


def within(name: str, low: int, high: int) -> Callable[[Body], None]:
    return _within(name, lambda value: low <= value <= high, f"[{low}, {high}]")


def _within(name: str, valid: Callable[[float], bool], shown: str) -> Callable[[Body], None]:
    def rule(body: Body) -> None:
        value = body.get(name)
        if value is not None and not valid(value):
            raise invalid(f"Invalid {name} value, the valid range of {name} is {shown}")

    return rule


def _top_logprobs(body: Body) -> None:
    top = body.get("top_logprobs")
    if top is None:
        return
    if not body.get("logprobs"):
        raise invalid(
            "Invalid top_logprobs and logprobs value, logprobs must be set to true if top_logprobs is used."
        )
    if top > MAX_TOP_LOGPROBS:
        raise invalid(
            f"Invalid top_logprobs value, the valid range of top_logprobs is [0, {MAX_TOP_LOGPROBS}]."
        )


_RANGES: Final[Sequence[Callable[[Body], None]]] = (
    within("presence_penalty", -2, 2),
    within("frequency_penalty", -2, 2),
    within("temperature", 0, 2),
    _within("top_p", lambda value: 0 < value <= 1, "(0, 1.0]"),
)

_RULES: Final[Sequence[Callable[[Body], None]]] = (
    _model,
    messages.present,
    _tool_names,
    messages.sound,
    messages.reasoning_passed_back,
    messages.prefix_last,
    _json_mentioned,
    _tools_sound,
    _tool_choice,
    _stop,
    _stream_options,
    _strict_together,
    _n,
    *_RANGES,
    _top_logprobs,
    within("max_tokens", 1, MAX_OUTPUT_TOKENS),
)

COMMON: Final[Sequence[Callable[[Body], None]]] = (_model, _stop, _stream_options, *_RANGES)
"""Those of every completion, chat or not."""
