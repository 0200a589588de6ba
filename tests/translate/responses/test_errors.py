from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy import errors as failures
from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate.openai_errors import http_body
from deepseek_proxy.translate.responses import errors

KINDS = [kind for kind in vars(failures).values() if isinstance(kind, type) and issubclass(kind, ProxyError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_stream_has_the_fields_of_the_http_body_and_always_a_code(kind: type[ProxyError]) -> None:
    error = kind("What to do.", param="input[3].content")
    fields, body = errors.stream_fields(error), http_body(error)["error"]
    assert (fields["type"], fields["param"]) == (body["type"], "input[3].content")
    assert fields["code"] == (body["code"] or "server_error")


def test_a_code_of_its_own_wins() -> None:
    assert errors.stream_fields(failures.InvalidRequest("No.", code="invalid_type"))["code"] == "invalid_type"


@pytest.mark.parametrize(("retry_after", "seconds"), [(None, 5), (0, 1), (0.2, 1), (7, 7), (7.1, 8)])
@pytest.mark.parametrize("kind", [failures.RateLimited, failures.UpstreamOverloaded])
def test_a_pause_is_said_in_whole_seconds(kind: Any, retry_after: float | None, seconds: int) -> None:
    error = kind("Too many requests.", retry_after=retry_after)
    in_stream = f"Too many requests. Please try again in {seconds}s."
    assert errors.stream_fields(error)["message"] == in_stream


def test_a_pause_is_not_said_twice() -> None:
    message = "Limit reached. Please try again in 9s."
    assert errors.stream_fields(failures.RateLimited(message))["message"] == message


def test_other_failures_keep_their_words_in_a_stream() -> None:
    assert errors.stream_fields(failures.UpstreamTruncated("Cut."))["message"] == "Cut."
