from __future__ import annotations

from deepseek_proxy.simulator import tools
from deepseek_proxy.simulator.turns import Call


def function(name: str, **more: object) -> dict[str, object]:
    return {"name": name, **more}


def test_named() -> None:
    functions = [function("a__x"), function("b__y"), function("x")]
    assert tools.named(functions, "x") == functions[2]
    assert tools.named(functions, "y") == functions[1]
    assert tools.named(functions, "z") is None
    assert tools.named([function("a__x"), function("b__x")], "x") is None, "it could be either"


def test_best_match_goes_by_words_and_order() -> None:
    functions = [function("get_time"), function("lookup", description="Finds the capital of a country")]
    assert tools.best_match(functions, "What is the capital of France?") == functions[1]
    assert tools.best_match(functions, "?") == functions[0]


def test_arguments_from_the_prompt_where_they_fit() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    add = function("add", parameters=schema)
    assert tools.call(add, 'with {"a": "x", "b": 1}') == Call("add", '{"a": "x", "b": 1}')
    for prompt in ('with {"b": 1}', "with {broken", "with [1]", ""):
        assert tools.call(add, prompt) == Call("add", '{"a": "text"}')


def test_a_function_without_parameters() -> None:
    assert tools.call(function("now", parameters=None), "") == Call("now", "{}")


def test_a_name_inside_another_one_is_not_meant() -> None:
    functions = [function("plan"), function("a"), function("b")]
    assert tools.wanted(functions, "use planning") is None
    assert tools.wanted(functions, "use plan-b") is None
    assert tools.wanted(functions, "use plan, please") == Call("plan", "{}")


def test_no_tools() -> None:
    assert tools.wanted([], "run `ls`") is None


def test_a_command_without_a_tool_for_it() -> None:
    functions = [function("a"), function("b"), function("c")]
    assert tools.wanted(functions, "run `ls`") is None
