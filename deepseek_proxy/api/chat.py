"""The Chat Completions dialect over HTTP: `POST /v1/chat/completions`, streamed and not.

And what DeepSeek has beside it: FIM completions, and the balance.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

from flask import Blueprint, Response, request

from deepseek_proxy.api import auth, streaming
from deepseek_proxy.api.answer import Answer
from deepseek_proxy.api.body import read_object
from deepseek_proxy.api.exchange import current_exchange
from deepseek_proxy.api.gateway import Caller, Gateway, current_gateway, new_id
from deepseek_proxy.errors import PermissionDenied
from deepseek_proxy.translate import ids
from deepseek_proxy.translate.chat import completions
from deepseek_proxy.translate.chat.completions import CompletionStream
from deepseek_proxy.translate.chat.emitter import Envelope
from deepseek_proxy.translate.chat.options import StreamOptions
from deepseek_proxy.translate.chat.request import ChatRequest, RequestContext, parse
from deepseek_proxy.translate.chat.stream import ChatStream
from deepseek_proxy.upstream import client

MAX_BALANCE_BYTES: Final = 64 * 1024

blueprint = Blueprint("chat", __name__)


@blueprint.post("/v1/chat/completions")
@blueprint.post("/chat/completions")
def create() -> Response:
    """Creates a chat completion."""
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "chat"
    caller = auth.identify(request, gateway)
    parsed = parse(read_object(request, gateway.settings), _context(gateway, caller))
    path = client.PREFIX_COMPLETIONS if parsed.continues else client.CHAT_COMPLETIONS
    answer = Answer(gateway, caller, exchange, parsed, lambda: _machine(gateway, caller, parsed), path=path)
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


# -- DeepSeek's neighbours of the chat -------------------------------------------------------------


@blueprint.post("/v1/completions")
@blueprint.post("/completions")
def complete() -> Response:
    """Fills in the middle of a text: DeepSeek's FIM completion, in beta there."""
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "chat"
    caller = auth.identify(request, gateway)
    parsed = completions.parse(read_object(request, gateway.settings), gateway.resolve)

    def machine() -> CompletionStream:
        name = parsed.resolved.requested
        envelope = Envelope(ids.COMPLETION + secrets.token_hex(12), int(time.time()), name)
        return CompletionStream(envelope, tells_usage=parsed.tells_usage)

    answer = Answer(gateway, caller, exchange, parsed, machine, path=client.COMPLETIONS)
    return answer.streamed() if parsed.stream else answer.whole()


@blueprint.get("/user/balance")
@blueprint.get("/v1/user/balance")
def balance() -> Response:
    """The balance of the DeepSeek account that pays for the caller; of the gateway's, not for its clients."""
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "chat"
    caller = auth.identify(request, gateway)
    if caller.client is not None:
        raise PermissionDenied("The balance of the gateway's DeepSeek account is for its operator.")
    client_gone = streaming.watch(request)
    asked = client.Request(
        body=b"",
        key=caller.key,
        stream=False,
        request_id=exchange.id,
        mend=lambda _: None,
        path=client.BALANCE,
        trace=exchange.begin_call(),
    )
    call = gateway.client.open(asked)
    try:
        body = call.read_all(MAX_BALANCE_BYTES, lambda: streaming.check(gateway, client_gone))
    finally:
        call.close()
        exchange.attempts += call.attempts
        exchange.answered = call.answered
    return Response(body, mimetype="application/json")
