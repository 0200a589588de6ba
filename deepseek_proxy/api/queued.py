"""An answer that begins before the upstream does: it says so when its turn has come.

Refuses to know what waits, and what is said.
"""

from __future__ import annotations

from collections.abc import Callable

from deepseek_proxy import pipeline
from deepseek_proxy.api.rounds import Machine, Rounds
from deepseek_proxy.errors import ProxyError
from deepseek_proxy.upstream.call import Call, Clocks


class Queued:
    """A `pipeline.Answer`: `answer`, read from `call`. `proceeded` is told when the upstream has begun."""

    def __init__(
        self, call: Call | Rounds, answer: pipeline.Answer, machine: Machine, proceeded: Callable[[], None]
    ) -> None:
        self.machine = machine
        self._call = call
        self._answer = answer
        self._proceeded = proceeded
        self._waits = True

    @property
    def clocks(self) -> Clocks:
        return self._answer.clocks

    @property
    def ended(self) -> bool:
        return self._answer.ended

    @property
    def arrived(self) -> bool:
        """Its first events wait for nothing."""
        return not self._waits and self._answer.arrived

    def poll(self) -> bytes:
        if not self._waits:
            return self._answer.poll()
        try:
            if not self._call.wait():
                return b""
        except ProxyError as error:
            return self._answer.fail(error)
        self._waits = False
        self._proceeded()
        return self.machine.heartbeat()

    def fail(self, error: ProxyError) -> bytes:
        return self._answer.fail(error)
