"""The Responses dialect over HTTP: `POST /v1/responses`, streamed and not."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace

from flask import Blueprint, Response, request

from deepseek_proxy import pipeline
from deepseek_proxy.api import auth, streaming
from deepseek_proxy.api.body import read_object
from deepseek_proxy.api.exchange import Exchange, current_exchange
from deepseek_proxy.api.gateway import Caller, Gateway, current_gateway, new_id
from deepseek_proxy.errors import MethodNotAllowed, ProxyError, UpgradeRequired
from deepseek_proxy.pipeline import Turn
from deepseek_proxy.translate import history, ids, jsontext
from deepseek_proxy.translate.markup import Healer
from deepseek_proxy.translate.responses.request import RequestContext, ResponsesRequest, parse
from deepseek_proxy.translate.responses.response import Envelope
from deepseek_proxy.translate.responses.stream import ResponseStream, StreamOptions
from deepseek_proxy.translate.schema import MismatchError
from deepseek_proxy.upstream import client
from deepseek_proxy.upstream.call import Call

blueprint = Blueprint("responses", __name__)

SEAL_PURPOSE = "reasoning"


@blueprint.post("/v1/responses")
@blueprint.post("/responses")
def create() -> Response:
    """Creates a response."""
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "responses"
    caller = auth.identify(request, gateway.settings)
    parsed = parse(read_object(request, gateway.settings), _context(gateway, caller))
    _describe(exchange, parsed)
    answer = _Answer(gateway, caller, exchange, parsed)
    return answer.streamed() if parsed.stream else answer.whole()


@blueprint.get("/v1/responses")
@blueprint.get("/responses")
def upgrade() -> Response:
    """Answers the WebSocket upgrade with 426, at which Codex goes on over HTTP at once."""
    current_exchange().dialect = "responses"
    if request.headers.get("Upgrade", "").lower() == "websocket":
        raise UpgradeRequired("WebSockets are not served here: use POST with 'stream': true.")
    raise MethodNotAllowed("GET is not supported here: use POST.")


class _Answer:
    """What it takes to answer one request."""

    def __init__(
        self, gateway: Gateway, caller: Caller, exchange: Exchange, parsed: ResponsesRequest
    ) -> None:
        self._gateway = gateway
        self._caller = caller
        self._exchange = exchange
        self._request = parsed
        self._client_gone = streaming.watch(request)

    def streamed(self) -> Response:
        gateway, exchange = self._gateway, self._exchange
        machine = self._machine()
        call = self._open(self._request)
        response = None
        try:
            turn = Turn(machine, self._healer(), gateway.settings.max_event_bytes)
            response = streaming.respond(
                exchange, call, turn, gateway.pace, gateway.metrics, self._client_gone
            )
            return response
        finally:
            if response is None:
                _note(exchange, machine, call)
            else:
                response.call_on_close(lambda: _note(exchange, machine, call))

    def whole(self) -> Response:
        """The answer in one piece; asked for again, within bounds, while it does not fit its schema."""
        parsed = self._request
        structured = parsed.structured
        for attempts_left in range(self._gateway.settings.schema_repair_attempts, -1, -1):
            machine = self._complete(parsed)
            if structured is None or machine.finish_reason != "stop" or not attempts_left:
                break
            try:
                structured.validate(machine.text)
                break
            except MismatchError as mismatch:
                parsed = _asked_again(parsed, machine.text, structured.repair_prompt(mismatch.reasons))
        return Response(jsontext.dumps(machine.response), mimetype="application/json")

    def _complete(self, parsed: ResponsesRequest) -> ResponseStream:
        machine = self._machine()
        call = self._open(parsed)
        try:
            body = call.read_all(self._gateway.settings.max_answer_bytes, self._check_client)
            pipeline.complete(body, machine, self._healer())
        finally:
            call.close()
            _note(self._exchange, machine, call)
        return machine

    def _check_client(self) -> None:
        if self._client_gone():
            raise streaming.ClientGone

    def _open(self, parsed: ResponsesRequest) -> Call:
        def mend(error: ProxyError) -> bytes | None:
            if history.MISSING_REASONING_ERROR not in error.message:
                return None
            messages = history.with_placeholders(parsed.upstream["messages"])
            return jsontext.dumps({**parsed.upstream, "messages": messages}) if messages else None

        return self._gateway.client.open(
            client.Request(
                jsontext.dumps(parsed.upstream), self._caller.key, parsed.stream, self._exchange.id, mend
            )
        )

    def _machine(self) -> ResponseStream:
        gateway, tenant, parsed = self._gateway, self._caller.tenant, self._request
        envelope = Envelope(new_id(ids.RESPONSE), int(time.time()), parsed.resolved.requested, parsed.echo)
        return ResponseStream(
            envelope,
            StreamOptions(
                tools=parsed.tools,
                new_id=new_id,
                seal=lambda text: gateway.sealer.seal(SEAL_PURPOSE, tenant, text.encode()),
                remember=lambda call_id, text: gateway.reasoning.remember(tenant, call_id, text),
                now=lambda: int(time.time()),
                reasoning_output=gateway.settings.reasoning_output,
                parallel_tool_calls=parsed.parallel_tool_calls,
                permitted=parsed.permitted,
                padding=(lambda size: secrets.token_hex(size)[:size]) if parsed.obfuscate else None,
            ),
        )

    def _healer(self) -> Healer:
        settings = self._gateway.settings
        return Healer(
            settings.leaked_tool_markup,
            declared=self._request.tools.declared_names,
            max_markup_bytes=settings.max_event_bytes,
            new_call_id=lambda: new_id(ids.CALL),
        )


def _note(exchange: Exchange, machine: ResponseStream, call: Call) -> None:
    """Tells the exchange how the answer ended. Holds nothing of the request, which may be megabytes."""
    exchange.usage = machine.usage
    exchange.finish_reason = machine.finish_reason
    exchange.attempts += call.attempts
    exchange.error = machine.error


def _context(gateway: Gateway, caller: Caller) -> RequestContext:
    def unseal(token: str) -> str | None:
        opened = gateway.sealer.open(SEAL_PURPOSE, caller.tenant, token)
        return opened.decode() if opened is not None else None

    return RequestContext(
        resolve=gateway.resolve,
        tool_name_limit=gateway.settings.tool_name_limit,
        unseal=unseal,
        recall=lambda call_id: gateway.reasoning.recall(caller.tenant, call_id),
    )


def _describe(exchange: Exchange, parsed: ResponsesRequest) -> None:
    exchange.model = parsed.resolved.requested
    exchange.upstream_model = parsed.resolved.model.id
    exchange.stream = parsed.stream
    exchange.repairs = parsed.notes
    exchange.unknown_fields = parsed.unknown_fields


def _asked_again(parsed: ResponsesRequest, answer: str, prompt: str) -> ResponsesRequest:
    messages = [
        *parsed.upstream["messages"],
        {"role": "assistant", "content": answer},
        {"role": "user", "content": prompt},
    ]
    return replace(parsed, upstream={**parsed.upstream, "messages": messages})
