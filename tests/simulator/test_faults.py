"""Every fault, as a client on a real socket sees it."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deepseek_proxy.simulator import SimulatorConfig, faults, running
from deepseek_proxy.simulator.faults import FaultError
from deepseek_proxy.simulator.turns import Fault

KEY = "Bearer sk-simulator-test-0001"
CALL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


class Answer:
    """What came back before the connection ended; `broke` is how it ended, where that was no proper end."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.broke: Exception | None = None
        self.bytes = b""
        try:
            while data := response.read1(65_536):
                self.bytes += data
        except (http.client.HTTPException, OSError) as problem:
            self.broke = problem

    @property
    def chunks(self) -> list[dict[str, Any]]:
        lines = self.bytes.decode().replace("\r\n", "\n").split("\n\n")
        return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    @property
    def finishes(self) -> list[str]:
        choices = [choice for chunk in self.chunks for choice in chunk.get("choices", ())]
        return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]

    @property
    def text(self) -> str:
        choices = [choice for chunk in self.chunks for choice in chunk.get("choices", ())]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    @property
    def done(self) -> bool:
        return self.bytes.endswith((b"data: [DONE]\n\n", b"data: [DONE]\r\n\r\n"))


class Client:
    def __init__(self, base_url: str) -> None:
        self.address = base_url.removeprefix("http://")

    def ask(self, fault: str, prompt: str = "Good evening", *, stream: bool = True, **body: Any) -> Answer:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            whole = {
                "model": "deepseek-flash",
                "messages": [{"role": "user", "content": prompt}],
                "stream": stream,
                **body,
            }
            headers = {"Authorization": KEY, "X-Simulate": fault}
            connection.request("POST", "/chat/completions", json.dumps(whole), headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running() as base_url:
        yield Client(base_url)


def test_without_a_fault(client: Client) -> None:
    answer = client.ask("")
    assert (answer.status, answer.done, answer.finishes, answer.broke) == (200, True, ["stop"], None)


# -- instead of the answer ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("context-length", 400, b"maximum context length is 1048576 tokens"),
        ("content-risk", 400, b"Content Exists Risk"),
        ('400 message="Something, else"', 400, b'"Something, else"'),
        ("401", 401, b"Authentication Fails"),
        ("402", 402, b"Insufficient Balance"),
        ("422", 422, b"Failed to deserialize the JSON body"),
        ("429", 429, b"Too many requests"),
        ("500", 500, b"<html>"),
        ("503", 503, b"Service is too busy"),
        ("html", 200, b"<html>"),
        ("error-body", 200, b'{"error":{'),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_refusals(fault: str, status: int, words: bytes, stream: bool, client: Client) -> None:
    answer = client.ask(fault, stream=stream)
    assert (answer.status, words in answer.bytes, answer.broke) == (status, True, None)
    html = fault in ("500", "html")
    assert answer.headers["Content-Type"] == ("text/html" if html else "application/json")


def test_retry_after(client: Client) -> None:
    assert client.ask("429").headers["Retry-After"] is None
    assert client.ask("429 retry-after=3").headers["Retry-After"] == "3"


def test_so_many_times_and_then_an_answer(client: Client) -> None:
    prompts = ["first question", "first question", "second question", "first question", "second question"]
    statuses = [client.ask("503 times=2", prompt).status for prompt in prompts]
    assert statuses == [503, 503, 503, 200, 503]


# -- on what the model says -----------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "content_filter", "aborted"])
def test_finish_reasons(reason: str, client: Client) -> None:
    answer = client.ask(reason)
    assert (answer.finishes, answer.done) == ([reason], True)
    body = json.loads(client.ask(reason, stream=False).bytes)
    assert body["choices"][0]["finish_reason"] == reason


def test_an_empty_answer(client: Client) -> None:
    answer = client.ask("empty")
    assert (answer.text, answer.finishes, answer.done) == ("", ["stop"], True)


def test_a_stall_in_white_space(client: Client) -> None:
    answer = client.ask("whitespace tokens=50")
    assert answer.text == "{" + " \n" * 50
    assert answer.finishes == ["length"]


@pytest.mark.parametrize(
    ("fault", "opening"),
    [
        ("dsml", '<｜DSML｜ calls>\n<｜DSML｜ invoke name="f">'),
        ("dsml style=v4", '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="f">'),
        ("dsml style=v4 pipe=|", '<|DSML|tool_calls>\n<|DSML|invoke name="f">'),
    ],
)
def test_leaked_markup(fault: str, opening: str, client: Client) -> None:
    answer = client.ask(fault, '[[simulate: call f {"a": "x"}]]', tools=[CALL])
    assert answer.text.strip().startswith(opening)
    assert answer.finishes == ["stop"]
    assert client.ask(fault).text == client.ask("").text, "nothing to leak"


def test_markup_leaks_by_itself_where_no_tools_are_declared(client: Client) -> None:
    assert "<｜DSML｜ calls>" in client.ask("", "[[simulate: call f]]").text
    assert "<｜DSML｜tool_calls>" in client.ask("", "[[simulate: call f]]", model="deepseek-v4-pro").text


# -- on the chunks --------------------------------------------------------------------------------


def test_usage_in_a_chunk_of_its_own(client: Client) -> None:
    answer = client.ask("usage-chunk", stream_options={"include_usage": True})
    *_, before, last = answer.chunks
    assert (before["usage"], last["choices"]) == (None, [])
    assert last["usage"]["total_tokens"] > 0
    assert answer.done


def test_two_finish_reasons(client: Client) -> None:
    assert client.ask("two-finishes").finishes == ["stop", "length"]


def test_no_finish_reason(client: Client) -> None:
    answer = client.ask("no-finish")
    assert (answer.finishes, answer.done) == ([], True)


# -- on the bytes and their timing ----------------------------------------------------------------


def test_keep_alive_before_the_answer(client: Client) -> None:
    answer = client.ask("keep-alive seconds=0.2 interval=0.1")
    assert answer.bytes.startswith(b": keep-alive\n\n" * 3 + b"data: {")
    assert answer.done
    answer = client.ask("keep-alive seconds=0.2 interval=0.1", stream=False)
    assert answer.bytes.startswith(b'\n\n\n{"id"')
    assert json.loads(answer.bytes)["choices"]


@pytest.mark.parametrize(
    ("fault", "least_seconds"),
    [("silence seconds=0.3", 0.3), ("stall seconds=0.3", 0.3), ("slow seconds=0.03", 0.2)],
)
def test_pauses(fault: str, least_seconds: float, client: Client) -> None:
    started = time.monotonic()
    answer = client.ask(fault)
    assert time.monotonic() - started > least_seconds
    assert answer.done


def test_a_truncated_stream(client: Client) -> None:
    answer = client.ask("truncate after=4")
    assert (len(answer.chunks), answer.finishes, answer.done, answer.broke) == (4, [], False, None)


def test_a_truncated_body(client: Client) -> None:
    answer = client.ask("truncate after=4", stream=False)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.bytes)
    assert answer.broke is None


def test_no_done(client: Client) -> None:
    answer = client.ask("no-done")
    assert (answer.finishes, answer.done, answer.broke) == (["stop"], False, None)


@pytest.mark.parametrize("stream", [True, False])
def test_a_dropped_connection(stream: bool, client: Client) -> None:
    assert isinstance(client.ask("drop", stream=stream).broke, http.client.IncompleteRead)


@pytest.mark.parametrize("stream", [True, False])
def test_a_reset_connection(stream: bool, client: Client) -> None:
    assert isinstance(client.ask("reset", stream=stream).broke, ConnectionResetError)


def test_a_malformed_chunk(client: Client) -> None:
    answer = client.ask("malformed after=2")
    frames = answer.bytes.split(b"\n\n")
    with pytest.raises(json.JSONDecodeError):
        json.loads(frames[2][6:])
    assert answer.done


def test_an_error_in_the_stream(client: Client) -> None:
    answer = client.ask("error-chunk after=2")
    assert answer.chunks[2]["error"]["type"] == "service_unavailable_error"
    assert (len(answer.chunks), answer.done) == (3, False)


def test_a_huge_line(client: Client) -> None:
    answer = client.ask("huge bytes=100000")
    assert max(map(len, answer.bytes.split(b"\n"))) > 100_000
    assert answer.done


def test_comments_that_never_end(client: Client) -> None:
    connection = http.client.HTTPConnection(client.address, timeout=10)
    body = {"model": "deepseek-flash", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    headers = {"Authorization": KEY, "X-Simulate": "endless-comments interval=0.01"}
    connection.request("POST", "/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    seen = b""
    while seen.count(b": keep-alive\n\n") < 5:
        seen += response.read1()
    connection.close()
    assert b'"finish_reason":"stop"' in seen
    assert b"[DONE]" not in seen


def test_frames_in_single_bytes(client: Client) -> None:
    assert client.ask("split", "say 世界 é").text == "世界 é"


def test_crlf(client: Client) -> None:
    answer = client.ask("crlf")
    assert re.search(rb"[^\r]\n", answer.bytes) is None
    assert (answer.finishes, answer.done) == (["stop"], True)


def test_faults_add_up(client: Client) -> None:
    answer = client.ask("keep-alive seconds=0, truncate after=2, crlf")
    assert answer.bytes.startswith(b": keep-alive\r\n\r\ndata: ")
    assert len(answer.chunks) == 2


# -- from where -----------------------------------------------------------------------------------


def test_a_fault_for_every_answer() -> None:
    with running(SimulatorConfig(fault="503 times=2")) as base_url:
        client = Client(base_url)
        assert [client.ask("", prompt).status for prompt in "abc"] == [503, 503, 200]


def test_a_fault_in_a_directive(client: Client) -> None:
    assert client.ask("", "[[simulate: fault 402]]").status == 402


def test_a_bad_header_is_told(client: Client) -> None:
    answer = client.ask("nonsense")
    assert answer.status == 400
    assert b"There is no fault 'nonsense'. There are: context-length, " in answer.bytes


def test_a_bad_setting_is_told() -> None:
    with (
        pytest.raises(FaultError, match="There is no fault 'status=503'"),
        running(SimulatorConfig(fault="status=503")),
    ):
        pass


# -- the grammar ----------------------------------------------------------------------------------


def test_options_have_defaults() -> None:
    assert faults.parse("truncate, 429 retry-after=2 times=1") == (
        Fault("truncate", (("times", 0), ("after", 3))),
        Fault("429", (("times", 1.0), ("retry-after", 2.0))),
    )
    assert faults.parse("  ") == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("truncate x=1", "The fault 'truncate' has no option 'x'. It has: times, after."),
        ("truncate after=soon", "The option 'after' of 'truncate' must be a number."),
        ("truncate after", "The option 'after' of 'truncate' must be a number."),
        ('400 message="x', "cannot be read"),
    ],
)
def test_what_cannot_be_read(text: str, reason: str) -> None:
    with pytest.raises(FaultError, match=re.escape(reason)):
        faults.parse(text)


def test_every_fault_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    for name, options in faults.OPTIONS.items():
        row = next((line for line in page.splitlines() if line.startswith(f"| `{name}` |")), None)
        assert row is not None, name
        for option, default in options.items():
            assert f"`{option}" in row, (name, option, default)
