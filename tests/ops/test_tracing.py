"""Traces: what is in a span and what never is, W3C context in and out, and nothing where they are off."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.wire import Request, Wire
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

from deepseek_proxy.app import create_app
from deepseek_proxy.ops import logs, tracing
from deepseek_proxy.ops.tracing import Tracing
from deepseek_proxy.settings import SettingsError, isolated

ROOT = Path(__file__).parents[2]
PROMPT = "the canary word is heliotrope"
ANSWER = "the answering canary is marigold"
KEY = "sk-tracing-canary-2b9e"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    server.serve(deepseek.answers([ANSWER], ["hm"]))
    yield server
    server.close()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def app(tmp_path: Path, upstream: FakeUpstream, exporter: InMemorySpanExporter) -> Iterator[Flask]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings = isolated(
        state_dir=tmp_path,
        upstream_url=upstream.url,
        log_dir=tmp_path,
        log_stderr="never",
        upstream_attempts=1,
    )
    yield create_app(settings, traces=Tracing(provider, "api.deepseek.com", 443))
    logs.close()


def ask(app: Flask, stream: bool = True, **headers: str) -> Any:
    response = app.test_client().post(
        "/v1/responses",
        json={"model": "gpt-5", "input": PROMPT, "stream": stream},
        headers={"Authorization": f"Bearer {KEY}", "X-Request-ID": "req_t", **headers},
    )
    response.get_data()
    response.close()
    return response


def spans(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, ReadableSpan]:
    """The span of the inference, and that of the request around it."""
    inference, request = exporter.get_finished_spans()
    return inference, request


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_has_two_spans_with_the_conventions_attributes(app, exporter, stream):
    ask(app, stream)
    inference, request = spans(exporter)
    assert (request.name, request.kind) == ("POST /v1/responses", SpanKind.SERVER)
    assert (inference.name, inference.kind) == ("chat deepseek-flash", SpanKind.CLIENT)
    assert inference.parent.span_id == request.context.span_id
    assert request.parent is None
    got = dict(inference.attributes)
    first = got.pop("gen_ai.response.time_to_first_chunk", None)
    assert (first is not None and 0 < first < 5) is stream
    assert 0 < got.pop("deepseek_proxy.cost_usd") < 0.001
    assert got == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "deepseek",
        "gen_ai.request.model": "deepseek-flash",
        "gen_ai.request.stream": stream,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 32,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.usage.reasoning.output_tokens": 4,
        "server.address": "api.deepseek.com",
        "server.port": 443,
        "deepseek_proxy.attempts": 1,
    }
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/responses",
        "http.response.status_code": 200,
        "url.path": "/v1/responses",
        "deepseek_proxy.request_id": "req_t",
        "deepseek_proxy.dialect": "responses",
        "deepseek_proxy.client_gone": False,
        "deepseek_proxy.heartbeats": 0,
    }
    assert {span.status.status_code for span in (inference, request)} == {StatusCode.UNSET}


def test_the_names_are_those_of_the_conventions(app, exporter):
    ask(app)
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    used = {name for span in spans(exporter) for name in span.attributes if name.startswith("gen_ai.")}
    assert len(used) > 8
    assert used <= known
    assert gen_ai_attributes.GenAiProviderNameValues.DEEPSEEK.value == tracing.PROVIDER


def test_no_prompt_answer_or_key_is_in_a_span(app, exporter):
    ask(app)
    written = "".join(span.to_json() for span in spans(exporter))
    assert not [word for word in (PROMPT, ANSWER, KEY, "canary") if word in written]


def test_the_clients_trace_goes_on_at_deepseek(app, exporter, upstream):
    seen: list[Request] = []

    def handler(request: Request, wire: Wire) -> None:
        seen.append(request)
        deepseek.answers()(request, wire)

    upstream.serve(handler)
    ask(app, traceparent=f"00-{TRACE_ID}-{PARENT_ID}-01", tracestate="vendor=1")
    inference, request = spans(exporter)
    assert f"{request.context.trace_id:032x}" == TRACE_ID
    assert f"{request.parent.span_id:016x}" == PARENT_ID
    assert seen[0].headers["traceparent"] == f"00-{TRACE_ID}-{inference.context.span_id:016x}-01"
    assert seen[0].headers["tracestate"] == "vendor=1"


def test_the_log_line_names_the_trace(app, exporter, tmp_path):
    ask(app, traceparent=f"00-{TRACE_ID}-{PARENT_ID}-01")
    logs.close()
    (line,) = [json.loads(line) for line in (tmp_path / logs.GATEWAY_FILE).read_text().splitlines()]
    assert line["trace_id"] == TRACE_ID


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{PARENT_ID}-01"])
def test_a_context_that_is_none_begins_a_new_trace(app, exporter, header):
    ask(app, traceparent=header)
    _, request = spans(exporter)
    assert request.parent is None


@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_is_the_spans_failure(app, exporter, upstream, stream):
    upstream.serve(deepseek.refuses(503, deepseek.error("busy", "server_error")))
    assert ask(app, stream).status_code == 503
    for span in spans(exporter):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "server_error"


def test_a_clients_mistake_is_no_failure_and_calls_nobody(app, exporter):
    response = app.test_client().post(
        "/v1/responses", json={"input": 1}, headers={"Authorization": f"Bearer {KEY}"}
    )
    response.close()
    (request,) = exporter.get_finished_spans()
    assert request.attributes["http.response.status_code"] == 400
    assert request.status.status_code is StatusCode.UNSET


def test_a_request_whose_answer_is_asked_for_again_has_one_inference(app, exporter, upstream):
    """The first answer does not fit its schema; both calls are the same piece of work, found by one id."""
    seen: list[str] = []

    def handler(request: Request, wire: Wire) -> None:
        seen.append(request.headers["traceparent"])
        wire.respond(200, deepseek.completion('{"n": 1}' if len(seen) > 1 else '{"n": "x"}'))

    upstream.serve(handler)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    text = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
    response = app.test_client().post(
        "/v1/responses",
        json={"model": "deepseek-flash", "input": PROMPT, "text": text},
        headers={"Authorization": f"Bearer {KEY}"},
    )
    response.close()
    inference, _ = spans(exporter)
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert inference.attributes["deepseek_proxy.attempts"] == 2
    assert inference.attributes["gen_ai.usage.input_tokens"] == 80


def test_the_operators_routes_leave_no_span(app, exporter):
    for path in ("/healthz", "/readyz", "/version", "/metrics", "/nowhere"):
        app.test_client().get(path).close()
    assert exporter.get_finished_spans() == ()


def test_they_are_off_unless_they_are_wanted(tmp_path):
    assert tracing.create(isolated(state_dir=tmp_path)) is None


def test_what_is_missing_is_said_before_anything_starts(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto", None)
    monkeypatch.setattr(sys, "meta_path", [_Hides("opentelemetry.exporter"), *sys.meta_path])
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SettingsError, match=r"traces: .*pip install 'deepseek-proxy\[otel\]'"):
        isolated(traces=True)


class _Hides:
    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, *_: object) -> None:
        if name.startswith(self._package):
            raise ModuleNotFoundError(name)


OFF = """
import sys
from deepseek_proxy.app import create_app
from deepseek_proxy.settings import isolated
app = create_app(isolated(state_dir=sys.argv[1], log_stderr="never"))
app.test_client().post("/v1/responses", json={"input": 1}).close()
print([name for name in ("opentelemetry.sdk.trace", "opentelemetry.exporter") if name in sys.modules])
"""


def test_nothing_is_imported_where_they_are_off(tmp_path):
    done = subprocess.run([sys.executable, "-c", OFF, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


# -- the whole way --------------------------------------------------------------------------------


class Collector:
    """Takes what OTLP exporters send."""

    def __init__(self) -> None:
        received: list[ExportTraceServiceRequest] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.received = received
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_server_that_stops_sends_what_it_has(tmp_path, upstream):
    """Through gunicorn and gevent, configured by OpenTelemetry's own variables."""
    collector = Collector()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "DEEPSEEK_PROXY_PORT": str(port),
        "DEEPSEEK_PROXY_STATE_DIR": str(tmp_path),
        "DEEPSEEK_PROXY_UPSTREAM_URL": upstream.url,
        "DEEPSEEK_PROXY_TRACES": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_SERVICE_NAME": "my-gateway",
    }
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", ROOT / "gunicorn.conf.py"],
            env=environment,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    try:
        assert _ask_over_http(port, server) == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(15) == 0, (tmp_path / "log").read_text()
    finally:
        if server.poll() is None:
            server.kill()
        server.wait()
        collector.close()
    resources = [resource for request in collector.received for resource in request.resource_spans]
    names = {attribute.key: attribute.value.string_value for attribute in resources[0].resource.attributes}
    assert names["service.name"] == "my-gateway"
    assert {
        span.name for resource in resources for scope in resource.scope_spans for span in scope.spans
    } == {
        "POST /v1/responses",
        "chat deepseek-flash",
    }
    assert "Traceback" not in (tmp_path / "log").read_text()


def _ask_over_http(port: int, server: subprocess.Popen[bytes]) -> int:
    from harness.client import Call

    body = json.dumps({"model": "deepseek-flash", "input": PROMPT, "stream": True}).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    deadline = time.monotonic() + 20
    while True:
        assert server.poll() is None
        try:
            with Call(port, "POST", "/v1/responses", body, headers) as call:
                reply = call.reply()
                assert reply.body
                return reply.status
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
