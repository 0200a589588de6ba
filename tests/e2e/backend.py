"""The simulator behind a gateway, as the tests of this folder use it: told what to say, asked what it got.

Speaks to the simulator's own routes, so that it would work as well for one that runs elsewhere. Refuses to
know clients and the gateway.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

import requests

Body = Mapping[str, Any]

SETTLE_SECONDS: Final = 5.0


class Backend:
    """One running simulator. `refusals_expected`: the test makes it refuse requests, and asserts on that."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.refusals_expected = False

    def says(self, *turns: Mapping[str, Any]) -> None:
        """Adds turns to the script; their keys are those of `deepseek_proxy.simulator.script`."""
        self._control("POST", "script", list(turns))

    def breaks(self, fault: str) -> None:
        """Every answer has this fault from now on (`deepseek_proxy.simulator.faults`)."""
        self.refusals_expected = True
        self._control("PUT", "fault", {"fault": fault})

    def reset(self) -> None:
        self.refusals_expected = False
        self._control("POST", "reset", {})

    def records(self) -> list[dict[str, Any]]:
        """The requests of the test so far, oldest first, once no answer is under way any more."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (seen := self._control("GET", "requests"))["active"]:
            assert time.monotonic() < deadline, f"{seen['active']} answers do not end"
            time.sleep(0.02)
        records: list[dict[str, Any]] = seen["requests"]
        return records

    def busy_seconds(self) -> float:
        """How long the oldest answer that is under way has been so; 0 where there is none."""
        started = [
            record["started"]
            for record in self._control("GET", "requests")["requests"]
            if not record["ended"]
        ]
        return time.time() - min(started) if started else 0

    def bodies(self) -> list[Body]:
        """The bodies of all requests for a completion."""
        return [record["body"] for record in self.records() if record["path"].endswith("/chat/completions")]

    def client_requests(self, containing: str = "") -> int:
        """How many requests of clients, with this text in their bodies, these were; an attempt of the
        gateway's own is none."""
        ids = {
            record["headers"]["X-Request-Id"]
            for record in self.records()
            if containing in json.dumps(record["body"], ensure_ascii=False)
        }
        return len(ids)

    def unused_turns(self) -> int:
        waiting: int = self._control("GET", "script")["waiting"]
        return waiting

    def _control(self, method: str, route: str, body: object = None) -> Any:
        answer = requests.request(method, f"{self.url}/_simulator/{route}", json=body, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()


def text_of(message: Body) -> str:
    """A chat message's text; text parts joined by line ends."""
    content = message["content"]
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def results(body: Body) -> list[str]:
    """The texts of all tool results in a request, in their order."""
    return [text_of(message) for message in body["messages"] if message["role"] == "tool"]


def images(body: Body) -> list[str]:
    """The URLs of all pictures in a request."""
    parts = [
        part
        for message in body["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
    ]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def tool_names(body: Body) -> list[str]:
    return [tool["function"]["name"] for tool in body.get("tools", ())]


def added_messages(later: Body, earlier: Body) -> list[Body]:
    """What `later` says beyond `earlier`.

    What was sent before has to be sent again unchanged: DeepSeek's cache matches whole prefixes.
    """
    before = len(earlier["messages"])
    assert later["messages"][:before] == earlier["messages"]
    assert later.get("tools") == earlier.get("tools")
    added: list[Body] = later["messages"][before:]
    return added
