from __future__ import annotations

from harness.chats import ENVELOPE
from openai.types.chat import ChatCompletion

from deepseek_proxy.translate.chat import response
from deepseek_proxy.translate.hub import Usage

NOTHING = {"refusal": None, "reasoning": None, "annotations": [], "calls": [], "legacy_call": None}


def test_a_message_has_only_the_keys_that_say_something() -> None:
    assert response.message(content="Hi", **NOTHING) == {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
    }


def test_a_message_has_all_that_was_said() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    full = response.message(
        content=None,
        refusal="No.",
        reasoning="",
        annotations=[{"type": "url_citation"}],
        calls=[call],
        legacy_call={"name": "f", "arguments": "{}"},
    )
    assert full["reasoning_content"] == ""
    assert full["tool_calls"] == [call]
    assert full["function_call"]["name"] == "f"
    assert full["annotations"] == [{"type": "url_citation"}]


def test_openais_types_take_it() -> None:
    made = response.completion(
        ENVELOPE,
        None,
        message=response.message(content="Hi", **NOTHING),
        logprobs=[{"token": "Hi", "logprob": -0.1, "bytes": None, "top_logprobs": []}],
        finish_reason="stop",
        usage=Usage(40, 32, 9, 4),
    )
    answer = ChatCompletion.model_validate(made, strict=True)
    assert answer.choices[0].message.content == "Hi"
    assert answer.object == "chat.completion"
