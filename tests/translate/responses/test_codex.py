"""What Codex is told apart by, and the form in which it is told of failures."""

from __future__ import annotations

import json

import pytest
from harness import deepseek
from harness.machines import (
    envelope,
    events_of,
    judged,
    machine,
    options,
    play,
    turn,
)

from deepseek_proxy import errors as failures
from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate.responses import codex
from deepseek_proxy.translate.responses.stream import ResponseStream

KINDS = [kind for kind in vars(failures).values() if isinstance(kind, type) and issubclass(kind, ProxyError)]

ASKS_AGAIN = "server_error"
WAITS = "rate_limit_exceeded"
STOPS = "invalid_prompt"
CODES = {
    failures.ProxyError: STOPS,
    failures.InvalidRequest: STOPS,
    failures.ContextOverflow: "context_length_exceeded",
    failures.ContentRejected: STOPS,
    failures.SearchLimitReached: STOPS,
    failures.Unauthenticated: STOPS,
    failures.PermissionDenied: STOPS,
    failures.ModelNotFound: STOPS,
    failures.NotFound: STOPS,
    failures.MethodNotAllowed: STOPS,
    failures.RequestTimeout: STOPS,
    failures.BodyCutOff: STOPS,
    failures.BodyTooLarge: STOPS,
    failures.UnsupportedEncoding: STOPS,
    failures.UpgradeRequired: STOPS,
    failures.QuotaExhausted: "insufficient_quota",
    failures.BudgetSpent: "insufficient_quota",
    failures.RateLimited: WAITS,
    failures.LimitReached: WAITS,
    failures.Saturated: WAITS,
    failures.AccountRefused: ASKS_AGAIN,
    failures.NoAccount: ASKS_AGAIN,
    failures.ProxyUnreachable: ASKS_AGAIN,
    failures.StoreUnavailable: ASKS_AGAIN,
    failures.StoreFull: ASKS_AGAIN,
    failures.UpstreamError: ASKS_AGAIN,
    failures.UpstreamOverloaded: WAITS,
    failures.UpstreamUnreachable: ASKS_AGAIN,
    failures.UpstreamTimeout: ASKS_AGAIN,
    failures.UpstreamTruncated: ASKS_AGAIN,
    failures.UpstreamMisconfigured: STOPS,
    failures.Draining: ASKS_AGAIN,
    failures.InternalError: ASKS_AGAIN,
}


# -- who asks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("originator", "user_agent", "it_is"),
    [
        ("codex_exec", None, True),
        ("codex-tui", "codex-tui/0.169.0 (Debian 13; x86_64)", True),
        (None, "codex_cli_rs/0.80.0 (Debian 13)", True),
        ("Codex Desktop", "Mozilla/5.0", True),
        (None, "OpenAI/Python 3.52.0", False),
        (None, "not-codex/1.0", False),
        (None, None, False),
    ],
)
def test_codex_is_known_by_its_headers(originator: str | None, user_agent: str | None, it_is: bool) -> None:
    assert codex.is_codex(originator, user_agent) == it_is


@pytest.mark.parametrize(
    ("metadata", "it_is"),
    [
        (json.dumps({"thread_source": "thread_title", "turn_id": "1"}), True),
        (json.dumps({"thread_source": "user"}), False),
        ("{}", False),
        ('"thread_title"', False),
        ("{cut", False),
        ("", False),
        (None, False),
    ],
)
def test_naming_a_thread_is_an_errand(metadata: str | None, it_is: bool) -> None:
    assert codex.is_errand(metadata) == it_is


@pytest.mark.parametrize(
    ("version", "known"),
    [
        (None, True),
        ("", True),
        ("nightly", True),
        ("0.80.0", False),
        ("0.118.0", False),
        ("0.141.9", False),
        ("0.142.0", True),
        ("0.169.0-alpha.3", True),
        ("1.0.0", True),
    ],
)
def test_old_versions_do_not_know_the_effort_max(version: str | None, known: bool) -> None:
    assert codex.knows_max_effort(version) == known


@pytest.mark.parametrize(
    ("version", "asks"),
    [
        (None, True),
        ("", True),
        ("0.118.0", False),
        ("0.161.2", False),
        ("0.162.0", True),
        ("0.169.0-alpha.3", True),
        ("1.0.0", True),
    ],
)
def test_old_versions_do_not_ask_for_a_catalogue(version: str | None, asks: bool) -> None:
    assert codex.asks_for_catalogue(version) == asks


# -- what it is told ------------------------------------------------------------------------------


def test_every_failure_is_in_the_table() -> None:
    assert {*CODES} == {*KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_code_of_a_failure_is_one_on_which_codex_does_the_right_thing(kind: type[ProxyError]) -> None:
    error = kind("What to do.", param="input[3]", retry_after=7)
    told = codex.as_stream_failure(error)
    assert told.code == CODES[kind]
    assert (told.message, told.param, told.retry_after) == ("What to do.", "input[3]", 7)
    assert type(told) is kind


def test_a_code_of_its_own_is_not_told() -> None:
    """Codex asks again for every code that it does not know."""
    error = failures.InvalidRequest("No such thing.", code="previous_response_not_found")
    assert codex.as_stream_failure(error).code == "invalid_prompt"


def test_a_failure_in_the_middle_is_told_alike() -> None:
    playing = machine(told=codex.as_stream_failure)
    frames = playing.start() + playing.fail(failures.UpstreamOverloaded("Busy.", retry_after=3))
    told = {"code": "rate_limit_exceeded", "message": "Busy. Please try again in 3s."}
    assert judged(frames)["error"] == told
    (event,) = [event for event in events_of(frames) if event["type"] == "error"]
    assert event["error"]["code"] == event["code"] == "rate_limit_exceeded"
    assert type(playing.error) is failures.UpstreamOverloaded
    assert playing.error.code == "server_error", "the log keeps what it was"


# -- what a response for it is like ---------------------------------------------------------------


def machine_for_codex() -> ResponseStream:
    return ResponseStream(envelope(), codex.adapted(options()))


CALL = [deepseek.call(0, "call_1", "exec_command"), deepseek.arguments(0, '{"cmd": "l')]


@pytest.mark.parametrize("frames", [[], [deepseek.text("Half of")], CALL], ids=["nothing", "text", "a call"])
def test_an_answer_that_the_filter_cut_off_has_failed(frames: list[bytes]) -> None:
    upstream = [deepseek.opening(), *frames, deepseek.last("content_filter"), deepseek.DONE]
    final = judged(play(upstream, turn(machine_for_codex())))
    assert final["status"] == "failed"
    assert final["error"]["code"] == "invalid_prompt"
    assert "content filter" in final["error"]["message"]
    assert final["usage"]["output_tokens"] == deepseek.USAGE["completion_tokens"], "it has to be paid for"


def test_an_answer_that_became_too_long_stays_incomplete() -> None:
    final = judged(play(deepseek.frames(["Half of"], reason="length"), turn(machine_for_codex())))
    assert final["status"] == "incomplete"
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}


def test_metadata_of_a_turn_is_that_of_the_body_before_that_of_the_header() -> None:
    body = {"client_metadata": {"x-codex-turn-metadata": "of the turn"}}
    assert codex.turn_metadata(body, "of the connection") == "of the turn"
    for other in ({}, {"client_metadata": {}}, {"client_metadata": "nonsense"}):
        assert codex.turn_metadata(other, "of the request") == "of the request"
    assert codex.turn_metadata({"client_metadata": {"x-codex-turn-metadata": 1}}, None) is None


def test_over_websocket_codex_goes_on_from_an_unknown_response_by_itself() -> None:
    unknown = failures.InvalidRequest("No.", code="previous_response_not_found")
    assert codex.understands_envelope(unknown)
    assert not codex.understands_envelope(failures.InvalidRequest("No."))
