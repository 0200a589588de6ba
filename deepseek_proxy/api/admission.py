"""Whether a request is let in: not while the gateway is stopping, but for the operator's routes."""

from __future__ import annotations

from flask import Request

from deepseek_proxy.api import ops
from deepseek_proxy.api.gateway import Gateway

_READ_BYTES = 64 * 1024


def admit(request: Request, gateway: Gateway) -> None:
    """Raises `Draining` for work that comes too late."""
    if gateway.drain.begun and request.blueprint != ops.blueprint.name:
        # The connection closes with the answer: bytes that nobody has read would make a reset of it.
        _discard(request, gateway.settings.max_body_bytes)
        gateway.drain.admit()


def _discard(request: Request, max_bytes: int) -> None:
    seen = 0
    while seen <= max_bytes and (piece := request.stream.read(_READ_BYTES)):
        seen += len(piece)
