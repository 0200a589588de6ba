"""A call of the model's as it begins: whether its client is to see it, of which tool it is, and its id.

Refuses to know how a dialect shows a call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from deepseek_proxy.errors import UpstreamError
from deepseek_proxy.translate import ids
from deepseek_proxy.translate.hub import ToolCallDelta
from deepseek_proxy.translate.lookup import KINDS
from deepseek_proxy.translate.rounds import Rounds
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable


class Options(Protocol):
    """What a request says of its calls, in either dialect's `StreamOptions`."""

    @property
    def tools(self) -> ToolTable: ...
    @property
    def new_id(self) -> ids.NewId: ...
    @property
    def parallel_tool_calls(self) -> bool: ...
    @property
    def permitted(self) -> Callable[[str], bool]: ...


def begin(
    delta: ToolCallDelta, options: Options, rounds: Rounds, shown: Collection[str]
) -> tuple[Tool, str] | None:
    """The tool, as its client knows it, and the id of a call whose first piece is `delta`.

    None for a call that the client does not see: one that it does not allow, a further one where it wants no
    parallel ones, and a search, which `rounds` is told of. `shown` are the ids of the calls before it.
    Raises `UpstreamError` for a call that cannot be.
    """
    if delta.name is None:
        raise UpstreamError("The upstream sent a tool call without a name.")
    first = not shown and not rounds.are_wanted
    if not options.permitted(delta.name) or not (first or options.parallel_tool_calls):
        return None
    tool = options.tools.client_tool(delta.name)
    call_id = delta.id if delta.id and delta.id not in shown else options.new_id(ids.CALL)
    if rounds.runs(tool):
        rounds.want(delta.position, tool.kind, call_id, delta.arguments)
        return None
    if tool.kind in KINDS:  # of an earlier request: the client has to say that it is gone
        tool = Tool(ToolKind.FUNCTION, delta.name)
    return tool, call_id
