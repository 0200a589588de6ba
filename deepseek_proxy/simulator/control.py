"""The simulator's own routes under `/_simulator/`: a test says what is to happen, and sees what was asked.

Answers only clients on the same machine. Refuses to know DeepSeek's routes.
"""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, abort, request

from deepseek_proxy.simulator import errors
from deepseek_proxy.simulator.faults import FaultError
from deepseek_proxy.simulator.script import ScriptError
from deepseek_proxy.simulator.state import State

PREFIX: Final = "/_simulator"
_LOOPBACK: Final = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def blueprint(state: State) -> Blueprint:
    """The routes that work on `state`."""
    routes = Blueprint("control", __name__, url_prefix=PREFIX)

    @routes.before_request
    def only_from_here() -> None:
        if request.remote_addr not in _LOOPBACK:
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
        body = request.get_json(force=True)
        text = body.get("fault") if isinstance(body, dict) else None
        if not isinstance(text, str):
            raise errors.invalid('Send {"fault": "…"}; an empty text ends the fault.')
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
