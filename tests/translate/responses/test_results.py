"""Results that a client brings for calls of an earlier response."""

from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.responses import results

CALL = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
CUSTOM = {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": ""}


def output(call_id: str | None, kind: str = "function_call_output") -> dict[str, Any]:
    return {"type": kind, "call_id": call_id, "output": "done"}


@pytest.mark.parametrize(
    ("earlier", "value"),
    [
        ([CALL], [output("call_1")]),
        ([CALL, CUSTOM], [output("call_2", "custom_tool_call_output"), output("call_1")]),
        ([], [CALL, output("call_1")]),
        ([], [output(None)]),  # matched by its name, or read as text
        ([], "a text"),
        ([], None),
        ([], [{"role": "user", "content": "hi"}, "nonsense"]),
    ],
)
def test_results_of_calls_pass(earlier: list[Any], value: Any) -> None:
    results.check(earlier, value)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("function_call_output", "function call output"),
        ("custom_tool_call_output", "custom tool call output"),
    ],
)
def test_a_result_of_no_call_is_refused_in_openai_s_words(kind: str, named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        results.check([CALL], [output("call_1"), output("call_x", kind)])
    assert refused.value.message == f"No tool call found for {named} with call_id call_x."
    assert refused.value.param == "input"


def test_a_result_is_no_call() -> None:
    with pytest.raises(InvalidRequest):
        results.check([output("call_1")], [output("call_1")])
