"""The simulator as a Flask application: DeepSeek's routes, and its own under `/_simulator/`.

Puts `rules` and `answering` on the network and keeps the record. Refuses to decide what is accepted or said.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import orjson
from flask import Blueprint, Flask, Response, abort, g, request
from werkzeug.exceptions import HTTPException

from deepseek_proxy import models
from deepseek_proxy.simulator import answering, errors, faults, rules
from deepseek_proxy.simulator.config import SimulatorConfig
from deepseek_proxy.simulator.errors import Refusal
from deepseek_proxy.simulator.faults import FaultError
from deepseek_proxy.simulator.pacing import ConnectionBroken, Step, play
from deepseek_proxy.simulator.request import ChatRequest
from deepseek_proxy.simulator.script import ScriptError
from deepseek_proxy.simulator.state import Record, State

FAULT_HEADER = "X-Simulate"


def create_simulator(config: SimulatorConfig | None = None) -> Flask:
    """A DeepSeek stand-in. Raises `FaultError` when `config.fault` cannot be read."""
    config = config or SimulatorConfig()
    app = Flask("deepseek_proxy.simulator", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    state = State(config)
    app.register_blueprint(_deepseek(state))
    app.register_blueprint(_control(state), url_prefix="/_simulator")
    app.register_error_handler(Refusal, _refused)
    app.register_error_handler(HTTPException, _http_error)
    return app


# -- DeepSeek's routes ----------------------------------------------------------------------------


def _deepseek(state: State) -> Blueprint:
    routes = Blueprint("deepseek", __name__)

    @routes.before_request
    def record() -> None:
        connection = str(request.environ.get("REMOTE_PORT", ""))
        g.record = state.record(request.method, request.path, request.headers, connection, request.get_data())
        g.key = rules.authorise(request.headers.get("Authorization"))

    @routes.post("/chat/completions")
    @routes.post("/v1/chat/completions")
    def chat_completions() -> Response:
        asked = ChatRequest(rules.check(request.get_data(), json_schema=state.config.json_schema), g.key)
        try:
            wished = faults.parse(request.headers.get(FAULT_HEADER, ""))
        except FaultError as problem:
            raise errors.invalid(f"Simulator: {problem}") from None
        state.enter(asked.key)
        try:
            steps = answering.prepare(asked, state, wished)
        except BaseException:
            state.leave(asked.key)
            raise
        return _played(steps, asked, g.record, state)

    @routes.get("/models")
    @routes.get("/v1/models")
    def list_models() -> Response:
        return _done({"object": "list", "data": [_listed(model) for model in models.MODELS.values()]})

    @routes.get("/user/balance")
    def balance() -> Response:
        amounts = {"total_balance": "110.00", "granted_balance": "10.00", "topped_up_balance": "100.00"}
        return _done({"is_available": True, "balance_infos": [{"currency": "CNY", **amounts}]})

    return routes


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


def _played(steps: Iterator[Step], asked: ChatRequest, record: Record, state: State) -> Response:
    record.status = 200
    connection = request.environ.get("werkzeug.socket")

    def body() -> Iterator[bytes]:
        try:
            yield from play(steps, connection)
        except ConnectionBroken:
            record.end("broken")
            raise
        record.end("complete")

    def close() -> None:
        record.end("client gone")  # unless it has ended otherwise
        state.leave(asked.key)

    kind = "text/event-stream; charset=utf-8" if asked.stream else "application/json"
    response = Response(body(), content_type=kind, headers=_trace())
    response.call_on_close(close)
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


# -- the simulator's own --------------------------------------------------------------------------


def _control(state: State) -> Blueprint:
    routes = Blueprint("control", __name__)

    @routes.before_request
    def only_from_here() -> None:
        if request.remote_addr not in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            abort(404)

    @routes.get("/script")
    def script() -> dict[str, Any]:
        return {"waiting": state.script.waiting()}

    @routes.post("/script")
    def add_script() -> dict[str, Any]:
        try:
            return {"waiting": state.script.add(request.get_json(force=True))}
        except ScriptError as problem:
            raise errors.invalid(str(problem)) from None

    @routes.delete("/script")
    def clear_script() -> dict[str, Any]:
        state.script.clear()
        return {"waiting": 0}

    @routes.put("/fault")
    def set_fault() -> dict[str, Any]:
        text = (request.get_json(force=True) or {}).get("fault", "")
        try:
            state.set_fault(text)
        except FaultError as problem:
            raise errors.invalid(str(problem)) from None
        return {"fault": text}

    @routes.get("/requests")
    def requests() -> dict[str, Any]:
        return {"requests": state.records(), "active": state.active()}

    @routes.post("/reset")
    def reset() -> dict[str, Any]:
        state.reset()
        return {}

    return routes
