"""The Responses dialect over HTTP: `POST /v1/responses`, streamed and not, and its siblings `/compact` and
`/input_tokens`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from flask import Blueprint, Response, request

from deepseek_proxy.api import auth, streaming
from deepseek_proxy.api.answer import Answer
from deepseek_proxy.api.body import read_object
from deepseek_proxy.api.exchange import Exchange, current_exchange
from deepseek_proxy.api.gateway import Caller, Gateway, current_gateway, new_id
from deepseek_proxy.api.recorder import Recorded
from deepseek_proxy.api.replaying import Replay
from deepseek_proxy.api.standing import Standing, stand
from deepseek_proxy.api.store_recorder import StoreRecorder
from deepseek_proxy.api.stored_responses import replayed
from deepseek_proxy.errors import InternalError, ProxyError
from deepseek_proxy.tokenizer.encoding import Counter
from deepseek_proxy.translate import fields, ids, jsontext, tokens
from deepseek_proxy.translate.hub import Chunk, Usage
from deepseek_proxy.translate.responses import codex, failure
from deepseek_proxy.translate.responses.compaction import CompactionStream, kept_messages
from deepseek_proxy.translate.responses.options import StreamOptions
from deepseek_proxy.translate.responses.place import NOWHERE, Place
from deepseek_proxy.translate.responses.request import RequestContext, ResponsesRequest, parse
from deepseek_proxy.translate.responses.response import Envelope
from deepseek_proxy.translate.responses.stream import ResponseStream
from deepseek_proxy.translate.sealed import Purpose

WARNING_HEADER: Final = "X-DeepSeek-Proxy-Warning"

blueprint = Blueprint("responses", __name__)


@blueprint.post("/v1/responses")
@blueprint.post("/responses")
def create() -> Response:
    """Creates a response."""
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "responses"
    caller = auth.identify(request, gateway)
    body = read_object(request, gateway.settings)
    standing = stand(gateway, caller, body)
    if standing.place.background:
        return _begin_in_background(gateway, caller, exchange, standing)
    answer = open_answer(gateway, caller, exchange, standing)
    response = answer.streamed() if exchange.stream else answer.whole()
    if standing.recorder.warning is not None:
        response.headers[WARNING_HEADER] = standing.recorder.warning
    return response


def open_answer(
    gateway: Gateway,
    caller: Caller,
    exchange: Exchange,
    standing: Standing,
    client_gone: Callable[[], bool] | None = None,
) -> Answer:
    """The answer to a request that stands there. Raises `InvalidRequest` with the path of the field.

    `client_gone()` tells that nobody waits any more; by default it looks at the HTTP request's connection.
    """
    parsed, recorded = _read(gateway, caller, standing)
    machine = recorded.make_machine
    return Answer(gateway, caller, exchange, parsed, machine, client_gone=client_gone, witness=recorded)


def _begin_in_background(
    gateway: Gateway, caller: Caller, exchange: Exchange, standing: Standing
) -> Response:
    """Has the answer made while the client goes. It is made as a stream, so that it can be watched."""
    recorder = standing.recorder
    if gateway.store is None or not isinstance(recorder, StoreRecorder):
        raise InternalError("A background response has no place to be kept in.")
    streamed = fields.boolean(standing.body, "stream", False)
    standing = replace(standing, body={**standing.body, "stream": True})
    parsed, recorded = _read(gateway, caller, standing)
    answer = Answer(
        gateway,
        caller,
        exchange,
        parsed,
        recorded.make_machine,
        client_gone=lambda: recorder.cancel_requested,
        witness=recorded,
    )
    answer.admit()
    id, owner = recorded.envelope.id, caller.tenant
    begun = jsontext.dumps(recorded.envelope.snapshot("queued", []))
    listener = recorder.listen(fresh=True) if streamed else None
    gateway.background.start(owner, id, answer, recorder, exchange)
    if listener is None:
        return Response(begun, mimetype="application/json")
    return streaming.respond(replayed(gateway, Replay(gateway.store, owner, id, listener=listener)))


def warm_up(gateway: Gateway, caller: Caller, exchange: Exchange, standing: Standing) -> bytes:
    """The frames of a response that says nothing, and from which others can go on. Nobody is asked for it.

    Raises `InvalidRequest` with the path of the field.
    """
    parsed, recorded = _read(gateway, caller, standing, warm_up=True)
    exchange.model, exchange.upstream_model = parsed.resolved.requested, parsed.resolved.model.id
    exchange.unknown_fields = parsed.unknown_fields
    machine = recorded.make_machine()
    recorded.begun()
    empty = Chunk(finish_reason="stop", usage=Usage(0, 0, 0, 0))
    frames = machine.start() + machine.feed(empty) + machine.finish()
    recorded.completed(frames)
    return frames


@blueprint.post("/v1/responses/compact")
@blueprint.post("/responses/compact")
def compact() -> Response:
    """Compacts a conversation: the user's messages, and one sealed item for the rest."""
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "responses"
    caller = auth.identify(request, gateway)
    fixed = {"stream": False, "store": False, "background": False, "text": None, "tool_choice": None}
    standing = stand(gateway, caller, {**read_object(request, gateway.settings), **fixed})
    parsed = parse(standing.body, _context(gateway, caller, standing.place), compact=True)
    envelope = _envelope(parsed)
    machine = _maker(gateway, caller, parsed, envelope)
    response = Answer(gateway, caller, exchange, parsed, machine).response()
    compaction = {
        "id": response["id"],
        "object": "response.compaction",
        "created_at": response["created_at"],
        "output": [
            *kept_messages([*standing.place.earlier], new_id),
            *kept_messages(standing.body.get("input"), new_id),
            *response["output"],
        ],
        "usage": response["usage"],
    }
    return Response(jsontext.dumps(compaction), mimetype="application/json")


@blueprint.post("/v1/responses/input_tokens")
@blueprint.post("/responses/input_tokens")
def input_tokens() -> Response:
    """Counts the tokens of what DeepSeek would be sent for a request. Nothing is sent."""
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "responses"
    caller = auth.identify(request, gateway)
    body = read_object(request, gateway.settings)
    model = body.get("model") or gateway.settings.default_model  # OpenAI needs none here
    fixed = {"model": model, "store": False, "background": False, "context_management": None}
    standing = stand(gateway, caller, {**body, **fixed})
    parsed = parse(standing.body, _context(gateway, caller, standing.place))
    exchange.model, exchange.upstream_model = parsed.resolved.requested, parsed.resolved.model.id
    counted = tokens.prompt_tokens(parsed.upstream, Counter())
    return Response(
        jsontext.dumps({"object": "response.input_tokens", "input_tokens": counted}),
        mimetype="application/json",
    )


def _read(
    gateway: Gateway, caller: Caller, standing: Standing, *, warm_up: bool = False
) -> tuple[ResponsesRequest, Recorded]:
    """The request, and the response that it gets."""
    errand = codex.is_errand(codex.turn_metadata(standing.body, request.headers.get("X-Codex-Turn-Metadata")))
    context = _context(gateway, caller, standing.place, errand=errand)
    parsed = parse(standing.body, context, warm_up=warm_up)
    envelope, for_codex = _envelope(parsed), from_codex()
    recorder, background = standing.recorder, standing.place.background
    proceed = recorder.proceed if isinstance(recorder, StoreRecorder) and background else None
    machine = _maker(gateway, caller, parsed, envelope, for_codex=for_codex, queued=proceed is not None)
    return parsed, Recorded(envelope, machine, recorder, proceed=proceed)


def failure_of(error: ProxyError) -> Response | None:
    """The answer to the current request, where its client listens to failures inside a stream alone."""
    if request.endpoint != f"{blueprint.name}.{create.__name__}" or not from_codex():
        return None
    told = codex.as_stream_failure(error)
    return streaming.respond_whole(failure.failed(told, new_id(ids.RESPONSE), int(time.time())))


def from_codex() -> bool:
    headers = request.headers
    return codex.is_codex(headers.get("Originator"), headers.get("User-Agent"))


def _context(
    gateway: Gateway, caller: Caller, place: Place = NOWHERE, *, errand: bool = False
) -> RequestContext:
    def unseal(purpose: Purpose, token: str) -> str | None:
        opened = gateway.sealer.open(purpose, caller.tenant, token)
        return opened.decode() if opened is not None else None

    return RequestContext(
        resolve=gateway.resolve,
        tool_name_limit=gateway.settings.tool_name_limit,
        unseal=unseal,
        recall=lambda call_id: gateway.reasoning.recall(caller.tenant, call_id),
        count=Counter(),
        errand=errand,
        search=gateway.search_session(),
        place=place,
    )


def _envelope(parsed: ResponsesRequest) -> Envelope:
    return Envelope(new_id(ids.RESPONSE), int(time.time()), parsed.resolved.requested, parsed.echo)


def _maker(
    gateway: Gateway,
    caller: Caller,
    parsed: ResponsesRequest,
    envelope: Envelope,
    *,
    for_codex: bool = False,
    queued: bool = False,
) -> Callable[[], ResponseStream]:
    """Makes machines that speak of one response. They outlive the request, and so hold little of it."""
    tenant = caller.tenant
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
        queued=queued,
    )
    if for_codex:
        options = codex.adapted(options)
    if parsed.compacted_texts is not None:
        return partial(CompactionStream, envelope, options, parsed.compacted_texts, parsed.kept_texts)
    return partial(ResponseStream, envelope, options)
