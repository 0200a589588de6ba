"""The simulator as a Flask application: DeepSeek's routes, and the simulator's own beside them.

Puts `rules` and `answering` on the network and keeps the record. Refuses to decide what is accepted or said.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson
from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from deepseek_proxy import models
from deepseek_proxy.simulator import answering, control, errors, faults, fim, rules, search
from deepseek_proxy.simulator.config import SimulatorConfig
from deepseek_proxy.simulator.errors import Refusal
from deepseek_proxy.simulator.faults import FaultError
from deepseek_proxy.simulator.pacing import ConnectionBroken, Step, play
from deepseek_proxy.simulator.request import ChatRequest
from deepseek_proxy.simulator.state import Record, State

FAULT_HEADER: Final = "X-Simulate"


def create_simulator(config: SimulatorConfig | None = None) -> Flask:
    """A DeepSeek stand-in. Raises `FaultError` when `config.fault` cannot be read."""
    config = config or SimulatorConfig()
    app = Flask("deepseek_proxy.simulator", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    state = State(config)

    @app.before_request
    def record() -> None:
        if not request.path.startswith(control.PREFIX):
            connection = str(request.environ.get("REMOTE_PORT", ""))
            headers = list(request.headers)
            g.record = state.record(request.method, request.path, headers, connection, request.get_data())

    app.register_blueprint(_chat(state))
    app.register_blueprint(_neighbours())
    app.register_blueprint(control.blueprint(state))
    app.register_error_handler(Refusal, _refused)
    app.register_error_handler(HTTPException, _http_error)
    return app


def _chat(state: State) -> Blueprint:
    routes = Blueprint("chat", __name__)

    @routes.post("/chat/completions")
    @routes.post("/v1/chat/completions")
    @routes.post("/beta/chat/completions")
    def chat_completions() -> Response:
        key = _paying_key()
        body = rules.check(request.get_data(), json_schema=state.config.json_schema)
        return answered(ChatRequest(body, key))

    @routes.post("/beta/completions")
    def completions() -> Response:
        key = _paying_key()
        return answered(fim.as_chat(fim.check(request.get_data()), key), fim.as_text)

    def answered(
        asked: ChatRequest, shaped: Callable[[answering.Body], answering.Body] = lambda b: b
    ) -> Response:
        try:
            wished = faults.parse(request.headers.get(FAULT_HEADER, ""))
        except FaultError as problem:
            raise errors.invalid(f"Simulator: {problem}") from None
        state.enter(asked.key)
        try:
            steps = answering.prepare(asked, state, wished, shaped)
        except BaseException:
            state.leave(asked.key)
            raise
        return _played(steps, asked, g.record, state)

    return routes


def _neighbours() -> Blueprint:
    routes = Blueprint("neighbours", __name__)

    @routes.get("/models")
    @routes.get("/v1/models")
    def list_models() -> Response:
        _key()
        return _done({"object": "list", "data": [_listed(model) for model in models.MODELS.values()]})

    @routes.get("/user/balance")
    def balance() -> Response:
        broke = rules.is_broke(_key())
        amounts = {
            "total_balance": "0.00" if broke else "110.00",
            "granted_balance": "0.00" if broke else "10.00",
            "topped_up_balance": "0.00" if broke else "100.00",
        }
        return _done({"is_available": not broke, "balance_infos": [{"currency": "CNY", **amounts}]})

    @routes.post("/v1/tools/search")
    def web_search() -> Response:
        _paying_key()
        return _done(search.search(_object()))

    @routes.post("/v1/tools/fetch")
    def fetch_page() -> Response:
        _paying_key()
        return _done(search.fetch(_object()))

    return routes


def _key() -> str:
    return rules.authorise(request.headers.get("Authorization"))


def _paying_key() -> str:
    key = _key()
    if rules.is_broke(key):
        raise errors.no_balance()
    return key


def _object() -> Mapping[str, Any]:
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise errors.undeserialisable("expected a JSON object")
    return body


def _listed(model: models.Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "owned_by": "deepseek",
        "name": model.display_name,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "input_modalities": ["text", "image"] if model.vision else ["text"],
        "output_modalities": ["text"],
        "effort": {"supported_levels": list(model.effort_levels), "default_level": model.default_effort},
        "api_capabilities": {"anthropic_messages": {"system_prompt_update": "in-history"}},
    }


# -- answers --------------------------------------------------------------------------------------


def _played(steps: Iterator[Step], asked: ChatRequest, record: Record, state: State) -> Response:
    """The answer as it is played, and the record of how it ended."""
    record.status = 200
    connection = request.environ.get("werkzeug.socket")

    def body() -> Iterator[bytes]:
        try:
            yield from play(steps, connection)
        except ConnectionBroken:
            end("broken")
            raise
        end("complete")

    def end(outcome: str) -> None:
        # Before the last byte goes out, so that whoever has it finds the record closed.
        if record.end(outcome):
            state.leave(asked.key)

    kind = "text/event-stream; charset=utf-8" if asked.stream else "application/json"
    response = Response(body(), content_type=kind, headers=_trace())
    response.call_on_close(lambda: end("client gone"))
    if asked.stream:
        response.headers["Cache-Control"] = "no-cache"
    return response


def _done(body: object) -> Response:
    g.record.status = 200
    g.record.end("complete")
    return Response(orjson.dumps(body), content_type="application/json", headers=_trace())


def _refused(refusal: Refusal) -> Response:
    if "record" in g:
        g.record.status = refusal.status
        g.record.end("refused")
    headers = {**refusal.headers, **_trace()}
    return Response(refusal.body, refusal.status, headers, content_type=refusal.content_type)


def _http_error(problem: HTTPException) -> Response:
    words = {404: errors.not_found, 405: errors.method_not_allowed}.get(problem.code or 500)
    return _refused(words() if words else Refusal(problem.code or 500, errors.envelope(problem.name)))


def _trace() -> dict[str, str]:
    return {"x-ds-trace-id": secrets.token_hex(16)}
