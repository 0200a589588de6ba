"""Whether a request is let in, whatever it asks for: not while the gateway is stopping, and not from
strangers where clients have keys. The operator's routes have rules of their own."""

from __future__ import annotations

from typing import Final

from flask import Request

from deepseek_proxy.api import auth, ops
from deepseek_proxy.api.exchange import Exchange
from deepseek_proxy.api.gateway import Gateway
from deepseek_proxy.errors import ProxyError

_READ_BYTES: Final = 64 * 1024
_UNNAMED: Final = "other"


def admit(request: Request, gateway: Gateway, exchange: Exchange) -> None:
    """Raises `Draining` for work that comes too late, and `Unauthenticated` for who is not known.

    Here, and not in the routes alone, so that no route can be open by mistake.
    """
    if request.blueprint == ops.blueprint.name:
        return
    if gateway.drain.begun:
        # The connection closes with the answer: bytes that nobody has read would make a reset of it.
        _discard(request, gateway.settings.max_body_bytes)
        gateway.drain.admit()
    if gateway.keyring.closed:
        try:
            exchange.client = auth.identify(request, gateway).client
        except ProxyError:
            exchange.dialect = request.blueprint or _UNNAMED  # a refusal is worth a line, whatever the route
            raise


def _discard(request: Request, max_bytes: int) -> None:
    seen = 0
    while seen <= max_bytes and (piece := request.stream.read(_READ_BYTES)):
        seen += len(piece)
