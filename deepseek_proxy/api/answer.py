"""One answer of the Responses dialect: the upstream call, the machine, and what becomes known on the way."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flask import Response, request

from deepseek_proxy import pipeline
from deepseek_proxy.api import streaming
from deepseek_proxy.api.exchange import Exchange
from deepseek_proxy.api.gateway import Caller, Gateway, new_id
from deepseek_proxy.api.rounds import Rounds
from deepseek_proxy.errors import InternalError, ProxyError
from deepseek_proxy.ops import logs
from deepseek_proxy.pipeline import Relay, Turn
from deepseek_proxy.translate import history, ids, jsontext
from deepseek_proxy.translate.lookup import Action, Outcome
from deepseek_proxy.translate.markup import Healer
from deepseek_proxy.translate.responses import codex
from deepseek_proxy.translate.responses.compaction import CompactionStream
from deepseek_proxy.translate.responses.options import StreamOptions
from deepseek_proxy.translate.responses.request import ResponsesRequest
from deepseek_proxy.translate.responses.response import Envelope
from deepseek_proxy.translate.responses.stream import ResponseStream
from deepseek_proxy.translate.schema import MismatchError
from deepseek_proxy.upstream import client
from deepseek_proxy.upstream.call import Call
from deepseek_proxy.upstream.search import Lookups


class Answer:
    """What it takes to answer one request."""

    def __init__(
        self,
        gateway: Gateway,
        caller: Caller,
        exchange: Exchange,
        parsed: ResponsesRequest,
        *,
        for_codex: bool = False,
    ) -> None:
        self._gateway = gateway
        self._caller = caller
        self._exchange = exchange
        self._request = parsed
        self._for_codex = for_codex
        self._client_gone = streaming.watch(request)
        exchange.model = parsed.resolved.requested
        exchange.upstream_model = parsed.resolved.model.id
        exchange.stream = parsed.stream
        exchange.repairs = parsed.notes
        exchange.unknown_fields = parsed.unknown_fields

    def streamed(self) -> Response:
        exchange = self._exchange
        machine = self._machine()
        call: Call | Rounds
        answer: pipeline.Answer
        if self._request.next_turn is None:
            call = self._open(self._request.upstream)
            answer = self._relay(call, machine)
        else:
            call = answer = self._rounds(machine)

        def ended() -> None:
            _note(exchange, machine)
            _note_call(exchange, call)

        response = None
        try:
            response = streaming.respond(self._gateway, exchange, call, answer, self._client_gone)
            return response
        finally:
            if response is None:
                ended()
            else:
                response.call_on_close(ended)

    def _relay(self, call: Call, machine: ResponseStream) -> Relay:
        return Relay(call, Turn(machine, self._healer(), self._gateway.settings.max_event_bytes))

    def _rounds(self, machine: ResponseStream) -> Rounds:
        began = time.monotonic()

        def begin() -> tuple[Call, Relay]:
            call = self._open(self._turn_of(machine), began)
            return call, self._relay(call, machine)

        return Rounds(machine, begin, self._look_up)

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
            if machine.rounds.said:
                break  # asked again, it would search again
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
        began = self._exchange.started  # asking again gets no more time
        tidy = parsed.structured.extract if parsed.structured else None
        try:
            self._complete_turn(parsed.upstream, machine, began, tidy)
            while machine.actions is not None:
                machine.found(self._outcomes(machine.actions))
                self._complete_turn(self._turn_of(machine), machine, began, tidy)
        finally:
            _note(self._exchange, machine)
        return machine

    def _complete_turn(
        self,
        upstream: Mapping[str, Any],
        machine: ResponseStream,
        began: float,
        tidy: Callable[[str], str] | None,
    ) -> None:
        call = self._open(upstream, began)
        try:
            body = call.read_all(self._gateway.settings.max_answer_bytes, self._check)
            pipeline.complete(body, machine, self._healer(), tidy)
        finally:
            call.close()
            _note_call(self._exchange, call)

    def _outcomes(self, actions: Sequence[Action]) -> Sequence[Outcome]:
        lookups = self._look_up(actions)
        try:
            return lookups.wait(self._check)
        finally:
            lookups.close()

    def _look_up(self, actions: Sequence[Action]) -> Lookups:
        exchange = self._exchange
        return self._gateway.searcher.start(actions, self._caller.key, exchange.id, exchange.add_search)

    def _turn_of(self, machine: ResponseStream) -> Mapping[str, Any]:
        """The body of the machine's next turn."""
        parsed = self._request
        if parsed.next_turn is None or not machine.rounds.said:
            return parsed.upstream
        return parsed.next_turn(machine.rounds.said, machine.usage.completion_tokens if machine.usage else 0)

    def _check(self) -> None:
        streaming.check(self._gateway, self._client_gone)

    def _open(self, upstream: Mapping[str, Any], began: float | None = None) -> Call:
        def mend(error: ProxyError) -> bytes | None:
            if history.MISSING_REASONING_ERROR not in error.message:
                return None
            messages = history.with_placeholders(upstream["messages"])
            return jsontext.dumps({**upstream, "messages": messages}) if messages else None

        body, stream = jsontext.dumps(upstream), self._request.stream
        logs.log_body(self._exchange.id, "upstream_request", body)
        trace = self._exchange.begin_call()
        sent = client.Request(body, self._caller.key, stream, self._exchange.id, mend, trace=trace)
        return self._gateway.client.open(sent, since=began)

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
            search=parsed.search,
            cites=not parsed.is_json,
            shows_sources=parsed.shows_sources,
        )
        if self._for_codex:
            options = codex.adapted(options)
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


def _note(exchange: Exchange, machine: ResponseStream) -> None:
    """Tells the exchange how the answer ended. Holds nothing of the request, which may be megabytes."""
    exchange.add_usage(machine.usage)
    exchange.finish_reason = machine.finish_reason
    exchange.error = machine.error
    if machine.response is not None:
        logs.log_body(exchange.id, "response", machine.response)


def _note_call(exchange: Exchange, call: Call | Rounds) -> None:
    exchange.attempts += call.attempts
    exchange.answered = call.answered


def _asked_again(parsed: ResponsesRequest, answer: str, prompt: str) -> ResponsesRequest:
    messages = [
        *parsed.upstream["messages"],
        {"role": "assistant", "content": answer},
        {"role": "user", "content": prompt},
    ]
    return replace(parsed, upstream={**parsed.upstream, "messages": messages})
