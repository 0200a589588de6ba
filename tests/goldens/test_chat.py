"""What the exchanges of Chat Completions hold: the same as those of Responses, in OpenAI's types."""

from __future__ import annotations

import json

import pytest
from goldens.replay import CHAT_FOLDER, FOLDER, Golden, goldens
from harness.chats import chunks_of, folded
from openai.types.chat import ChatCompletion, ChatCompletionChunk

CASES = goldens(CHAT_FOLDER)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.mark.parametrize("name", sorted({case.name for case in CASES} & {case.name for case in goldens()}))
def test_the_same_conversation_is_the_same_body_through_responses(name: str) -> None:
    """A case of the same name asks for the same in the other dialect."""
    chat, responses = Golden(CHAT_FOLDER / name), Golden(FOLDER / name)
    assert chat.expected("upstream_request.json") == responses.expected("upstream_request.json")


@every_case
def test_stream_and_whole_answer_say_the_same(case: Golden) -> None:
    whole, fold = json.loads(case.expected("expected.json")), folded(case.expected("expected.sse"))
    if "error" in fold:
        assert fold["error"]["code"] == whole["error"]["code"]
    else:
        assert fold == {key: value for key, value in whole.items() if key in fold}
        assert {"usage", *fold} == {*whole}


@every_case
def test_openais_types_take_every_chunk(case: Golden) -> None:
    for chunk in chunks_of(case.expected("expected.sse")):
        if "error" not in chunk and case.name != "custom_tool":  # for which the SDK has no type in a stream
            ChatCompletionChunk.model_validate(chunk, strict=True)
    whole = json.loads(case.expected("expected.json"))
    if "error" not in whole:
        ChatCompletion.model_validate(whole, strict=True)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 20
    ends = [folded(case.expected("expected.sse")) for case in CASES]
    reasons = {end["choices"][0]["finish_reason"] for end in ends if "choices" in end}
    assert reasons == {"stop", "length", "tool_calls", "function_call", "content_filter"}
    assert any("error" in end for end in ends)
