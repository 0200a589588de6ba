from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.chat import parameters

LIMIT = 1000


def shape(**body: Any) -> dict[str, Any]:
    return parameters.shape(body, LIMIT)


def refusal(**body: Any) -> str | None:
    try:
        parameters.refuse(body)
        shape(**body)
        parameters.switch(body)
    except InvalidRequest as refused:
        return refused.param
    return "nothing"


def test_what_is_left_out_stays_out() -> None:
    assert shape() == shape(stop=None, logprobs=False, n=1, stream_options=None, seed=5) == {}


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({"max_tokens": 10**7}, LIMIT),
    ],
)
def test_both_names_of_the_limit(body: dict[str, Any], sent: int) -> None:
    assert shape(**body) == {"max_tokens": sent}


@pytest.mark.parametrize(
    ("stop", "sent"), [("END", {"stop": "END"}), (["a", "b"], {"stop": ["a", "b"]}), ([], {}), (None, {})]
)
def test_stop_sequences(stop: Any, sent: dict[str, Any]) -> None:
    assert shape(stop=stop) == sent


def test_log_probabilities() -> None:
    assert shape(logprobs=True) == {"logprobs": True}
    assert shape(logprobs=True, top_logprobs=3) == {"logprobs": True, "top_logprobs": 3}


def test_deepseeks_own_user_id_is_kept_and_any_other_is_hashed() -> None:
    assert shape(user_id="team-1_a", user="b") == {"user_id": "team-1_a"}
    hashed = shape(user_id="someone@example.com")
    assert hashed == shape(user="someone@example.com")
    assert "@" not in hashed["user_id"]


@pytest.mark.parametrize(
    ("kind", "switch"), [("enabled", True), ("adaptive", True), ("disabled", False), (None, None)]
)
def test_deepseeks_own_switch(kind: str | None, switch: bool | None) -> None:
    assert parameters.switch({"thinking": {"type": kind, "budget_tokens": 5}}) is switch
    assert parameters.switch({}) is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"n": "1"}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities[1]"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream_options": {}, "stream": False}, "stream_options"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": ["a", 5]}, "stop[1]"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": {}}, "stop"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": "yes"}, "logprobs"),
        ({"thinking": {"type": "sometimes"}}, "thinking.type"),
        ({"thinking": True}, "thinking"),
        ({"user_id": 5}, "user_id"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(body: dict[str, Any], param: str) -> None:
    assert refusal(**body) == param


def test_what_asks_for_nothing_special_is_not_refused() -> None:
    parameters.refuse({"n": 1, "modalities": ["text"], "stream": True, "stream_options": {}})
