"""What OpenAI's SDKs make of a gateway with keys: the exceptions, their fields, and when they try again."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator

import openai
import pytest
from e2e.test_openai_npm import Node
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway

pytestmark = pytest.mark.e2e

KEYS = [
    {
        "name": "alice",
        "key": "the-key-of-alice-canary",
        "requests_per_minute": 60,
        "models": ["deepseek-flash"],
    },
    {"name": "bob", "key": "the-key-of-bob-canary-1", "requests_per_minute": 1},
    {"name": "carol", "key": "the-key-of-carol-canary", "tokens_per_day": 1},
    {"name": "erin", "key": "the-key-of-erin-canary-", "tokens_per_day": 1},
    {"name": "dave", "key": "the-key-of-dave-canary-", "requests_per_minute": 30},
]
ALICE, BOB, CAROL, ERIN, DAVE = (str(key["key"]) for key in KEYS)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    server.serve(deepseek.answers())
    yield server
    server.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Gateway]:
    settings = {"keys": json.dumps(KEYS)}
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), upstream.url, workers=2, settings=settings)
    yield gateway
    gateway.stop()


Connect = Callable[..., openai.OpenAI]


@pytest.fixture
def connect(gateway: Gateway) -> Iterator[Connect]:
    """Makes clients with a key, which do not try again unless told so."""
    with contextlib.ExitStack() as stack:

        def client(key: str, retries: int = 0) -> openai.OpenAI:
            url = f"http://127.0.0.1:{gateway.port}/v1"
            return stack.enter_context(openai.OpenAI(base_url=url, api_key=key, max_retries=retries))

        yield client


def ask(client: openai.OpenAI, model: str = "deepseek-flash") -> str:
    return client.responses.create(model=model, input="hi").output_text


def test_a_known_client_sees_what_is_left(connect: Connect) -> None:
    raw = connect(ALICE).responses.with_raw_response.create(model="deepseek-flash", input="hi")
    assert raw.parse().output_text == "Hello"
    assert raw.headers["x-ratelimit-limit-requests"] == "60"
    assert raw.headers["x-ratelimit-remaining-requests"] == "59"
    assert [model.id for model in connect(ALICE).models.list()][:1] == ["deepseek-flash"]


def test_an_unknown_one_is_told_once(connect: Connect, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers())
    with pytest.raises(openai.AuthenticationError) as raised:
        ask(connect(f"{ALICE}x", retries=2))
    assert (raised.value.status_code, raised.value.code) == (401, "invalid_api_key")
    assert raised.value.type == "authentication_error"
    assert raised.value.request_id
    assert upstream.requests == []


def test_another_model_is_a_permission_that_is_missing(connect: Connect) -> None:
    with pytest.raises(openai.PermissionDeniedError) as raised:
        ask(connect(ALICE), "deepseek-v4-pro")
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


def test_too_many_requests_are_a_rate_limit(connect: Connect) -> None:
    assert ask(connect(BOB)) == "Hello"
    with pytest.raises(openai.RateLimitError) as raised:
        ask(connect(BOB))
    assert (raised.value.code, raised.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert 1 <= int(raised.value.response.headers["retry-after"]) <= 60


def test_the_sdk_waits_as_long_as_it_is_told(connect: Connect, upstream: FakeUpstream) -> None:
    """One request comes back every two seconds."""
    upstream.serve(deepseek.answers())
    patient = connect(DAVE, retries=2)
    while (
        connect(DAVE)
        .responses.with_raw_response.create(model="deepseek-flash", input="hi")
        .headers["x-ratelimit-remaining-requests"]
        != "0"
    ):
        pass
    began = time.monotonic()
    assert ask(patient) == "Hello"
    assert time.monotonic() - began < 20


def test_a_day_that_is_used_up_is_not_asked_again(connect: Connect, upstream: FakeUpstream) -> None:
    assert ask(connect(CAROL)) == "Hello"
    upstream.serve(deepseek.answers())
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError) as raised:
        ask(connect(CAROL, retries=2))
    assert raised.value.code == "insufficient_quota"
    assert int(raised.value.response.headers["retry-after"]) > 0
    assert time.monotonic() - began < 5
    assert upstream.requests == []


def test_node_says_the_same(gateway: Gateway, connect: Connect) -> None:
    refused = Node(gateway, apiKey=f"{ALICE}x").error("create", input="hi")
    assert (refused["status"], refused["code"], refused["name"]) == (
        401,
        "invalid_api_key",
        "AuthenticationError",
    )
    assert ask(connect(ERIN)) == "Hello"
    used_up = Node(gateway, apiKey=ERIN, maxRetries=2)("create", {"model": "deepseek-flash", "input": "hi"})
    assert used_up["error"]["name"] == "RateLimitError"
    assert (used_up["error"]["code"], used_up["requests"]) == ("insufficient_quota", 1)
