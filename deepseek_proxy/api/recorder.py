"""What becomes of one response while it is made, and when it has ended: between an answer and memory.

An `Answer` knows a `Recorder`, and nothing of who remembers: a store, a connection, or nobody. In the other
direction, a `translate.responses.place.Place` says what came before the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Recorder(Protocol):
    """For one response: `begin`, then `record` for what is sent, and in the end either `end` or `drop`.

    `begin` may refuse the request with a `ProxyError`. The others do not raise.
    """

    @property
    def warning(self) -> str | None:
        """What the client has to know: that its response is not stored, although it should have been."""

    def begin(self, response: Mapping[str, Any]) -> bool:
        """The upstream is being asked; `response` is the Response object so far. Returns whether it will be
        kept in a store: the truth that `store` tells."""

    @property
    def record(self) -> Callable[[int, bytes], None] | None:
        """Takes one write of the stream before it is sent: whole frames, the first with this sequence number.
        None where nobody wants them. Asked once, after `begin`; what it gives is called for each token, so it
        may do next to nothing.
        """

    def end(self, response: Mapping[str, Any], number: int, frames: bytes) -> None:
        """The response has ended, in any of its states. `frames` is the last write, which is not sent yet."""

    def drop(self) -> None:
        """The request failed before there was an answer: its client is told by an HTTP error."""


class Forgetful:
    """Keeps nothing."""

    warning = None
    record = None

    def begin(self, response: Mapping[str, Any]) -> bool:
        return False

    def end(self, response: Mapping[str, Any], number: int, frames: bytes) -> None:
        pass

    def drop(self) -> None:
        pass
