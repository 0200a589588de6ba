"""Golden cases: one exchange each, as a folder of files, and how to play it again.

Those of Chat Completions are in the folder `chat`.

    request.json            what the client asks
    upstream_request.json   what DeepSeek gets
    upstream.sse            what DeepSeek answers
    expected.sse            what the client gets
    expected.json           what the client gets without `stream`: the answer, or the error's body
    settings.json           settings other than the defaults, where the case needs some

Ids are numbered, the clock stands still, and seals are readable: see `harness.machines`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from harness import chats
from harness.machines import (
    completion_of,
    context,
    filter_for,
    machine_for,
    payloads_of,
    play,
    turn,
)

from deepseek_proxy import pipeline
from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate import jsontext, openai_errors
from deepseek_proxy.translate.chat.request import ChatRequest
from deepseek_proxy.translate.chat.request import parse as parse_chat
from deepseek_proxy.translate.responses.request import ResponsesRequest, parse

FOLDER: Final = Path(__file__).parent
CHAT_FOLDER: Final = FOLDER / "chat"


@dataclass(frozen=True)
class Golden:
    folder: Path

    def __str__(self) -> str:
        return str(self.folder.relative_to(FOLDER))

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def settings(self) -> dict[str, Any]:
        path = self.folder / "settings.json"
        return dict(json.loads(path.read_bytes())) if path.exists() else {}

    @cached_property
    def upstream(self) -> bytes:
        return self.expected("upstream.sse")

    def expected(self, file: str) -> bytes:
        return (self.folder / file).read_bytes()

    @property
    def is_chat(self) -> bool:
        return self.folder.parent == CHAT_FOLDER

    def request(self) -> ResponsesRequest | ChatRequest:
        """The request, read anew: an answer may add names to its tools."""
        body = json.loads(self.expected("request.json"))
        return parse_chat(body, chats.context()) if self.is_chat else parse(body, context())

    def machine(self, request: ResponsesRequest | ChatRequest) -> Any:
        if isinstance(request, ChatRequest):
            return chats.machine_for(request, **self.settings)
        return machine_for(request, **self.settings)

    def streamed(self, pieces: Iterable[bytes]) -> bytes:
        """What the client gets when DeepSeek's answer comes in these pieces."""
        request = self.request()
        return play(pieces, turn(self.machine(request), filter_for(request)))

    def whole(self) -> Any:
        """What the client gets when DeepSeek says the same in one piece."""
        request = self.request()
        machine = self.machine(request)
        completion = jsontext.dumps(completion_of(payloads_of(self.upstream)))
        try:
            tidy = request.structured.extract if request.structured else None
            pipeline.complete(completion, machine, filter_for(request), tidy)
        except ProxyError as error:
            return openai_errors.http_body(error)
        return machine.response

    def replay(self) -> dict[str, bytes]:
        """The files that follow from the others."""
        return {
            "upstream_request.json": pretty(self.request().upstream),
            "expected.sse": self.streamed([self.upstream]),
            "expected.json": pretty(self.whole()),
        }


def pretty(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def goldens(folder: Path = FOLDER) -> list[Golden]:
    return [Golden(path.parent) for path in sorted(folder.glob("*/request.json"))]
