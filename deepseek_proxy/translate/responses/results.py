"""Whether the results of tool calls belong to calls.

A request that goes on from an earlier response brings what its client has just done. A result for a call that
nobody made is a mistake of the client's then, of which OpenAI tells it (the words are those of a recorded
answer). The history that a request brings itself is mended instead (`translate.history`).

Refuses to know what is in a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from deepseek_proxy.errors import InvalidRequest

_NAMES: Final = {
    "function_call_output": "function call output",
    "custom_tool_call_output": "custom tool call output",
}


def check(earlier: Sequence[Mapping[str, Any]], value: object) -> None:
    """Raises `InvalidRequest` where `value`, a request's `input`, has a result without a call before it."""
    items = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    results = [item for item in items if item.get("type") in _NAMES and isinstance(item.get("call_id"), str)]
    if not results:
        return
    made = {*_calls(earlier), *_calls(items)}
    for result in results:
        if result["call_id"] not in made:
            raise InvalidRequest(
                f"No tool call found for {_NAMES[result['type']]} with call_id {result['call_id'][:200]}.",
                param="input",
            )


def _calls(items: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for item in items:
        if str(item.get("type")).endswith("_call") and isinstance(item.get("call_id"), str):
            yield item["call_id"]
