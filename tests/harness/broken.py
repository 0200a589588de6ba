"""Answers of DeepSeek's that break after their status is known, each as what the upstream does.

Refuses to know how a client is told of it: that is the dialect's.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from harness import deepseek
from harness.wire import Handler, Request, Wire

Fault = Callable[[Wire], None]


def answer_began(then: Fault) -> Handler:
    """A handler that says "Hel" and then does what the test is about."""

    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        then(wire)

    return handler


def says(*frames: bytes) -> Fault:
    """The rest of the answer, and a proper end of the HTTP body."""

    def fault(wire: Wire) -> None:
        wire.chunk(b"".join(frames))
        wire.end()

    return fault


def end_of_file(wire: Wire) -> None:
    wire.close()


def end_inside_a_chunk(wire: Wire) -> None:
    wire.send(b"400\r\n" + deepseek.text("lo"))
    wire.close()


def reset(wire: Wire) -> None:
    wire.sleep(0.05)  # what was sent before would be lost with the connection
    wire.reset()


def broken_framing(wire: Wire) -> None:
    wire.send(b"zz\r\n" + deepseek.text("lo"))
    wire.close()


def huge_line(wire: Wire) -> None:
    wire.chunk(b"data: ")
    for _ in range(80):
        wire.chunk(b"x" * 8192)
    says(b"\n\n", deepseek.last(), deepseek.DONE)(wire)


def comments_for_ever(said: bytes) -> Fault:
    """The rest of the answer, then comments until the gateway hangs up; for five seconds at most."""

    def fault(wire: Wire) -> None:
        wire.chunk(said)
        for _ in range(100):
            wire.chunk(deepseek.KEEP_ALIVE)
            if wire.wait_closed(0.05) is not None:
                return

    return fault


ERROR_OBJECT = deepseek.event({"error": {"message": "the model fell over", "type": "server_error"}})
END = deepseek.last() + deepseek.DONE

FATAL: dict[str, Fault] = {
    "end of body": lambda wire: wire.end(),
    "end of file": end_of_file,
    "end inside a frame": says(deepseek.text("lo")[:-20]),
    "end inside a chunk": end_inside_a_chunk,
    "end after the finish reason": says(deepseek.last()),
    "reset": reset,
    "broken framing": broken_framing,
    "malformed JSON": says(b'data: {"choices":[{"delta":{"content":"lo"}\n\n', END),
    "no object": says(b"data: [1]\n\n", END),
    "error object": says(ERROR_OBJECT, deepseek.DONE),
    "no finish reason": says(deepseek.text("lo"), deepseek.DONE),
    "interrupted": says(deepseek.last("insufficient_system_resource"), deepseek.DONE),
    "unknown finish reason": says(deepseek.last("lunch"), deepseek.DONE),
    "huge line": huge_line,
}

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>cloudfront</body></html>"
NO_ANSWERS = {
    "html": (HTML, "text/html"),
    "error object": (deepseek.error("odd fault", "server_error"), "application/json"),
    "empty": (b"", "application/json"),
    "not an object": (b"[]", "application/json"),
    "no choices": (json.dumps({"id": "x", "choices": []}).encode(), "application/json"),
    "cut json": (deepseek.completion()[:-30], "application/json"),
}
