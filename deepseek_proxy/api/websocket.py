"""WebSocket mode of the Responses dialect: `GET /v1/responses`, upgraded.

A connection answers one message after the other, each as a POST would be and with a log line of its own. What
gets no response is told in an error message, and the connection stays. It ends between two answers: when its
time is over, when nothing was asked for long, or when the gateway stops. Or the client leaves.

Refuses to know frames (`channel`), and what an answer is made of. Source: OpenAI's WebSocket mode as its SDKs
(openai-python 3.52) and Codex CLI (0.169) speak it.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Request, Response, request
from websockets.frames import CloseCode
from werkzeug.exceptions import MethodNotAllowed

from deepseek_proxy.api import auth, channel, responses, streaming
from deepseek_proxy.api.channel import Channel
from deepseek_proxy.api.exchange import REQUEST_ID_HEADER, Exchange, current_exchange
from deepseek_proxy.api.gateway import Gateway, current_gateway, new_id
from deepseek_proxy.api.standing import stand
from deepseek_proxy.api.streaming import ClientGone, Frames
from deepseek_proxy.api.unstored_turns import UnstoredTurns
from deepseek_proxy.errors import InternalError, InvalidRequest, ProxyError, UpgradeRequired
from deepseek_proxy.translate import fields, ids, jsontext, openai_errors, sse
from deepseek_proxy.translate.responses import codex, failure, websocket

SWITCHING_PROTOCOLS: Final = 101
IDLE_HEARTBEATS: Final = 2
"""Heartbeats between two pings on a connection that waits: there may be thousands of them."""

blueprint = Blueprint("websocket", __name__)
logger = logging.getLogger(__name__)


@blueprint.get("/v1/responses")
@blueprint.get("/responses")
@blueprint.get("/v1/responses", websocket=True)  # werkzeug keeps upgrade requests to rules of their own
@blueprint.get("/responses", websocket=True)
def connect() -> Response:
    """Serves a WebSocket to its end. What goes wrong before it is open is an HTTP status.

    Where none can be had that is 426, at which Codex goes on over HTTP at once.
    """
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "responses"
    settings = gateway.settings
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise MethodNotAllowed(valid_methods=["POST"])
    sock = _socket_of(request) if settings.websocket == "on" else None
    if sock is None:
        raise UpgradeRequired("WebSockets are not served here: use POST with 'stream': true.")
    auth.identify(request, gateway)
    told = {REQUEST_ID_HEADER: exchange.id}
    opened = channel.accept(
        sock, request.headers.get, settings.max_body_bytes, settings.client_stall_seconds, told
    )
    with gateway.metrics.open_websocket():
        _Connection(gateway, exchange, opened).serve()
    return _Hijacked(status=SWITCHING_PROTOCOLS)


def _socket_of(request: Request) -> Any:
    """The connection to speak over; None where the server has none to give, or nobody else could be served
    meanwhile (gunicorn's sync worker)."""
    environ = request.environ
    if environ.get("SERVER_PROTOCOL") != "HTTP/1.1" or not environ.get("wsgi.multithread"):
        return None
    return streaming.socket_of(request)


class _Hijacked(Response):
    """Stands for an answer that went past the server, over a connection that has ended since.

    Told that its client is gone, each of the servers closes what is left of the connection without a word.
    """

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.close()
        raise BrokenPipeError(errno.EPIPE, "the WebSocket has ended")


class _Connection:
    """One WebSocket."""

    def __init__(self, gateway: Gateway, exchange: Exchange, opened: Channel) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._channel = opened
        self._ends = time.monotonic() + gateway.settings.websocket_seconds
        self._turns = 0
        self._unstored = UnstoredTurns(gateway.settings.websocket_memory_bytes)

    def serve(self) -> None:
        """Answers until the connection is over, and closes it."""
        code, reason = CloseCode.INTERNAL_ERROR, "The gateway failed."
        try:
            while self._wait():
                self._answer()
            code, reason = self._farewell()
        except ClientGone:
            pass
        except Exception:
            logger.exception("websocket failed", extra={"request_id": self._exchange.id})
        finally:
            self._channel.close(code, reason)
            self._exchange.turns, self._exchange.close_code = self._turns, self._channel.close_code

    def _answer(self) -> None:
        self._turns += 1
        exchange = Exchange(request, self._gateway.tracing, id=self._exchange.id, turn=self._turns)
        exchange.dialect = self._exchange.dialect
        _Turn(self._gateway, exchange, self._channel, self._unstored).answer()

    def _wait(self) -> bool:
        """Waits for a message. False where the connection is to end."""
        settings, drain, opened = self._gateway.settings, self._gateway.drain, self._channel
        over = min(self._ends, time.monotonic() + settings.websocket_idle_seconds)
        with drain.waking(opened.wake):
            while not drain.leaving and (now := time.monotonic()) < over:
                if opened.wait(min(over, now + IDLE_HEARTBEATS * settings.heartbeat_seconds)):
                    return True
                opened.ping()
        return False

    def _farewell(self) -> tuple[CloseCode, str]:
        """With what the connection ends, which is not the client's doing."""
        if self._gateway.drain.leaving:
            return CloseCode.GOING_AWAY, "The gateway is stopping. Connect again."
        if time.monotonic() < self._ends:
            return CloseCode.NORMAL_CLOSURE, "Nothing was asked for too long."
        limit = self._gateway.settings.websocket_seconds
        over = InvalidRequest(
            f"This WebSocket has reached its limit of {limit:g} seconds. Connect again to go on.",
            code="websocket_connection_limit_reached",
        )
        self._channel.send([websocket.failure(over)])
        return CloseCode.NORMAL_CLOSURE, "The time of the connection is over."


class _Turn:
    """One message, and what is sent for it."""

    def __init__(
        self, gateway: Gateway, exchange: Exchange, opened: Channel, unstored: UnstoredTurns
    ) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._channel = opened
        self._unstored = unstored
        self._lane: str | None = None
        self._previous: str | None = None

    def answer(self) -> None:
        """Answers the message that waits. Raises `ClientGone`."""
        exchange, status = self._exchange, HTTPStatus.OK.value
        try:
            self._send_all(self._begin())
        except ClientGone:
            exchange.tally.client_gone = True
            raise
        except ProxyError as error:
            status = self._refuse(error)
        except Exception:
            logger.exception("request failed", extra={"request_id": exchange.id})
            status = self._refuse(
                InternalError(f"The gateway failed; its log has the reason under {exchange.id}.")
            )
        finally:
            if exchange.error is not None and self._previous is not None:
                self._unstored.forget(self._previous)
            exchange.finish(status, self._gateway.metrics)

    def _begin(self) -> Frames | Sequence[bytes]:
        """What is to be sent, of which nothing has been. The message is gone when this returns: it may be
        megabytes, and the answer may take an hour."""
        gateway, exchange = self._gateway, self._exchange
        received = self._channel.take()
        caller = auth.identify(request, gateway)  # again: a key may have ended meanwhile
        message = jsontext.loads(received, max_nesting=gateway.settings.max_nesting)
        if not isinstance(message, dict):
            raise InvalidRequest(f"The message is {fields.describe(message)}; expected a JSON object.")
        self._lane = websocket.lane_of(message)
        if message.get("type") == websocket.STEER:
            return [sse.encode(b"response.steer.failed", websocket.steering_failed(message))]
        create = websocket.read(message)
        self._previous = fields.string(create.body, "previous_response_id")
        standing = self._unstored.watched(stand(gateway, caller, create.body, self._unstored.recall))
        if create.generate:
            answer = responses.open_answer(gateway, caller, exchange, standing, self._channel.is_gone)
            return answer.frames()
        return [responses.warm_up(gateway, caller, exchange, standing)]

    def _send_all(self, frames: Frames | Sequence[bytes]) -> None:
        try:
            for each in frames:
                self._send(sse.payloads(each))
        finally:
            if isinstance(frames, Frames):
                frames.close()

    def _send(self, events: Sequence[bytes]) -> None:
        if self._lane is not None:
            events = websocket.on_lane(events, self._lane)
        if events:
            self._channel.send(events)
        else:  # a comment
            self._channel.ping()

    def _refuse(self, error: ProxyError) -> int:
        """Says why there is no response. Returns the status that it would have had."""
        self._exchange.error = error
        if responses.from_codex() and not codex.understands_envelope(error):
            told = codex.as_stream_failure(error)
            events = sse.payloads(failure.failed(told, new_id(ids.RESPONSE), int(time.time())))
            status = HTTPStatus.OK.value
        else:
            events, status = [websocket.failure(error)], openai_errors.http_status(error)
        with suppress(ClientGone):  # which the next wait will find out
            self._send(events)
        return status
