"""The line of a request: what it holds, and what it never does. The page about it is complete."""

import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from deepseek_proxy.ops.record import RequestRecord

PAGE = Path(__file__).parents[2] / "docs" / "logs.md"

FULL = RequestRecord(
    request_id="req_1",
    dialect="responses",
    method="POST",
    path="/v1/responses",
    status=200,
    duration_seconds=1.23456789,
    model="gpt-5",
    upstream_model="deepseek-flash",
    stream=True,
    first_token_seconds=0.4,
    input_tokens=1200,
    cached_tokens=1000,
    output_tokens=300,
    reasoning_tokens=120,
    searches=2,
    turns=4,
    close_code=1000,
    cost_usd=0.000213,
    cache_saved_usd=0.000147,
    finish="tool_calls",
    heartbeats=2,
    client_gone=True,
    attempts=2,
    account="main",
    error_code="server_error",
    error_kind="upstream_truncated",
    client="alice",
    repairs={"orphan_result": 1},
    unknown_fields=("verbosity",),
    trace_id="0af7651916cd43dd8448eb211c80319c",
)


def refused(**more: object) -> RequestRecord:
    needed = {"request_id": "r", "dialect": "chat", "method": "POST", "path": "/x", "duration_seconds": 0.1}
    return RequestRecord(**{**needed, "status": 400, **more})  # type: ignore[arg-type]


def test_a_full_line_has_every_field():
    line = FULL.line()
    assert list(line) == [field.name for field in fields(RequestRecord)]
    assert line["duration_seconds"] == 1.2346
    assert line["cost_usd"] == 0.000213
    assert line["client"] == "alice"
    assert line["repairs"] == {"orphan_result": 1}
    assert line["unknown_fields"] == ["verbosity"]


def test_what_is_not_known_is_left_out():
    assert refused().line() == {
        "request_id": "r",
        "dialect": "chat",
        "method": "POST",
        "path": "/x",
        "status": 400,
        "duration_seconds": 0.1,
        "stream": False,
        "heartbeats": 0,
        "client_gone": False,
        "attempts": 0,
    }


def test_text_of_the_client_is_bounded():
    line = refused(model="m" * 9999, path="/" + "p" * 9999, unknown_fields=("f",) * 99).line()
    assert len(line["model"]) == len(line["path"]) == 120
    assert len(line["unknown_fields"]) == 20
    assert len(refused(path="/" + "p" * 9999).summary()) < 200


@pytest.mark.parametrize("name", ["tell me a story", "x" * 61, "", "秘密", "a\nb", 'a"b'])
def test_a_field_name_that_is_none_is_not_written(name):
    assert refused(unknown_fields=(name, "input[0].extra_key-1")).line()["unknown_fields"] == [
        "(unreadable)",
        "input[0].extra_key-1",
    ]


def test_the_sentence_says_what_matters():
    assert FULL.summary() == (
        "POST /v1/responses 200 in 1.23 s, first token 0.40 s, deepseek-flash, 1200 tokens in (1000 cached), "
        "300 out (120 thinking), 2 attempts, 4 turns, closed with 1000, client gone, server_error"
    )
    assert refused().summary() == "POST /x 400 in 0.10 s"
    assert refused(status=200, finish="stop").summary() == "POST /x 200 in 0.10 s, stop"


@pytest.mark.parametrize(
    ("status", "error_code", "failed"),
    [
        (200, None, False),
        (400, "invalid", False),
        (429, "x", False),
        (500, "x", True),
        (200, "server_error", True),
    ],
)
def test_failure_is_the_gateways_or_the_upstreams(status, error_code, failed):
    assert refused(status=status, error_code=error_code).failed is failed


def test_a_record_does_not_change():
    with pytest.raises(FrozenInstanceError):
        FULL.status = 500  # type: ignore[misc]


def test_the_page_lists_every_field_in_order():
    section = PAGE.read_text().split("## The line of a request")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [f.name for f in fields(RequestRecord)]
