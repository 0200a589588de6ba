"""OpenTelemetry traces: a span for each request, and in it one for the work that DeepSeek does for it.

The names are those of the semantic conventions for HTTP servers and for generative AI (inference spans, as of
semantic conventions 1.43); names of our own begin with `deepseek_proxy.`. W3C trace context comes in with the
client's request and goes out with ours. No prompt, answer or key is in a span.

OpenTelemetry is imported only where `traces` is set, and configured by its own `OTEL_*` variables: endpoint,
headers, sampler, service name. Refuses to know Flask, requests and dialects.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from deepseek_proxy.ops.record import MAX_TEXT_CHARACTERS, RequestRecord
from deepseek_proxy.settings import Settings
from deepseek_proxy.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

SERVICE_NAME: Final = "deepseek-proxy"
PROVIDER: Final = "deepseek"
CONTEXT_HEADERS: Final = ("traceparent", "tracestate")


class Tracing:
    """Begins traces. One for each application; `address` and `port` are DeepSeek's."""

    def __init__(self, provider: TracerProvider, address: str, port: int | None) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = provider.get_tracer("deepseek_proxy", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._server: dict[str, Any] = {"server.address": address}
        if port is not None:
            self._server["server.port"] = port

    def begin(self, method: str, route: str | None, context: Mapping[str, str]) -> Trace:
        """Begins the span of a request. `route` is its pattern (`/v1/models/<name>`).

        `context` holds the request's own `CONTEXT_HEADERS`, as far as it has them.
        """
        from opentelemetry.trace import SpanKind

        attributes = {"http.request.method": method, **({"http.route": route} if route else {})}
        span = self._tracer.start_span(
            f"{method} {route}" if route else method,
            context=self._propagator.extract(context),
            kind=SpanKind.SERVER,
            attributes=attributes,
        )
        return Trace(self, span)

    def _inference(self, parent: Context, model: str, stream: bool) -> Span:
        from opentelemetry.trace import SpanKind

        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": stream,
            **self._server,
        }
        return self._tracer.start_span(
            f"chat {model}", context=parent, kind=SpanKind.CLIENT, attributes=attributes
        )

    def _carry(self, context: Context) -> dict[str, str]:
        headers: dict[str, str] = {}
        self._propagator.inject(headers, context=context)
        return headers


class Trace:
    """The spans of one request. They are sent when `end()` is called with what became of it, or never."""

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span
        self._inference: Span | None = None

    @property
    def id(self) -> str:
        """The trace's id, as other tools show it."""
        return f"{self._span.get_span_context().trace_id:032x}"

    def call(self, model: str, stream: bool) -> dict[str, str]:
        """A call to DeepSeek begins: the headers that it takes along.

        All calls of a request, repeated ones too, are one piece of work with one span.
        """
        from opentelemetry.trace import set_span_in_context

        if self._inference is None:
            self._inference = self._tracing._inference(set_span_in_context(self._span), model, stream)
        return self._tracing._carry(set_span_in_context(self._inference))

    def end(self, record: RequestRecord) -> None:
        """Ends the spans with what the log says of the request."""
        now = time.time_ns()
        if self._inference is not None:
            _end(self._inference, _of_inference(record), record, now)
        _end(self._span, _of_request(record), record, now)


def create(settings: Settings) -> Tracing | None:
    """Traces as `settings` and OpenTelemetry's own variables want them; None where there are to be none."""
    if not settings.traces:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = {"service.version": __version__}
    if "service.name" not in OTELResourceDetector().detect().attributes:
        own["service.name"] = SERVICE_NAME
    provider = TracerProvider(resource=Resource.create(own))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    url = settings.upstream_url
    return Tracing(provider, url.host or "", url.port)


def _end(span: Span, attributes: Mapping[str, Any], record: RequestRecord, now: int) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attributes({name: value for name, value in attributes.items() if value is not None})
    if record.failed:
        span.set_status(Status(StatusCode.ERROR, record.error_code))
    span.end(now)


def _of_inference(record: RequestRecord) -> dict[str, Any]:
    return {
        "gen_ai.response.finish_reasons": (record.finish,) if record.finish else None,
        "gen_ai.response.time_to_first_chunk": record.first_token_seconds,
        "gen_ai.usage.input_tokens": record.input_tokens,
        "gen_ai.usage.cache_read.input_tokens": record.cached_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "gen_ai.usage.reasoning.output_tokens": record.reasoning_tokens,
        "error.type": record.error_code,
        "deepseek_proxy.attempts": record.attempts,
        "deepseek_proxy.cost_usd": record.cost_usd,
    }


def _of_request(record: RequestRecord) -> dict[str, Any]:
    return {
        "http.response.status_code": record.status,
        "url.path": record.path[:MAX_TEXT_CHARACTERS],
        "error.type": record.error_code,
        "deepseek_proxy.request_id": record.request_id,
        "deepseek_proxy.dialect": record.dialect,
        "deepseek_proxy.client_gone": record.client_gone,
        "deepseek_proxy.heartbeats": record.heartbeats,
    }
