"""Failures before the first byte -> HTTP, in the dialect's own shape. Nothing else makes error bodies."""

from __future__ import annotations

import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed
from werkzeug.exceptions import NotFound as WerkzeugNotFound

from deepseek_proxy.api import responses, streaming
from deepseek_proxy.api.exchange import current_exchange
from deepseek_proxy.api.streaming import ClientGone
from deepseek_proxy.errors import (
    BodyCutOff,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ProxyError,
    RequestTimeout,
)
from deepseek_proxy.translate import jsontext, openai_errors

CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody receives it, the log keeps it

logger = logging.getLogger(__name__)


def register(app: Flask) -> None:
    app.register_error_handler(ProxyError, _proxy_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(ClientGone, _client_gone)
    app.register_error_handler(Exception, _bug)


def _proxy_error(error: ProxyError) -> Response:
    current_exchange().error = error
    response = responses.failure_of(error) or Response(
        jsontext.dumps(openai_errors.http_body(error)),
        status=openai_errors.http_status(error),
        headers=openai_errors.http_headers(error),
        mimetype="application/json",
    )
    if isinstance(error, (BodyCutOff, RequestTimeout)):
        streaming.read_no_more(request)  # nobody knows where the next request begins
    return response


def _http_exception(error: HTTPException) -> Response:
    if isinstance(error, WerkzeugNotFound):
        mapped: ProxyError = NotFound(f"Unknown address: {request.method} {request.path[:200]}.")
    elif isinstance(error, WerkzeugMethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        mapped = MethodNotAllowed(f"{request.method} is not supported here. Supported: {allowed}.")
    elif error.code is not None and error.code < 500:
        mapped = InvalidRequest(error.description or error.name)
    else:
        return _bug(error)
    response = _proxy_error(mapped)
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _client_gone(_: ClientGone) -> Response:
    current_exchange().tally.client_gone = True
    return Response(status=CLIENT_CLOSED_REQUEST)


def _bug(error: Exception) -> Response:
    exchange = current_exchange()
    logger.error("request failed", exc_info=error, extra={"request_id": exchange.id})
    return _proxy_error(InternalError(f"The gateway failed; its log has the reason under {exchange.id}."))
