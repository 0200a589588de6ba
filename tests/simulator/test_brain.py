"""What the model says to a prompt, asked through the whole application."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

Said = Callable[..., dict[str, Any]]
Ask = Callable[..., TestResponse]

OFF = {"thinking": {"type": "disabled"}}


def tool(name: str, description: str = "", **parameters: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {}, **parameters}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


WEATHER = tool(
    "get_weather",
    "The weather of a city",
    properties={"city": {"type": "string", "enum": ["Hamburg", "Paris"]}, "unit": {"type": "string"}},
    required=["city"],
)
CLOCK = tool("get_time", "The time of day")
# What Codex offers, flattened by a gateway.
AGENT_TOOLS = [
    tool("exec_command", "Runs a command", properties={"cmd": {"type": "string"}}, required=["cmd"]),
    tool("write_stdin", properties={"session_id": {"type": "number"}}, required=["session_id"]),
    tool("update_plan"),
    tool("view_image", properties={"path": {"type": "string"}}, required=["path"]),
    tool("apply_patch", properties={"input": {"type": "string"}}, required=["input"]),
    tool(
        "mcp__demo__add", properties={"a": {"type": "integer"}, "b": {"type": "integer"}}, required=["a", "b"]
    ),
]


def called(message: dict[str, Any]) -> list[tuple[str, Any]]:
    """The calls of a message: names and parsed arguments."""
    calls = message.get("tool_calls", [])
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


def after_calls(*results: str, prompt: str = "What is the weather?") -> list[dict[str, Any]]:
    """A history in which the model called a tool for the prompt, and has the results."""
    calls = [
        {"id": str(i), "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
        for i in range(len(results))
    ]
    said = {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": calls}
    answers = [{"role": "tool", "tool_call_id": str(i), "content": text} for i, text in enumerate(results)]
    return [{"role": "user", "content": prompt}, said, *answers]


# -- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("say hello", "hello"),
        ("Say 'hello' and nothing else.", "hello"),
        ("Please reply with exactly: pong", "pong"),
        ("Respond with only the word blue", "blue"),
        ("Good evening", "This is the DeepSeek simulator. You wrote: Good evening"),
    ],
)
def test_talk(prompt: str, answer: str, said: Said) -> None:
    assert said(prompt, **OFF) == {"role": "assistant", "content": answer}


def test_it_thinks_unless_thinking_is_off(said: Said) -> None:
    assert "say hello" in said("say hello")["reasoning_content"]
    for off in (OFF, {"reasoning_effort": "none"}):
        assert "reasoning_content" not in said("say hello", **off)
    assert "reasoning_content" in said("hi", reasoning_effort="none", thinking={"type": "enabled"})


@pytest.mark.parametrize(
    ("told", "question", "answer"),
    [
        ("My name is Ada.", "What is my name?", "Ada"),
        ("Remember: the code word is 'blue-42'.", "What was the code word I told you?", "blue-42"),
        ("The code word is mango", "Which code word did I give you?", "mango"),
        ("my favourite colour = teal", "What's my favourite colour?", "teal"),
        ("Our secret number is now 7.", "tell me our secret number", "7"),
    ],
)
@pytest.mark.parametrize("role", ["user", "system", "assistant"])
def test_it_recalls_facts(told: str, question: str, answer: str, role: str, said: Said) -> None:
    messages = [
        {"role": role, "content": told},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": question},
    ]
    assert answer in said(messages)["content"]


def test_it_recalls_the_newest_fact(said: Said) -> None:
    told = [{"role": "user", "content": f"My name is {name}."} for name in ("Ada", "Grace")]
    assert "Grace" in said([*told, {"role": "user", "content": "What is my name?"}])["content"]


def test_it_makes_no_fact_up(said: Said) -> None:
    assert said("What is my name?")["content"].startswith("This is the DeepSeek simulator.")


def test_a_summary_holds_what_the_user_said(said: Said) -> None:
    messages = [
        {"role": "user", "content": "The code word is mango."},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": "Create a handoff summary for another model."},
    ]
    summary = said(messages)["content"]
    assert "The code word is mango." in summary
    later = [{"role": "user", "content": summary}, {"role": "user", "content": "What is the code word?"}]
    assert "mango" in said(later)["content"]


def test_it_sees_images_on_the_model_that_does(said: Said) -> None:
    parts = [
        {"type": "text", "text": "Describe it"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    messages = [{"role": "user", "content": parts}]
    assert said(messages)["content"].startswith("I see 1 image.")
    assert not said(messages, model="deepseek-v4-pro")["content"].startswith("I see")


def test_no_user_message_at_all(said: Said) -> None:
    assert said([{"role": "system", "content": "x"}])["content"]


# -- tools ----------------------------------------------------------------------------------------


def test_the_only_tool_is_called(said: Said) -> None:
    message = said("What is the weather?", tools=[WEATHER])
    assert called(message) == [("get_weather", {"city": "Hamburg"})]
    assert message["content"] == ""
    assert message["tool_calls"][0]["id"].startswith("call_00_")


def test_the_better_one_of_two_tools_is_called(said: Said) -> None:
    for tools in ([WEATHER, CLOCK], [CLOCK, WEATHER]):
        assert called(said("What time is it?", tools=tools)) == [("get_time", {})]
        assert called(said("How is the weather in the city?", tools=tools)) == [
            ("get_weather", {"city": "Hamburg"})
        ]


def test_results_are_answered_from(said: Said) -> None:
    message = said(after_calls("9 degrees", "rain"), tools=[WEATHER])
    assert called(message) == []
    assert message["content"] == "The tool returned: 9 degrees\nrain"


def test_a_new_question_calls_again(said: Said) -> None:
    messages = [*after_calls("9 degrees"), {"role": "user", "content": "And tomorrow?"}]
    assert called(said(messages, tools=[WEATHER])) == [("get_weather", {"city": "Hamburg"})]


@pytest.mark.parametrize(
    "context",
    [
        "<system-reminder>Be brief.</system-reminder>",
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}],
    ],
)
def test_what_a_client_adds_is_no_new_question(context: Any, said: Said) -> None:
    messages = [*after_calls("9 degrees"), {"role": "user", "content": context}]
    assert "9 degrees" in said(messages, tools=[WEATHER])["content"]


@pytest.mark.parametrize("prompt", ["say hello", "What can you do?", "Please wait", "Summarize the plan"])
def test_an_agent_that_is_not_asked_for_a_tool_answers_in_words(prompt: str, said: Said) -> None:
    message = said(prompt, tools=AGENT_TOOLS)
    assert called(message) == []
    assert message["content"]


PATCH = "*** Begin Patch\n*** Add File: a.txt\n+hi\n*** End Patch"


@pytest.mark.parametrize(
    ("prompt", "call"),
    [
        ("run `ls -la`", ("exec_command", {"cmd": "ls -la"})),
        ("Please run the shell command: echo hi", ("exec_command", {"cmd": "echo hi"})),
        ("execute the command echo hi", ("exec_command", {"cmd": "echo hi"})),
        (f"Apply this patch:\n{PATCH}\nThanks", ("apply_patch", {"input": PATCH})),
        ('Use the tool mcp__demo__add with {"a": 2, "b": 3}', ("mcp__demo__add", {"a": 2, "b": 3})),
        ("call update_plan", ("update_plan", {})),
        ("use `view_image`", ("view_image", {"path": "text"})),
    ],
)
def test_an_agent_is_asked_for_a_tool(prompt: str, call: tuple[str, Any], said: Said) -> None:
    assert called(said(prompt, tools=AGENT_TOOLS)) == [call]


def test_a_command_as_a_list_of_words(said: Said) -> None:
    shell = tool("shell", properties={"command": {"type": "array", "items": {"type": "string"}}})
    assert called(said("run `ls`", tools=[CLOCK, WEATHER, shell])) == [
        ("shell", {"command": ["bash", "-lc", "ls"]})
    ]


def test_tool_choice(said: Said) -> None:
    named = {"type": "function", "function": {"name": "update_plan"}}
    assert called(said("say hello", tools=AGENT_TOOLS, tool_choice=named, **OFF)) == [("update_plan", {})]
    (call,) = called(said("say hello", tools=AGENT_TOOLS, tool_choice="required", **OFF))
    assert call[0] in [one["function"]["name"] for one in AGENT_TOOLS]
    assert called(said("What is the weather?", tools=[WEATHER], tool_choice="none")) == []
    assert called(said(after_calls("9 degrees"), tools=[WEATHER], tool_choice="required", **OFF))


def test_required_without_tools_has_no_effect(said: Said) -> None:
    assert said("say hello", tool_choice="required")["content"] == "hello"


# -- JSON -----------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string", "minLength": 6}, "tags": {"type": "array", "minItems": 1}},
    "required": ["title", "tags"],
}


@pytest.mark.parametrize(
    "instructions",
    [
        f"Answer in JSON. Adhere to this schema:\n{json.dumps(SCHEMA)}",
        f'An example of JSON: {{"a": 1}}. Schema:\n```json\n{json.dumps(SCHEMA, indent=2)}\n```\nBe brief.',
        f'Not this {{"type": "string"}}, but JSON like this: {json.dumps(SCHEMA)}',
        f"JSON: {json.dumps({'name': 'answer', 'strict': True, 'schema': SCHEMA})}",
    ],
)
@pytest.mark.parametrize("role", ["system", "user"])
def test_json_that_fits_the_schema_in_the_prompt(instructions: str, role: str, said: Said) -> None:
    messages = [{"role": role, "content": instructions}, {"role": "user", "content": "Go on"}]
    message = said(messages, response_format={"type": "json_object"})
    Draft202012Validator(SCHEMA).validate(json.loads(message["content"]))


def test_json_without_a_schema(said: Said) -> None:
    message = said("say hello in JSON", response_format={"type": "json_object"})
    assert json.loads(message["content"]) == {"answer": "hello in JSON"}


def test_json_mode_calls_tools_first(said: Said) -> None:
    wanted = {"response_format": {"type": "json_object"}, "tools": [WEATHER]}
    assert called(said("The weather as JSON", **wanted))
    assert json.loads(said(after_calls("9", prompt="The weather as JSON"), **wanted)["content"])


def test_json_schema_where_it_is_switched_on(make_client: Any) -> None:
    answer = make_client(json_schema=True).post(
        "/chat/completions",
        json={
            "model": "deepseek-flash",
            "messages": [{"role": "user", "content": "hi"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        },
        headers={"Authorization": "Bearer sk-x"},
    )
    content = answer.get_json()["choices"][0]["message"]["content"]
    Draft202012Validator(SCHEMA).validate(json.loads(content))


# -- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 8])
@pytest.mark.parametrize("mode", [{}, OFF])
def test_few_tokens_are_always_too_few(limit: int, mode: dict[str, Any], ask: Ask) -> None:
    body = ask("say hello", max_tokens=limit, **mode).get_json()
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == limit
