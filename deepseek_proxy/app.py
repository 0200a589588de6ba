"""The application: the only place where the parts are put together."""

from __future__ import annotations

import weakref

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry

from deepseek_proxy.api import (
    admission,
    chat,
    conversations,
    cors,
    errors,
    models,
    ops,
    responses,
    search,
    stored_responses,
    streaming,
    websocket,
)
from deepseek_proxy.api.allowance import Limiter
from deepseek_proxy.api.background import Background
from deepseek_proxy.api.exchange import REQUEST_ID_HEADER, Exchange
from deepseek_proxy.api.gateway import EXTENSION, Gateway
from deepseek_proxy.api.keyring import Keyring
from deepseek_proxy.ops import lifecycle, logs, tracing
from deepseek_proxy.ops.metrics import Metrics
from deepseek_proxy.ops.tracing import Tracing
from deepseek_proxy.sealing import Sealer, load_or_create_keys
from deepseek_proxy.settings import Settings, load
from deepseek_proxy.store import opening
from deepseek_proxy.store.ledger.opening import Books
from deepseek_proxy.upstream.client import Client
from deepseek_proxy.upstream.search import Searcher


def create_app(settings: Settings | None = None, *, traces: Tracing | None = None) -> Flask:
    """The WSGI application. Without `settings` they come from the environment and the configuration file.

    `traces` is for programs that have an OpenTelemetry provider of their own.

    Raises `SettingsError` when they are wrong.
    """
    if settings is None:
        settings = load()
    logs.configure(settings)
    metrics = Metrics(CollectorRegistry())
    app = Flask("deepseek_proxy", static_folder=None)
    app.url_map.strict_slashes = False
    books = Books(settings)
    client = Client(settings, metrics.upstream_failed, books)
    sealer = Sealer(load_or_create_keys(settings), on_failure=metrics.seal_failed)
    store = opening.open_store(settings, metrics.store)
    drain = lifecycle.Drain()
    gateway = Gateway(
        settings=settings,
        client=client,
        searcher=Searcher(client, settings),
        sealer=sealer,
        metrics=metrics,
        reasoning=opening.open_reasoning(settings, store, sealer),
        drain=drain,
        background=Background(drain, metrics),
        store=store,
        keyring=Keyring(settings.keys, settings.keys_file),
        books=books,
        limiter=Limiter(books),
        tracing=traces or tracing.create(settings),
    )
    app.extensions[EXTENSION] = gateway
    if store is not None:
        weakref.finalize(app, store.close)  # at the end of the process at the latest
    lifecycle.follow_server(drain)
    for module in (responses, websocket, stored_responses, chat, conversations, search, models, ops):
        app.register_blueprint(module.blueprint)
    errors.register(app)
    _attend(app, gateway)
    return app


def _attend(app: Flask, gateway: Gateway) -> None:
    """Gives every request an id, lets it in, and reports it when its last byte is out."""

    @app.before_request
    def begin() -> Response | None:
        g.exchange = Exchange(request, gateway.tracing)
        streaming.bound(request, gateway.settings.client_stall_seconds)
        answer = cors.preflight(request, gateway.settings)
        if answer is None:
            admission.admit(request, gateway, g.exchange)
        return answer

    @app.after_request
    def end(response: Response) -> Response:
        exchange: Exchange = g.exchange
        response.headers[REQUEST_ID_HEADER] = exchange.id
        response.headers.update(exchange.headers)
        cors.let_read(response, request, gateway.settings)
        response.call_on_close(lambda: exchange.finish(response.status_code, gateway.metrics))
        return response
