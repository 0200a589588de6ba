from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from deepseek_proxy.simulator import directives
from deepseek_proxy.simulator.directives import Directed, DirectiveError
from deepseek_proxy.simulator.faults import parse as fault

Said = Callable[..., dict[str, Any]]
OFF = {"thinking": {"type": "disabled"}}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("exec_command", "mcp__demo__add", "c")
]


def test_no_directives() -> None:
    assert directives.parse("Hello [[nothing]] [simulate: x]") == []


def test_every_verb() -> None:
    text = """Before [[simulate: call f {"a": [[1]]}]] between [[simulate: call g]]
        [[simulate: reason 3]][[simulate: say Hello there: [x] ]] [[simulate: finish length]]
        [[simulate: fault truncate after=2]] [[simulate: fault no-done]] [[simulate: pace 0.5]]
        [[simulate: chunk 4]] after"""
    assert directives.parse(text) == [
        Directed(
            reasoning="Let me think",
            text="Hello there: [x]",
            calls=(("f", '{"a": [[1]]}'), ("g", None)),
            finish="length",
            faults=fault("truncate after=2, no-done"),
            token_seconds=0.5,
            chunk_characters=4,
        )
    ]
    assert directives.strip(text).split() == ["Before", "between", "after"]


def test_turns() -> None:
    text = "[[simulate: call f]] [[simulate: call g]] [[simulate: then call h]] [[simulate: then say done]]"
    assert directives.parse(text) == [
        Directed(calls=(("f", None), ("g", None))),
        Directed(calls=(("h", None),)),
        Directed(text="done"),
    ]


def test_the_first_turn_may_be_left_to_the_model() -> None:
    assert directives.parse("[[simulate: then say done]]") == [Directed(), Directed(text="done")]


def test_reasoning_as_words_or_as_text() -> None:
    assert directives.parse("[[simulate: reason Hm, 20]]")[0].reasoning == "Hm, 20"
    many = directives.parse("[[simulate: reason 40]]")[0].reasoning
    assert many is not None
    assert len(many.split()) == 40


def test_broken_arguments_are_sent_as_they_stand() -> None:
    assert directives.parse('[[simulate: call f {"a": ]]')[0].calls == (("f", '{"a":'),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[simulate: say hello", "has no end"),
        ('[[simulate: call f {"a": "]]"}', "has no end"),
        ("[[simulate: dance]]", "no directive 'dance"),
        ("[[simulate: finish well]]", "no directive 'finish well'"),
        ("[[simulate: pace slowly]]", "'slowly' is not a number"),
        ("[[simulate: chunk 0]]", "no directive 'chunk 0'"),
        ("[[simulate: chunk x]]", "not a number"),
        ("[[simulate: fault 999]]", "no fault '999'"),
        ("[[simulate: fault 429 x=1]]", "no option 'x'"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, reason: str, ask: Callable[..., TestResponse]) -> None:
    with pytest.raises(DirectiveError, match=reason):
        directives.parse(text)
    answer = ask(text)
    assert answer.status_code == 400
    assert reason in answer.get_json()["error"]["message"]


# -- through the application ----------------------------------------------------------------------


def called(message: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])
    ]


def test_calls_of_several_turns(said: Said) -> None:
    messages: list[dict[str, Any]] = [
        {
            "role": "user",
            "content": '[[simulate: call exec_command {"cmd":"ls"}]] [[simulate: call c]] '
            "[[simulate: then call unheard_of]] [[simulate: then say done]]",
        }
    ]
    expected = [[("exec_command", '{"cmd": "ls"}'), ("c", "{}")], [("unheard_of", "{}")]]
    for calls in expected:
        message = said(messages, tools=TOOLS)
        assert called(message) == calls
        assert message["content"] == ""
        results = [
            {"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in message["tool_calls"]
        ]
        messages += [message, *results]
    message = said(messages, tools=TOOLS)
    assert (message["content"], called(message)) == ("done", [])
    messages += [message, {"role": "user", "content": "say bye"}]
    assert said(messages, tools=TOOLS)["content"] == "bye"


def test_after_its_turns_the_model_goes_on_by_itself(said: Said) -> None:
    first = said(user := [{"role": "user", "content": "[[simulate: call c]]"}], tools=TOOLS)
    result = {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "42"}
    assert said([*user, first, result], tools=TOOLS)["content"] == "The tool returned: 42"


def test_a_tool_by_the_end_of_its_name(said: Said) -> None:
    assert called(said('[[simulate: call add {"a": 1}]]', tools=TOOLS)) == [("mcp__demo__add", '{"a": 1}')]


def test_broken_arguments_reach_the_client(said: Said) -> None:
    assert called(said('[[simulate: call c {"a": ]]', tools=TOOLS)) == [("c", '{"a":')]


def test_text_and_calls_together(said: Said) -> None:
    message = said("[[simulate: say Look:]] [[simulate: call c]]", tools=TOOLS)
    assert (message["content"], called(message)) == ("Look:", [("c", "{}")])


def test_what_is_not_directed_is_left_to_the_model(said: Said) -> None:
    message = said("say hello [[simulate: reason Well.]]")
    assert (message["content"], message["reasoning_content"]) == ("hello", "Well.")


def test_directed_text_takes_the_place_of_a_call(said: Said) -> None:
    assert called(said("[[simulate: say no]]", tools=TOOLS[:1])) == []


def test_a_forced_call_has_no_text_before_it(said: Said) -> None:
    message = said("[[simulate: say no]]", tools=TOOLS, tool_choice="required", **OFF)
    assert message["content"] == ""
    assert called(message)


def test_finish(ask: Callable[..., TestResponse]) -> None:
    body = ask("[[simulate: finish content_filter]]").get_json()
    assert body["choices"][0]["finish_reason"] == "content_filter"


def test_chunk(ask: Callable[..., TestResponse]) -> None:
    answer = ask("[[simulate: say abc]] [[simulate: chunk 1]]", stream=True, **OFF)
    chunks = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["", "a", "b", "c", ""]
