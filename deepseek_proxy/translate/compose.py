"""The body that DeepSeek gets, of what a dialect has read: the same conversation gives the same bytes.

Refuses to know any dialect. The keys are written in one order, always: DeepSeek's cache matches bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from deepseek_proxy.errors import ModelNotFound
from deepseek_proxy.models import Model, Resolved
from deepseek_proxy.translate import fields, history
from deepseek_proxy.translate.history import Entry, History
from deepseek_proxy.translate.reasoning import ThinkingMode
from deepseek_proxy.translate.tool_choice import ToolChoice
from deepseek_proxy.translate.tools import ToolTable

NextTurn = Callable[[Sequence[Entry], int], dict[str, Any]]
"""Makes the body of a further turn of the same answer, from what the turns before it said and the tokens
that they wrote. Holds the whole conversation."""


class Turns(NamedTuple):
    """The turns of one answer: the body of the `first`, what makes that of the `next` one, and what builds
    the messages of either."""

    first: dict[str, Any]
    next: NextTurn
    build: Callable[[Sequence[Entry]], History]


def resolve(body: Mapping[str, Any], find: Callable[[str], Resolved | None]) -> Resolved:
    """The model that a request names. Raises `InvalidRequest` or `ModelNotFound`."""
    name = fields.required_string(body, "model")
    if not name:
        raise fields.missing("model")
    resolved = find(name)
    if resolved is None:
        raise ModelNotFound(f"The requested model '{name}' does not exist.", param="model")
    return resolved


def compose(
    entries: Sequence[Entry],
    *,
    model: Model,
    mode: ThinkingMode,
    table: ToolTable,
    choice: ToolChoice,
    is_json: bool,
    sampling: Mapping[str, Any],
    stream: bool,
    recall: Callable[[str], str | None],
    notes: Counter[str],
) -> Turns:
    """The turns of an answer to `entries`.

    The tools of `table` are released; repairs of the history are counted in `notes`.
    """

    def build(entries: Sequence[Entry]) -> History:
        return history.build(entries, vision=model.vision, thinking=mode.enabled, recall=recall)

    conversation = build(entries)
    if conversation.repairs:
        notes.update(conversation.repairs)
    if not table.declarations:
        table.declare_stubs(conversation.tool_names)
    upstream: dict[str, Any] = {"model": model.id, "messages": conversation.messages, **mode.fields()}
    if table.declarations:
        upstream["tools"] = table.declarations
        if choice.upstream is not None:
            upstream["tool_choice"] = choice.upstream
    table.release_declarations()
    if is_json:
        upstream["response_format"] = {"type": "json_object"}
    upstream.update(sampling)
    upstream["stream"] = stream
    if stream:
        upstream["stream_options"] = {"include_usage": True}

    def next_turn(said: Sequence[Entry], tokens: int) -> dict[str, Any]:
        body = {**upstream, "messages": build([*entries, *said]).messages}
        if choice.is_forced:
            del body["tool_choice"]  # it has been obeyed
        if "max_tokens" in body:
            body["max_tokens"] = max(1, body["max_tokens"] - tokens)
        return body

    return Turns(upstream, next_turn, build)
