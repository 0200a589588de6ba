from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from harness.responses_grammar import RESPONSE_KEYS

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.responses import parameters
from deepseek_proxy.translate.responses.place import Place

MAX_TOKENS = 393_216


def sampling(**body: Any) -> dict[str, Any]:
    return parameters.sampling(body, MAX_TOKENS)


def echo(**body: Any) -> dict[str, Any]:
    return parameters.echo(body, "high", parallel=True)


# -- what goes upstream ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "upstream"),
    [
        ({}, {}),
        (dict.fromkeys(parameters.KNOWN_FIELDS), {}),  # null is absent
        ({"max_output_tokens": 1}, {"max_tokens": 1}),
        ({"max_output_tokens": 16.0}, {"max_tokens": 16}),
        ({"max_output_tokens": 10**9}, {"max_tokens": MAX_TOKENS}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 2}, {"temperature": 2}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"top_p": 0}, {"top_p": 0.01}),  # DeepSeek wants more than 0
        ({"presence_penalty": -2, "frequency_penalty": 2}, {"presence_penalty": -2, "frequency_penalty": 2}),
        ({"top_logprobs": 0}, {}),
        ({"top_logprobs": 20}, {"logprobs": True, "top_logprobs": 20}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"include": ["reasoning.encrypted_content", "file_search_call.results"]}, {}),
        ({"store": True, "service_tier": "flex", "metadata": {"a": "b"}, "truncation": "auto"}, {}),
    ],
)
def test_sampling_in_deepseeks_words(body: dict[str, Any], upstream: dict[str, Any]) -> None:
    assert sampling(**body) == upstream


@pytest.mark.parametrize(
    ("body", "user"),
    [
        ({"user": "a@b.c"}, "a@b.c"),
        ({"safety_identifier": "x", "user": "a@b.c"}, "x"),
        ({"safety_identifier": "", "user": "ü"}, "ü"),
    ],
)
def test_a_user_is_sent_as_a_hash_that_stays_the_same(body: dict[str, Any], user: str) -> None:
    expected = hashlib.sha256(user.encode()).hexdigest()[:32]
    assert sampling(**body) == {"user_id": expected}


# -- what is refused ------------------------------------------------------------------------------

BELOW = "Invalid '{}': {} below minimum value. Expected a value >= {}, but got {} instead."
ABOVE = "Invalid '{}': {} above maximum value. Expected a value <= {}, but got {} instead."
TYPE = "Invalid type for '{}': expected {}, but got {} instead."


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("max_output_tokens", 0, BELOW.format("max_output_tokens", "integer", 1, 0)),
        ("max_output_tokens", 1.5, TYPE.format("max_output_tokens", "an integer", "a number")),
        ("max_output_tokens", "9", TYPE.format("max_output_tokens", "an integer", "a string")),
        ("max_output_tokens", True, TYPE.format("max_output_tokens", "an integer", "a boolean")),
        ("temperature", -0.5, BELOW.format("temperature", "decimal", 0, -0.5)),
        ("temperature", 2.5, ABOVE.format("temperature", "decimal", 2, 2.5)),
        ("temperature", "hot", TYPE.format("temperature", "a number", "a string")),
        ("top_p", 1.5, ABOVE.format("top_p", "decimal", 1, 1.5)),
        ("top_p", -1, BELOW.format("top_p", "decimal", 0, -1)),
        ("presence_penalty", 3, ABOVE.format("presence_penalty", "decimal", 2, 3)),
        ("frequency_penalty", -3, BELOW.format("frequency_penalty", "decimal", -2, -3)),
        ("top_logprobs", 21, ABOVE.format("top_logprobs", "integer", 20, 21)),
        ("top_logprobs", -1, BELOW.format("top_logprobs", "integer", 0, -1)),
        ("include", "all", TYPE.format("include", "an array", "a string")),
        ("safety_identifier", 5, TYPE.format("safety_identifier", "a string", "an integer")),
        ("user", {}, TYPE.format("user", "a string", "an object")),
    ],
)
def test_a_value_that_means_nothing_is_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sampling(**{key: value})
    assert (caught.value.message, caught.value.param) == (message, key)


@pytest.mark.parametrize("value", ["everything", 5, None, ["reasoning.encrypted_content"]])
def test_an_unknown_include_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sampling(include=["reasoning.encrypted_content", value])
    assert (caught.value.param, caught.value.code) == ("include[1]", "invalid_value")
    assert caught.value.message.startswith(
        f"Invalid value: '{value}'. Supported values are: 'file_search_call."
    )


def test_a_prompt_template_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parameters.refuse_prompt({"prompt": {"id": "pmpt_1"}})
    assert (caught.value.param, caught.value.code) == ("prompt", "unsupported_parameter")
    parameters.refuse_prompt({"prompt": None})


# -- the echo -------------------------------------------------------------------------------------

OF_THE_ENVELOPE = {
    *("id", "object", "created_at", "status", "completed_at", "error", "incomplete_details", "model"),
    *("output", "usage", "service_tier"),
}
TOOL = {"type": "function", "name": "f", "description": None, "parameters": {}, "strict": True}


def test_the_echo_has_openais_defaults() -> None:
    assert echo() == echo(**dict.fromkeys(parameters.KNOWN_FIELDS))
    assert echo().keys() == RESPONSE_KEYS - OF_THE_ENVELOPE
    assert echo() == {
        "background": False,
        "frequency_penalty": 0,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "moderation": None,
        "parallel_tool_calls": True,
        "presence_penalty": 0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "prompt_cache_retention": None,
        "reasoning": {"effort": "high", "summary": None},
        "safety_identifier": None,
        "store": False,
        "temperature": 1,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1,
        "truncation": "disabled",
        "user": None,
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("frequency_penalty", 0.5),
        ("instructions", "Be brief."),
        ("max_output_tokens", 16),
        ("max_tool_calls", 3),
        ("metadata", {"a": "b"}),
        ("presence_penalty", -1),
        ("prompt_cache_key", "thread-1"),
        ("prompt_cache_retention", "24h"),
        ("safety_identifier", "x"),
        ("temperature", 0),
        ("text", {"format": {"type": "json_object"}, "verbosity": "low"}),
        ("tool_choice", {"type": "allowed_tools", "mode": "auto", "tools": []}),
        ("tools", [TOOL]),
        ("top_logprobs", 5),
        ("top_p", 0),
        ("truncation", "auto"),
        ("user", "me"),
    ],
)
def test_the_echo_repeats_what_was_asked_for(key: str, value: Any) -> None:
    assert echo(**{key: value}) == {**echo(), key: value}


def test_the_echo_says_what_is_so_of_what_is_not_done() -> None:
    assert echo(store=True, background=True, previous_response_id="resp_1") == echo()
    assert echo(reasoning={"effort": "low", "summary": "auto"})["reasoning"] == {
        "effort": "high",
        "summary": "auto",
    }
    assert parameters.echo({}, "none", parallel=False)["parallel_tool_calls"] is False


PAIRS = {f"k{i}": "" for i in range(17)}


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"metadata": PAIRS}, "metadata", "Invalid 'metadata': too many properties. Expected at most 16."),
        (
            {"metadata": {"k" * 65: ""}},
            *(f"metadata.{'k' * 64}", f"Invalid 'metadata.{'k' * 64}': too long."),
        ),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "Invalid 'metadata.k': too long."),
        ({"metadata": {"k": 5}}, "metadata.k", TYPE.format("metadata.k", "a string", "an integer")),
        ({"metadata": []}, "metadata", TYPE.format("metadata", "an object", "an array")),
        ({"max_tool_calls": 0}, "max_tool_calls", BELOW.format("max_tool_calls", "integer", 1, 0)),
        (
            {"prompt_cache_key": 5},
            "prompt_cache_key",
            TYPE.format("prompt_cache_key", "a string", "an integer"),
        ),
        (
            {"prompt_cache_retention": 5},
            *("prompt_cache_retention", TYPE.format("prompt_cache_retention", "a string", "an integer")),
        ),
        (
            {"reasoning": {"summary": 5}},
            *("reasoning.summary", TYPE.format("reasoning.summary", "a string", "an integer")),
        ),
        (
            {"truncation": "some"},
            *("truncation", "Invalid value: 'some'. Supported values are: 'auto', 'disabled'."),
        ),
    ],
)
def test_what_cannot_be_repeated_is_refused(body: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        echo(**body)
    assert caught.value.param == param
    assert caught.value.message.startswith(message)


def test_metadata_up_to_the_limits_is_kept() -> None:
    largest = {f"{i:064}": "v" * 512 for i in range(16)}
    assert echo(metadata=largest)["metadata"] == largest


def test_deepseek_accepts_the_sampling(deepseek_check: Callable[[Any], tuple[int, str | None]]) -> None:
    everything = sampling(
        max_output_tokens=10**9,
        temperature=2,
        top_p=0,
        presence_penalty=-2,
        frequency_penalty=2,
        top_logprobs=20,
        user="me",
    )
    for thinking in ("enabled", "disabled"):
        body = {
            "model": "deepseek-flash",
            "messages": [{"role": "user", "content": "Hi"}],
            "thinking": {"type": thinking},
            **everything,
        }
        assert deepseek_check(body) == (200, None)


def test_the_echo_tells_where_the_request_stands() -> None:
    place = Place(previous_response_id="resp_1", store=True, background=True)
    told = parameters.echo({}, "high", parallel=True, place=place)
    assert told == {**echo(), "previous_response_id": "resp_1", "store": True, "background": True}


def test_a_conversation_is_only_there_where_there_is_one() -> None:
    told = parameters.echo({}, "high", parallel=True, place=Place(conversation="conv_1"))
    assert told == {**echo(), "conversation": {"id": "conv_1"}}
