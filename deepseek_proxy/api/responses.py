"""The Responses dialect over HTTP: `POST /v1/responses`, streamed and not, and `/v1/responses/compact`."""

from __future__ import annotations

import time

from flask import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed

from deepseek_proxy.api import auth, streaming
from deepseek_proxy.api.answer import Answer
from deepseek_proxy.api.body import read_object
from deepseek_proxy.api.exchange import current_exchange
from deepseek_proxy.api.gateway import Caller, Gateway, current_gateway, new_id
from deepseek_proxy.errors import ProxyError, UpgradeRequired
from deepseek_proxy.translate import ids, jsontext
from deepseek_proxy.translate.responses import codex, failure
from deepseek_proxy.translate.responses.compaction import kept_messages
from deepseek_proxy.translate.responses.request import RequestContext, parse
from deepseek_proxy.translate.sealed import Purpose

blueprint = Blueprint("responses", __name__)


@blueprint.post("/v1/responses")
@blueprint.post("/responses")
def create() -> Response:
    """Creates a response."""
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "responses"
    caller = auth.identify(request, gateway.settings)
    parsed = parse(read_object(request, gateway.settings), _context(gateway, caller))
    answer = Answer(gateway, caller, exchange, parsed, for_codex=_from_codex())
    return answer.streamed() if parsed.stream else answer.whole()


@blueprint.post("/v1/responses/compact")
@blueprint.post("/responses/compact")
def compact() -> Response:
    """Compacts a conversation: the user's messages, and one sealed item for the rest."""
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "responses"
    caller = auth.identify(request, gateway.settings)
    body = {**read_object(request, gateway.settings), "stream": False, "text": None, "tool_choice": None}
    parsed = parse(body, _context(gateway, caller), compact=True)
    response = Answer(gateway, caller, exchange, parsed).response()
    compaction = {
        "id": response["id"],
        "object": "response.compaction",
        "created_at": response["created_at"],
        "output": [*kept_messages(body.get("input"), new_id), *response["output"]],
        "usage": response["usage"],
    }
    return Response(jsontext.dumps(compaction), mimetype="application/json")


@blueprint.get("/v1/responses")
@blueprint.get("/responses")
@blueprint.get("/v1/responses", websocket=True)  # werkzeug keeps upgrade requests to rules of their own
@blueprint.get("/responses", websocket=True)
def upgrade() -> Response:
    """Answers the WebSocket upgrade with 426, at which Codex goes on over HTTP at once."""
    current_exchange().dialect = "responses"
    if request.headers.get("Upgrade", "").lower() == "websocket":
        raise UpgradeRequired("WebSockets are not served here: use POST with 'stream': true.")
    raise MethodNotAllowed(valid_methods=["POST"])


def failure_of(error: ProxyError) -> Response | None:
    """The answer to the current request, where its client listens to failures inside a stream alone."""
    if request.endpoint != f"{blueprint.name}.{create.__name__}" or not _from_codex():
        return None
    told = codex.as_stream_failure(error)
    return streaming.frames(failure.failed(told, new_id(ids.RESPONSE), int(time.time())))


def _from_codex() -> bool:
    return codex.is_codex(request.headers.get("Originator"), request.headers.get("User-Agent"))


def _context(gateway: Gateway, caller: Caller) -> RequestContext:
    def unseal(purpose: Purpose, token: str) -> str | None:
        opened = gateway.sealer.open(purpose, caller.tenant, token)
        return opened.decode() if opened is not None else None

    return RequestContext(
        resolve=gateway.resolve,
        tool_name_limit=gateway.settings.tool_name_limit,
        unseal=unseal,
        recall=lambda call_id: gateway.reasoning.recall(caller.tenant, call_id),
        errand=codex.is_errand(request.headers.get("X-Codex-Turn-Metadata")),
        search=gateway.search_session(),
    )
