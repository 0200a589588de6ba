"""No secret survives, in whatever part of a record it hides."""

import io
import json
import logging
import sys
import time
from urllib.parse import quote

import pytest

from deepseek_proxy.errors import InvalidRequest, UpstreamError
from deepseek_proxy.ops.logs import JsonFormatter, TerminalFormatter
from deepseek_proxy.ops.redaction import Redactor, mask, masked, secrets_of
from deepseek_proxy.settings import Settings, isolated

KEY = "sk-0123456789abcdef0123456789abe78f"
ODD = 'correct "horse", battery\\staple über alles'
SEAL = "c2VhbHNlYWxzZWFsc2VhbHNlYWxzZWFsc2VhbHNlYWw="


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.fixture(params=[JsonFormatter, TerminalFormatter])
def output(request):
    """A logger of its own and the text it has written, once as JSON and once for a terminal."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param())
    handler.addFilter(Redactor([KEY, ODD, SEAL]))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, stream


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"Authorization: Bearer {KEY}",
        f"authorization=Basic {SEAL}",
        f"{{'x-api-key': '{KEY}'}}",
        f'{{"api_key":"{KEY}"}}',
        json.dumps({"body": json.dumps({"api_key": KEY})}),
        f"(b'authorization', b'Bearer {KEY}')",
        f"https://user:{KEY}@proxy.example:8080/path",
        f"GET /v1/models?api_key={KEY}&x=1",
        f"password = {ODD}",
        f"[{KEY}][{SEAL}]",
    ],
)
def test_exact_values_are_masked_wherever_they_stand(output, text):
    logger, stream = output
    logger.warning(text)
    logger.warning("%s", text)
    logger.warning("%r %s", text, text, extra={"note": text, "deep": [text, {text: (text,)}]})
    logger.warning("x", extra={"raw": text.encode(), "pair": (text, text), "set": {text}})
    written = stream.getvalue()
    for secret in (KEY, ODD, SEAL, KEY[3:], "horse", "battery", json.dumps(ODD)[1:-1]):
        assert secret not in written
    assert written


@pytest.mark.parametrize(
    "text", [repr(ODD), json.dumps({"k": ODD}), json.dumps(ODD, ensure_ascii=False), quote(ODD)]
)
def test_exact_values_are_masked_in_every_usual_spelling(output, text):
    logger, stream = output
    logger.warning("it is %s, that is", text)
    assert "horse" not in stream.getvalue()
    assert "that is" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key sk-abcdefghijklmnop1234 end", "key sk-…1234 end"),
        ("Incorrect key sk-proj-A1_b2-C3d4", "Incorrect key sk-…C3d4"),
        ("key dsp-abcdefghijklmnop1234 end", "key …1234 end"),
        ("key \u017fk-abcdefghijklmnop1234 end", "key …1234 end"),  # a long s is an s, where case is ignored
        ("Bearer abcdefghijkl", "Bearer …ijkl"),
        ("Basic dXNlcjpwYXNz", "Basic …YXNz"),
        ("authorization=abcdefghijkl", "authorization=…ijkl"),
        ("access_token=abcdefghijkl", "access_token=…ijkl"),
        ("client_secret=abcdefghijkl", "client_secret=…ijkl"),
        ("Bearer short", "Bearer ***"),
        ("X-Api-Key: abcdefghijkl, Accept: */*", "X-Api-Key: …ijkl, Accept: */*"),
        ('{"password": "hunter2"}', '{"password": "***"}'),
        ("redis://:pa@ss@host:6379/0", "redis://:***@host:6379/0"),
        ("http://me:secret@host/a and ftp://you:x@h", "http://me:***@host/a and ftp://you:***@h"),
        ("GET /v1/x?token=abc HTTP/1.1", "GET /v1/x?… HTTP/1.1"),
        ("disk-usage-monitor and task-force-unit", "disk-usage-monitor and task-force-unit"),
        ("https://api.deepseek.com/chat/completions", "https://api.deepseek.com/chat/completions"),
        ("max_tokens=512, what? yes: 10:30", "max_tokens=512, what? yes: 10:30"),
    ],
)
def test_unknown_secrets_are_found_by_their_form(text, expected):
    redactor = Redactor()
    assert redactor.text(text) == expected
    assert redactor.text(expected) == expected


@pytest.mark.parametrize("name", ["authorization", "X-Api-Key", "deepseek_api_key", "PASSWORD"])
def test_a_field_with_a_secret_name_is_masked_whole(name):
    redactor = Redactor()
    assert redactor.value("two words", name) == "***"
    assert redactor.value({"headers": {name: "two words"}}) == {"headers": {name: "***"}}
    assert redactor.value([(name, "two words"), ("Accept", "text/html")]) == [
        [name, "***"],
        ["Accept", "text/html"],
    ]
    assert redactor.value([(name.encode(), b"two words")]) == [[name, "***"]]


def test_values_that_cannot_hold_a_secret_keep_their_type():
    fields = {"a": 1, "b": 2.5, "c": True, "d": None, "e": ["x", 3]}
    assert Redactor().value(fields) == fields


def raise_chain() -> None:
    local = KEY
    try:
        try:
            raise ValueError(f"the prompt text and {local}")
        except ValueError as error:
            raise UpstreamError(f"the upstream refused {local}") from error
    except UpstreamError:
        raise OSError(5, f"cannot reach http://u:{local}@host/")  # noqa: B904  # the context is what is tested


def test_a_traceback_names_the_place_and_hides_the_data(output):
    logger, stream = output
    try:
        raise_chain()
    except OSError:
        logger.exception("failed")
    written = stream.getvalue()
    assert KEY not in written
    assert "prompt text and sk" not in written
    for part in (
        "ValueError",
        "UpstreamError: the upstream refused sk-…e78f",
        "http://u:***@host",
        "raise_chain",
    ):
        assert part in written
    assert "direct cause" in written
    assert "During handling" in written


def test_only_messages_that_cannot_quote_a_request_are_shown():
    def text(error: Exception, **options: bool) -> str:
        record = logging.makeLogRecord({"exc_info": (type(error), error, None)})
        Redactor(**options).filter(record)
        assert record.exc_text is not None
        return record.exc_text

    assert text(KeyError("said the user")) == "KeyError"
    assert text(InvalidRequest("no such role: said the user")) == "deepseek_proxy.errors.InvalidRequest"
    assert text(TimeoutError("timed out")) == "TimeoutError: timed out"
    assert text(KeyError("said the user"), exception_messages=True) == "KeyError: 'said the user'"


def test_an_exception_cycle_ends():
    first, second = ValueError(), TypeError()
    first.__context__, second.__context__ = second, first
    record = logging.makeLogRecord({"exc_info": (ValueError, first, None)})
    Redactor().filter(record)
    assert record.exc_text is not None
    assert record.exc_text.count("ValueError") == 1


def test_a_stack_and_a_cached_traceback_are_masked(output):
    logger, stream = output
    logger.warning("look", stack_info=True)
    record = logging.makeLogRecord(
        {"levelno": 40, "msg": "m", "exc_text": f"was {KEY}", "stack_info": f"in {KEY}"}
    )
    logger.handle(record)
    assert KEY not in stream.getvalue()
    assert stream.getvalue().count("sk-…e78f") == 2


@pytest.mark.parametrize("args", [("a", "b"), (Unprintable(),), ({"k": 1},)])
def test_a_broken_record_is_written_and_never_raises(output, args):
    logger, stream = output
    logger.warning("%d items", *args)
    assert "%d items (its arguments do not fit)" in stream.getvalue()


def test_two_handlers_mask_a_record_once():
    redactor = Redactor([KEY])
    record = logging.makeLogRecord({"msg": f"Bearer {KEY}"})
    assert redactor.filter(record)
    once = record.getMessage()
    assert redactor.filter(record)
    assert record.getMessage() == once == "Bearer sk-…e78f"
    other = Redactor(["Bearer"])
    other.filter(record)
    assert "Bearer" not in record.getMessage()


@pytest.mark.parametrize(
    "text",
    [
        "?" * 50_000,
        "/" * 50_000,
        "api_key" * 8_000,
        "://" * 15_000,
        "sk-" * 15_000,
        'api_key"' + " " * 50_000,
    ],
)
def test_hostile_text_is_masked_in_linear_time(text):
    start = time.process_time()
    Redactor([KEY]).text(text)
    assert time.process_time() - start < 1


def test_what_may_be_shown_of_a_secret():
    assert masked(KEY) == "sk-…e78f"
    assert masked("abcdefghijkl") == "…ijkl"
    assert masked("sk-short") == "***"


def settings() -> Settings:
    return Settings(
        deepseek_api_key=KEY,
        upstream_proxy="http://user:pass%20word@proxy:3128",
        seal_keys=(SEAL,),
        model_aliases={"gpt-5": "deepseek-flash"},
    )


def test_the_secrets_of_the_settings_are_all_found():
    assert secrets_of(settings()) == {KEY, SEAL, "pass%20word", "pass word"}
    assert secrets_of(Settings(deepseek_api_key=None)) == set()


def test_masked_settings_are_complete_and_hold_no_secret():
    shown = mask(settings())
    assert list(shown) == list(Settings.model_fields)
    assert shown["deepseek_api_key"] == "sk-…e78f"
    assert shown["upstream_proxy"] == "http://***@proxy:3128"
    assert shown["model_aliases"] == {"gpt-5": "deepseek-flash"}
    assert shown["upstream_url"] == "https://api.deepseek.com/"
    assert shown["log_dir"] is None
    assert shown["port"] == 8787
    text = json.dumps(shown)
    for secret in secrets_of(settings()):
        assert secret not in text


def test_the_filter_costs_microseconds():
    redactor = Redactor([KEY, SEAL])
    fields = {"request_id": "req_1", "path": "/v1/responses", "model": "deepseek-flash", "status": 200}
    start = time.process_time()
    for _ in range(500):
        redactor.filter(logging.makeLogRecord({"msg": "POST /v1/responses 200 in 1.23 s", **fields}))
    assert (time.process_time() - start) / 500 < 0.001, sys.version


def test_keys_of_clients_are_secrets_at_any_depth():
    settings = isolated(keys=["sk-canary-of-a-list", {"key": "sk-canary-of-a-table", "name": "alice"}])
    assert {"sk-canary-of-a-list", "sk-canary-of-a-table"} <= secrets_of(settings)
    shown = mask(settings)["keys"]
    assert shown[1] == {"key": "sk-…able", "name": "alice"}
    assert "canary" not in str(shown)
