"""The application with a client in the same process, and an upstream on a real socket."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from harness.deepseek import answers
from harness.fake_upstream import FakeUpstream
from werkzeug.test import TestResponse

from deepseek_proxy.api.gateway import EXTENSION, Gateway
from deepseek_proxy.app import create_app
from deepseek_proxy.ops import logs
from deepseek_proxy.settings import isolated

KEY = "sk-client-0123456789"


class Face:
    """What clients see of one application, and what it says of them in its log and its metrics."""

    def __init__(self, folder: Path, upstream: FakeUpstream, **settings: Any) -> None:
        self._log = folder / logs.GATEWAY_FILE
        chosen = {"state_dir": folder, "log_dir": folder, "log_stderr": "never", "retry_max_seconds": 0.01}
        self.app: Flask = create_app(isolated(upstream_url=upstream.url, **{**chosen, **settings}))
        self.gateway: Gateway = self.app.extensions[EXTENSION]

    def request(self, method: str, path: str, **options: Any) -> TestResponse:
        return self.app.test_client().open(path, method=method, **options)

    def ask(
        self,
        headers: Mapping[str, str] | None = None,
        path: str = "/v1/responses",
        environ: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> TestResponse:
        """A request for a response, whole unless the fields say otherwise. A header given as "" is left out.

        The answer of a stream is not read yet.
        """
        sent = {"Authorization": f"Bearer {KEY}", **(headers or {})}
        return self.request(
            "POST",
            path,
            json={"model": "deepseek-flash", "input": "hi", **fields},
            headers={name: value for name, value in sent.items() if value},
            environ_overrides=dict(environ or {}),
        )

    @staticmethod
    def events(response: TestResponse) -> list[dict[str, Any]]:
        """The events of a stream, read to its end."""
        frames = response.get_data(as_text=True).split("\n\n")
        return [json.loads(frame.split("\ndata: ")[1]) for frame in frames if frame.startswith("event: ")]

    @classmethod
    def final(cls, response: TestResponse) -> dict[str, Any]:
        """The Response object of a good answer in either form."""
        assert response.status_code == 200, response.text
        if response.mimetype != "text/event-stream":
            return dict(response.json or {})
        last: dict[str, Any] = cls.events(response)[-1]["response"]
        return last

    @staticmethod
    def finish(response: TestResponse) -> TestResponse:
        """Reads an answer to its end and closes it."""
        response.get_data()
        response.close()
        return response

    def lines(self) -> list[dict[str, Any]]:
        """The lines of requests that have ended. A response has ended when it is closed."""
        for handler in logging.getLogger().handlers:
            handler.flush()
        lines = map(json.loads, self._log.read_text().splitlines()) if self._log.exists() else ()
        return [line for line in lines if line["logger"] == logs.REQUEST_LOGGER]

    def metric(self, name: str) -> float:
        """The value of a series, labels included; without labels the sum of all its series."""
        found = 0.0
        for line in self.gateway.metrics.render()[0].decode().splitlines():
            series, _, value = line.removeprefix("deepseek_proxy_").rpartition(" ")
            if series == name or series.startswith(f"{name}{{"):
                found += float(value)
        return found


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """DeepSeek, behaving well until the test says otherwise."""
    server = FakeUpstream()
    server.serve(answers())
    yield server
    server.close()
    assert server.failures == []


@pytest.fixture
def make(tmp_path: Path, upstream: FakeUpstream) -> Iterator[Callable[..., Face]]:
    """Makes applications with the given settings."""
    faces: list[Face] = []

    def face(**settings: Any) -> Face:
        faces.append(Face(tmp_path, upstream, **settings))
        return faces[-1]

    yield face
    for each in faces:
        each.gateway.client.close()
        each.gateway.books.close()
    logs.close()


@pytest.fixture
def face(make: Callable[..., Face]) -> Face:
    """The application as it comes."""
    return make()
