"""One answer of the Responses dialect: the upstream call, the machine, and what becomes known on the way."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Any

from flask import Response, request

from deepseek_proxy import pipeline
from deepseek_proxy.api import streaming
from deepseek_proxy.api.exchange import Exchange
from deepseek_proxy.api.gateway import Caller, Gateway, new_id
from deepseek_proxy.errors import InternalError, ProxyError
from deepseek_proxy.pipeline import Turn
from deepseek_proxy.translate import history, ids, jsontext
from deepseek_proxy.translate.markup import Healer
from deepseek_proxy.translate.responses.compaction import CompactionStream
from deepseek_proxy.translate.responses.request import ResponsesRequest
from deepseek_proxy.translate.responses.response import Envelope
from deepseek_proxy.translate.responses.stream import ResponseStream, StreamOptions
from deepseek_proxy.translate.schema import MismatchError
from deepseek_proxy.upstream import client
from deepseek_proxy.upstream.call import Call


class Answer:
    """What it takes to answer one request."""

    def __init__(
        self, gateway: Gateway, caller: Caller, exchange: Exchange, parsed: ResponsesRequest
    ) -> None:
        self._gateway = gateway
        self._caller = caller
        self._exchange = exchange
        self._request = parsed
        self._client_gone = streaming.watch(request)
        exchange.model = parsed.resolved.requested
        exchange.upstream_model = parsed.resolved.model.id
        exchange.stream = parsed.stream
        exchange.repairs = parsed.notes
        exchange.unknown_fields = parsed.unknown_fields

    def streamed(self) -> Response:
        gateway, exchange = self._gateway, self._exchange
        machine = self._machine()
        call = self._open(self._request)
        response = None
        try:
            turn = Turn(machine, self._healer(), gateway.settings.max_event_bytes)
            response = streaming.respond(gateway, exchange, call, turn, self._client_gone)
            return response
        finally:
            if response is None:
                _note(exchange, machine, call)
            else:
                response.call_on_close(lambda: _note(exchange, machine, call))

    def whole(self) -> Response:
        return Response(jsontext.dumps(self.response()), mimetype="application/json")

    def response(self) -> dict[str, Any]:
        """The Response object; asked for again, within bounds, while its text does not fit its schema."""
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
        if machine.response is None:
            raise InternalError("The answer has no end.")
        return machine.response

    def _complete(self, parsed: ResponsesRequest) -> ResponseStream:
        machine = self._machine()
        call = self._open(parsed)
        try:
            body = call.read_all(self._gateway.settings.max_answer_bytes, self._check)
            tidy = parsed.structured.extract if parsed.structured else None
            pipeline.complete(body, machine, self._healer(), tidy)
        finally:
            call.close()
            _note(self._exchange, machine, call)
        return machine

    def _check(self) -> None:
        """Ends the wait for an answer that nobody wants any more, or for which there is no time left."""
        if self._client_gone():
            raise streaming.ClientGone
        self._gateway.drain.check()

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
        options = StreamOptions(
            tools=parsed.tools,
            new_id=new_id,
            seal=lambda purpose, text: gateway.sealer.seal(purpose, tenant, text.encode()),
            remember=lambda call_id, text: gateway.reasoning.remember(tenant, call_id, text),
            now=lambda: int(time.time()),
            reasoning_output=gateway.settings.reasoning_output,
            parallel_tool_calls=parsed.parallel_tool_calls,
            permitted=parsed.permitted,
            padding=(lambda size: secrets.token_hex(size)[:size]) if parsed.obfuscate else None,
        )
        if parsed.compacted_texts is not None:
            return CompactionStream(envelope, options, parsed.compacted_texts)
        return ResponseStream(envelope, options)

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
    exchange.add_usage(machine.usage)
    exchange.finish_reason = machine.finish_reason
    exchange.attempts += call.attempts
    exchange.answered = call.answered
    exchange.error = machine.error


def _asked_again(parsed: ResponsesRequest, answer: str, prompt: str) -> ResponsesRequest:
    messages = [
        *parsed.upstream["messages"],
        {"role": "assistant", "content": answer},
        {"role": "user", "content": prompt},
    ]
    return replace(parsed, upstream={**parsed.upstream, "messages": messages})
