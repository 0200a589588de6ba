"""One answer of any dialect: its upstream calls, its machine, and what becomes known on the way.

Refuses to know the dialect: the request has been read (`Asked`), and the machine comes from outside.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

from flask import Response, request

from deepseek_proxy import pipeline
from deepseek_proxy.api import streaming
from deepseek_proxy.api.allowance import Allowance
from deepseek_proxy.api.exchange import Exchange
from deepseek_proxy.api.gateway import Caller, Gateway, new_id
from deepseek_proxy.api.queued import Queued
from deepseek_proxy.api.rounds import Machine, Rounds
from deepseek_proxy.errors import InternalError, ProxyError
from deepseek_proxy.models import Model, Resolved
from deepseek_proxy.ops import logs
from deepseek_proxy.pipeline import Relay, Turn
from deepseek_proxy.translate import history, ids, jsontext
from deepseek_proxy.translate.affinity import affinity
from deepseek_proxy.translate.fences import Filter, Unfenced
from deepseek_proxy.translate.history import Entry
from deepseek_proxy.translate.lookup import Action, Outcome
from deepseek_proxy.translate.markup import Healer
from deepseek_proxy.translate.metering import Meter
from deepseek_proxy.translate.schema import MismatchError, StructuredOutput
from deepseek_proxy.translate.tools import ToolTable
from deepseek_proxy.upstream import client
from deepseek_proxy.upstream.call import Call
from deepseek_proxy.upstream.search import Lookups


class Asked(Protocol):
    """A request, as its dialect has read it."""

    @property
    def resolved(self) -> Resolved: ...
    @property
    def stream(self) -> bool: ...
    @property
    def upstream(self) -> Mapping[str, Any]: ...
    @property
    def tools(self) -> ToolTable: ...
    @property
    def structured(self) -> StructuredOutput | None: ...
    @property
    def next_turn(self) -> Callable[[Sequence[Entry], int], Mapping[str, Any]] | None: ...
    @property
    def cache_key(self) -> str | None:
        """The client's own name for the conversation."""

    @property
    def notes(self) -> Counter[str]: ...
    @property
    def unknown_fields(self) -> tuple[str, ...]: ...


class Witness(Protocol):
    """Who goes along with an answer, to keep it. A dialect without a memory has none."""

    def begun(self) -> None:
        """The upstream is being asked. Raises `ProxyError` where the answer is not to be."""

    def frames(self, source: Generator[bytes]) -> Generator[bytes]:
        """The frames of a streamed answer, on their way."""

    def closed(self) -> None:
        """The frames have come to their end, or nobody wants the rest."""

    def completed(self, frames: bytes) -> None:
        """An answer that is not streamed is there; `frames` is the stream that it would have been."""

    def proceeded(self) -> None:
        """The upstream has begun to answer what was begun before it."""

    def failed(self, error: BaseException) -> None:
        """There was no answer: the client is told by an HTTP error."""


class Answer:
    """What it takes to answer one request. `make_machine` makes the machine of one attempt at it.

    `client_gone()` tells that nobody waits any more; by default it looks at the HTTP request's connection.
    """

    def __init__(
        self,
        gateway: Gateway,
        caller: Caller,
        exchange: Exchange,
        parsed: Asked,
        make_machine: Callable[[], Machine],
        *,
        client_gone: Callable[[], bool] | None = None,
        witness: Witness | None = None,
        path: str = client.CHAT_COMPLETIONS,
    ) -> None:
        self._gateway = gateway
        self._caller = caller
        self._exchange = exchange
        self._request = parsed
        self._make_machine = make_machine
        self._client_gone = client_gone or streaming.watch(request)
        self._witness = witness
        self._path = path
        self._allowance: Allowance | None = None
        exchange.client = caller.client
        exchange.model = parsed.resolved.requested
        exchange.upstream_model = parsed.resolved.model.id
        exchange.stream = parsed.stream
        exchange.repairs = parsed.notes
        exchange.unknown_fields = parsed.unknown_fields

    def streamed(self) -> Response:
        return streaming.respond(self.frames())

    def admit(self) -> None:
        """Has the answer begin before the upstream is asked for it, which `frames(at_once=True)` does then.

        Raises `ProxyError` where it may not be, or cannot be kept.
        """
        allowance = self._allowed()
        try:
            if self._witness is not None:
                self._witness.begun()
        except BaseException:
            allowance.settle()
            raise

    def frames(self, *, at_once: bool = False) -> streaming.Frames:
        """The answer as it comes. Raises `ProxyError` for a failure before it has begun.

        `at_once`: it has begun already (`admit`), so that what fails from now on is a part of it.
        """
        try:
            return self._frames(at_once)
        except BaseException as error:
            if self._witness is not None:
                self._witness.failed(error)
            raise

    def _frames(self, at_once: bool) -> streaming.Frames:
        """What is given here holds nothing of the request, which may be megabytes, and the answer may take an
        hour. Only a search needs it again."""
        gateway, exchange, witness = self._gateway, self._exchange, self._witness
        model = self._request.resolved.model
        machine = self._make_machine()
        call: Call | Rounds
        answer: pipeline.Answer
        allowance = self._allowed()
        try:
            if self._request.next_turn is None:
                call, answer = self._relay(self._request.upstream, machine)
            else:
                call = answer = self._rounds(machine)
        except BaseException:
            allowance.settle()
            raise

        def ended() -> None:
            _note_call(exchange, call)
            _note(gateway, exchange, model, machine)
            allowance.settle()

        if at_once:
            proceeded = witness.proceeded if witness is not None else lambda: None
            answer = Queued(call, answer, machine, proceeded)
        frames = streaming.begin(gateway, exchange, call, answer, self._client_gone, ended, at_once=at_once)
        return frames if witness is None else frames.through(witness.frames, witness.closed)

    def _allowed(self) -> Allowance:
        """Leave for this answer, taken once."""
        if self._allowance is None:
            limiter, caller = self._gateway.limiter, self._caller
            self._allowance = limiter.take(caller.client, self._request.resolved, self._exchange)
        return self._allowance

    def _relay(
        self, upstream: Mapping[str, Any], machine: Machine, began: float | None = None
    ) -> tuple[Call, Relay]:
        call, meter = self._open(upstream, began)
        turn = Turn(machine, self._healer(upstream), self._gateway.settings.max_event_bytes, meter)
        return call, Relay(call, turn)

    def _rounds(self, machine: Machine) -> Rounds:
        began = time.monotonic()

        return Rounds(machine, lambda: self._relay(self._turn_of(machine), machine, began), self._look_up)

    def whole(self) -> Response:
        return Response(jsontext.dumps(self.response()), mimetype="application/json")

    def response(self) -> dict[str, Any]:
        """The whole answer; asked for again, within bounds, while its text does not fit its schema."""
        witness = self._witness
        allowance = self._allowed()
        try:
            machine, frames = self._complete_in_form()
            if machine.response is None:
                raise InternalError("The answer has no end.")
        except BaseException as error:
            if witness is not None:
                witness.failed(error)
            raise
        finally:
            allowance.settle()
        if witness is not None:
            witness.completed(frames)
        return machine.response

    def _complete_in_form(self) -> tuple[Machine, bytes]:
        upstream, structured = self._request.upstream, self._request.structured
        for attempts_left in range(self._gateway.settings.schema_repair_attempts, -1, -1):
            machine, frames = self._complete(upstream)
            if structured is None or machine.finish_reason != "stop" or not attempts_left:
                break
            if machine.rounds.said:
                break  # asked again, it would search again
            try:
                structured.validate(machine.text)
                break
            except MismatchError as mismatch:
                upstream = _asked_again(upstream, machine.text, structured.repair_prompt(mismatch.reasons))
        return machine, frames

    def _complete(self, upstream: Mapping[str, Any]) -> tuple[Machine, bytes]:
        """The machine at its end, and the stream that the answer would have been; empty without a witness."""
        machine = self._make_machine()
        began = self._exchange.started  # asking again gets no more time
        frames = [machine.start()] if self._witness is not None else []
        try:
            frames.append(self._complete_turn(upstream, machine, began))
            while machine.actions is not None:
                frames.append(machine.found(self._outcomes(machine.actions)))
                frames.append(self._complete_turn(self._turn_of(machine), machine, began))
        finally:
            _note(self._gateway, self._exchange, self._request.resolved.model, machine)
        return machine, b"".join(frames)

    def _complete_turn(self, upstream: Mapping[str, Any], machine: Machine, began: float) -> bytes:
        structured = self._request.structured
        tidy = structured.extract if structured and "response_format" in upstream else None
        call, meter = self._open(upstream, began)
        try:
            body = call.read_all(self._gateway.settings.max_answer_bytes, self._check)
            return pipeline.complete(body, machine, self._healer(upstream), tidy, meter)
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

    def _turn_of(self, machine: Machine) -> Mapping[str, Any]:
        """The body of the machine's next turn."""
        parsed = self._request
        if parsed.next_turn is None or not machine.rounds.said:
            return parsed.upstream
        return parsed.next_turn(machine.rounds.said, machine.usage.completion_tokens if machine.usage else 0)

    def _check(self) -> None:
        streaming.check(self._gateway, self._client_gone)

    def _open(self, upstream: Mapping[str, Any], began: float | None = None) -> tuple[Call, Meter | None]:
        def mend(error: ProxyError) -> bytes | None:
            if history.MISSING_REASONING_ERROR not in error.message:
                return None
            messages = history.with_placeholders(upstream["messages"])
            return jsontext.dumps({**upstream, "messages": messages}) if messages else None

        body, stream = jsontext.dumps(upstream), self._request.stream
        logs.log_body(self._exchange.id, "upstream_request", body)
        trace = self._exchange.begin_call()
        sent = client.Request(
            body,
            self._caller.key,
            stream,
            self._exchange.id,
            mend,
            self._path,
            trace=trace,
            model=self._request.resolved.model.id,
            affinity=lambda: affinity(upstream, self._request.cache_key),
        )
        call = self._gateway.client.open(sent, since=began)
        if self._witness is not None:
            try:
                self._witness.begun()  # while the upstream makes up its mind
            except BaseException:
                call.close()
                raise
        return call, self._allowed().metered(call, self._request.resolved.model, body)

    def _healer(self, upstream: Mapping[str, Any]) -> Filter:
        settings = self._gateway.settings
        healer = Healer(
            settings.leaked_tool_markup,
            declared=self._request.tools.declared_names,
            max_markup_bytes=settings.max_event_bytes,
            new_call_id=lambda: new_id(ids.CALL),
        )
        return Unfenced(healer) if "response_format" in upstream else healer


def _note_call(exchange: Exchange, call: Call | Rounds) -> None:
    exchange.attempts += call.attempts
    exchange.answered = call.answered
    exchange.account = call.account


def _note(gateway: Gateway, exchange: Exchange, model: Model, machine: Machine) -> None:
    """Tells the exchange how the answer ended."""
    accounts = gateway.client.accounts
    exchange.add_usage(machine.usage)
    exchange.finish_reason = machine.finish_reason
    exchange.error = machine.error
    if machine.response is not None:
        logs.log_body(exchange.id, "response", machine.response)
    if accounts is not None and exchange.account is not None and machine.usage is not None:
        accounts.charge(exchange.account, model, exchange.began, machine.usage)


def _asked_again(upstream: Mapping[str, Any], answer: str, prompt: str) -> Mapping[str, Any]:
    messages = [
        *upstream["messages"],
        {"role": "assistant", "content": answer},
        {"role": "user", "content": prompt},
    ]
    return {**upstream, "messages": messages}
