"""That docs/mapping/chat.md names everything the code knows, and says of failures what is so."""

from __future__ import annotations

import re
from typing import Any

import pytest
from harness.chats import context, folded, machine
from harness.mapping import WORDS, Page

from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate.chat import messages, parameters
from deepseek_proxy.translate.chat.request import parse
from deepseek_proxy.translate.functions import KINDS
from deepseek_proxy.translate.hub import Chunk

PAGE = Page("chat.md")


def test_every_field_of_a_request_is_named_once() -> None:
    assert sorted(PAGE.listed("Fields of the request")) == sorted(parameters.KNOWN_FIELDS)


def test_every_field_has_one_of_the_words_that_the_page_explains() -> None:
    assert {row[1] for row in PAGE.rows("Fields of the request")} == WORDS
    assert {*re.findall(r"\*\*(\w+)\*\*", PAGE.text)} >= WORDS


WRONG: dict[str, Any] = {"n": 2, "modalities": ["audio"]}


def test_what_the_page_calls_refused_is_refused() -> None:
    refused = PAGE.listed("Fields of the request", "refused")
    assert sorted(refused) == sorted(WRONG)
    body = {"model": "deepseek-flash", "messages": [{"role": "user", "content": "Hi"}]}
    for name in refused:
        with pytest.raises(ProxyError) as caught:
            parse({**body, name: WRONG[name]}, context())
        assert (caught.value.param or "").startswith(name)


def test_every_role_is_named() -> None:
    assert {*PAGE.listed("Messages")} == {*messages._SYSTEM_ROLES, *messages._MODEL_ROLES, "user"}


def test_every_tool_is_named() -> None:
    assert {*PAGE.listed("Tools")} == KINDS | {"web_search"}


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "aborted", "new"])
def test_what_the_page_calls_a_failure_is_one(reason: str) -> None:
    playing = machine()
    assert "error" in folded(playing.feed(Chunk(finish_reason=reason)) + playing.finish())


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_what_the_page_calls_kept_is_kept(reason: str) -> None:
    playing = machine()
    answer = folded(playing.feed(Chunk(finish_reason=reason)) + playing.finish())
    assert answer["choices"][0]["finish_reason"] == reason
