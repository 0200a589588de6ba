"""OpenAI's package for Node as a client of one gateway: each call is a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from e2e import npm
from e2e.samples import MODEL
from harness.gateway import CLIENT_KEY, Gateway

SCRIPT: Final = Path(__file__).with_name("openai_client.mjs")


class Node:
    """`options` are those of the package's client."""

    def __init__(self, gateway: Gateway, **options: object) -> None:
        self._modules = npm.installed(*npm.OPENAI)
        url = f"http://127.0.0.1:{gateway.port}/v1"
        self._options = {"baseURL": url, "apiKey": CLIENT_KEY, "maxRetries": 0, **options}

    def __call__(self, call: str, params: object = None) -> Mapping[str, Any]:
        """What came of `call`: `answer`, `events` and `accumulated`, or `error`; and `requests`, a number."""
        order = {"modules": str(self._modules), "client": self._options, "call": call, "params": params}
        ended = subprocess.run(
            ["node", SCRIPT], input=json.dumps(order), capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stderr
        outcome: Mapping[str, Any] = json.loads(ended.stdout)
        return outcome

    def answer(self, call: str, **fields: object) -> Mapping[str, Any]:
        outcome = self(call, {"model": MODEL, **fields})
        assert "error" not in outcome, outcome["error"]
        answer: Mapping[str, Any] = outcome["answer"]
        if "accumulated" in outcome:
            assert outcome["accumulated"]["output"] == plain(answer["output"])
        return answer

    def error(self, call: str, **fields: object) -> Mapping[str, Any]:
        outcome = self(call, {"model": MODEL, **fields})
        error: Mapping[str, Any] = outcome["error"]
        return error

    def do(self, path: str, *arguments: object) -> Any:
        """What a method of the client gives (`conversations.items.list`); of lists and streams, all."""
        outcome = self("method", {"path": path, "arguments": arguments})
        assert "error" not in outcome, outcome["error"]
        return outcome["answer"]

    def refusal(self, path: str, *arguments: object) -> Mapping[str, Any]:
        """The error that a method of the client ends in."""
        error: Mapping[str, Any] = self("method", {"path": path, "arguments": arguments})["error"]
        return error


def plain(value: Any) -> Any:
    """`value` without what the helper's parsing added to it."""
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items() if not key.startswith("parsed")}
    return value
