"""That docs/mapping/responses.md names everything the code knows, and says of failures what is so."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from harness.machines import context, judged, machine
from harness.mapping import WORDS, Page, named

from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate import openai_errors as errors
from deepseek_proxy.translate.history import Repair
from deepseek_proxy.translate.hub import Chunk
from deepseek_proxy.translate.responses import parameters, tools
from deepseek_proxy.translate.responses.items import _READERS
from deepseek_proxy.translate.responses.request import parse
from deepseek_proxy.translate.tools import ToolKind
from deepseek_proxy.upstream import failures

PAGE = Page("responses.md")


def test_every_field_of_a_request_is_named_once() -> None:
    assert sorted(PAGE.listed("Fields of the request")) == sorted(parameters.KNOWN_FIELDS)


def test_every_field_has_one_of_the_words_that_the_page_explains() -> None:
    assert {row[1] for row in PAGE.rows("Fields of the request")} == WORDS
    assert {*re.findall(r"\*\*(\w+)\*\*", PAGE.text)} >= WORDS


WRONG: dict[str, Any] = {
    "prompt": {"id": "pmpt_1"},
}


def test_what_the_page_calls_refused_is_refused() -> None:
    refused = PAGE.listed("Fields of the request", "refused")
    assert sorted(refused) == sorted(WRONG)
    for name in refused:
        with pytest.raises(ProxyError) as caught:
            parse({"model": "deepseek-flash", "input": "Hi", name: WRONG[name]}, context())
        assert caught.value.param == name


def test_every_item_that_is_read_is_named_once() -> None:
    assert sorted(PAGE.listed("Input items")) == sorted(_READERS)


def test_every_tool_is_named() -> None:
    declarable = {*tools._CLIENT_RUN, *tools._REFUSED, "function", "custom", "namespace"}
    assert declarable <= {*PAGE.listed("Tools")}
    # `open_page` is declared by nobody: it comes with `web_search`.
    assert {*ToolKind} - {ToolKind.OPEN_PAGE} <= {*PAGE.listed("Tools")}


def test_every_repair_is_named_once() -> None:
    left_out = ["item_left_out", "part_left_out", "tool_left_out", "turn_left_out"]
    assert sorted(PAGE.listed("Repair of the history")) == sorted([*Repair, *left_out])


STATUSES = {
    "stop": "completed",
    "tool_calls": "completed",
    "length": "incomplete",
    "content_filter": "incomplete",
    "insufficient_system_resource": "failed",
    "aborted": "failed",
}


@pytest.mark.parametrize(("reason", "status"), STATUSES.items())
def test_every_finish_reason_ends_as_the_page_says(reason: str, status: str) -> None:
    ends = [row for row in PAGE.rows("The answer") if {*named(row[1])[:1]} & {*STATUSES.values()}]
    (row,) = [row for row in ends if reason in named(row[0])]
    assert named(row[1])[0] == status
    playing = machine()
    final = judged(playing.start() + playing.feed(Chunk(finish_reason=reason)) + playing.finish())
    assert final["status"] == status
    if status == "incomplete":
        assert final["incomplete_details"]["reason"] == named(row[1])[1]


ERRORS = [row for row in PAGE.rows("DeepSeek's errors") if row[0][0].isdigit()]


@pytest.mark.parametrize(
    ("status", "message", "told"),
    [
        (int(status), message, row[1])
        for row in ERRORS
        for status in re.findall(r"\d{3}", row[0])
        for message in re.findall('"(.+?)"', row[0]) or ["Something."]
    ],
)
def test_every_error_of_deepseek_ends_as_the_page_says(status: int, message: str, told: str) -> None:
    body = json.dumps({"error": {"message": message, "type": "x", "param": None, "code": "x"}}).encode()
    error = failures.from_status(status, {"Retry-After": "7"}, body)
    expected, code = re.findall(r"^(\d{3}) `(\w+)`", told)[0]
    assert (errors.http_status(error), errors.http_body(error)["error"]["code"]) == (int(expected), code)
    if "Retry-After" in told:
        assert errors.http_headers(error) == {"Retry-After": "7"}
    if "not to try again" in told:
        assert errors.http_headers(error) == {"x-should-retry": "false"}
