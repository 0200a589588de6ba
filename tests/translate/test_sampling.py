from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import sampling


def test_what_is_left_out_stays_out() -> None:
    assert {**sampling.limit({}, "n", 10), **sampling.shape({}), **sampling.user({})} == {}
    assert sampling.logprobs(wanted=False, top=0) == {}


@pytest.mark.parametrize(("asked", "sent"), [(1, 1), (10, 10), (11, 10), (5.0, 5)])
def test_a_limit_is_at_most_the_models_own(asked: float, sent: int) -> None:
    assert sampling.limit({"max": asked}, "max", 10) == {"max_tokens": sent}


def test_the_shape_of_the_distribution() -> None:
    body = {"temperature": 0.5, "top_p": 0, "presence_penalty": -2, "frequency_penalty": 2}
    assert sampling.shape(body) == {**body, "top_p": 0.01}


def test_log_probabilities() -> None:
    assert sampling.logprobs(wanted=True, top=0) == {"logprobs": True}
    assert sampling.logprobs(wanted=True, top=3) == {"logprobs": True, "top_logprobs": 3}


def test_a_user_is_always_the_same_hash() -> None:
    sent = sampling.user({"user": "someone"})
    assert sent == sampling.user({"safety_identifier": "someone", "user": "other"})
    assert len(sent["user_id"]) == 32
    assert "someone" not in sent["user_id"]


@pytest.mark.parametrize(
    "body",
    [{"temperature": 2.1}, {"top_p": -0.1}, {"presence_penalty": 3}, {"frequency_penalty": "high"}],
)
def test_a_wrong_value_is_refused_with_its_path(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sampling.shape(body)
    assert refused.value.param in body
