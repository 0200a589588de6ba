"""The body that DeepSeek gets, of what a dialect has read: the same conversation gives the same bytes.

Refuses to know any dialect. The keys are written in one order, always: DeepSeek's cache matches bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deepseek_proxy.errors import ModelNotFound
from deepseek_proxy.models import Model, Resolved
from deepseek_proxy.translate import fields, history
from deepseek_proxy.translate.history import Entry
from deepseek_proxy.translate.reasoning import ThinkingMode
from deepseek_proxy.translate.tool_choice import ToolChoice
from deepseek_proxy.translate.tools import ToolTable

NextTurn = Callable[[Sequence[Entry], int], dict[str, Any]]
"""Makes the body of a further turn of the same answer, from what the turns before it said and the tokens
that they wrote. Holds the whole conversation."""


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
) -> tuple[dict[str, Any], NextTurn]:
    """The body of the answer's first turn, and what makes those of further ones.

    The tools of `table` are released; repairs of the history are counted in `notes`.
    """

    def build(entries: Sequence[Entry]) -> history.History:
        return history.build(entries, vision=model.vision, thinking=mode.enabled, recall=recall)

    conversation = build(entries)
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

    return upstream, next_turn
