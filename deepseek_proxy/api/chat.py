"""The Chat Completions dialect over HTTP: `POST /v1/chat/completions`, streamed and not."""

from __future__ import annotations

import secrets
import time

from flask import Blueprint, Response, request

from deepseek_proxy.api import auth
from deepseek_proxy.api.answer import Answer
from deepseek_proxy.api.body import read_object
from deepseek_proxy.api.exchange import current_exchange
from deepseek_proxy.api.gateway import Caller, Gateway, current_gateway, new_id
from deepseek_proxy.translate import ids
from deepseek_proxy.translate.chat.emitter import Envelope
from deepseek_proxy.translate.chat.options import StreamOptions
from deepseek_proxy.translate.chat.request import ChatRequest, RequestContext, parse
from deepseek_proxy.translate.chat.stream import ChatStream

blueprint = Blueprint("chat", __name__)


@blueprint.post("/v1/chat/completions")
@blueprint.post("/chat/completions")
def create() -> Response:
    """Creates a chat completion."""
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "chat"
    caller = auth.identify(request, gateway)
    parsed = parse(read_object(request, gateway.settings), _context(gateway, caller))
    answer = Answer(gateway, caller, exchange, parsed, lambda: _machine(gateway, caller, parsed))
    return answer.streamed() if parsed.stream else answer.whole()


def _context(gateway: Gateway, caller: Caller) -> RequestContext:
    return RequestContext(
        resolve=gateway.resolve,
        tool_name_limit=gateway.settings.tool_name_limit,
        recall=lambda key: gateway.reasoning.recall(caller.tenant, key),
        search=gateway.search_session(),
    )


def _machine(gateway: Gateway, caller: Caller, parsed: ChatRequest) -> ChatStream:
    tenant = caller.tenant
    envelope = Envelope(
        ids.CHAT_COMPLETION + secrets.token_hex(12), int(time.time()), parsed.resolved.requested
    )
    options = StreamOptions(
        tools=parsed.tools,
        new_id=new_id,
        remember=lambda key, text: gateway.reasoning.remember(tenant, key, text),
        tells_usage=parsed.tells_usage,
        parallel_tool_calls=parsed.parallel_tool_calls,
        legacy_functions=parsed.legacy_functions,
        permitted=parsed.permitted,
        padding=(lambda size: secrets.token_hex(size)[:size]) if parsed.obfuscate else None,
        search=parsed.search,
        cites=not parsed.is_json,
    )
    return ChatStream(envelope, options)
