"""An answer of several turns of the model, with the gateway's own searches between them.

To who sends the answer it looks like one upstream call: it can be waited for, read, failed and closed at any
time, also in the middle of a search. Refuses to know what is searched, and what the turns say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from deepseek_proxy import pipeline
from deepseek_proxy.errors import ProxyError
from deepseek_proxy.pipeline import Relay
from deepseek_proxy.translate import rounds
from deepseek_proxy.translate.hub import Usage
from deepseek_proxy.translate.lookup import Action, Outcome
from deepseek_proxy.upstream.call import Call, Clocks
from deepseek_proxy.upstream.search import Lookups


class Machine(pipeline.Machine, Protocol):
    """A dialect's machine, whose answer may take several turns."""

    actions: Sequence[Action] | None
    """What is to be run before the answer can go on; None while a turn is under way."""
    response: dict[str, Any] | None
    """The whole answer, once it has ended."""

    @property
    def rounds(self) -> rounds.Rounds: ...
    @property
    def text(self) -> str: ...
    @property
    def usage(self) -> Usage | None: ...
    def found(self, outcomes: Sequence[Outcome]) -> bytes: ...


Begin = Callable[[], tuple[Call, Relay]]


class Rounds:
    """A `pipeline.Answer`. `begin()` opens the call for the machine's next turn, the first one included;
    `look_up(actions)` starts searches."""

    def __init__(
        self, machine: Machine, begin: Begin, look_up: Callable[[Sequence[Action]], Lookups]
    ) -> None:
        self.machine = machine
        self._begin = begin
        self._look_up = look_up
        self._lookups: Lookups | None = None
        self._earlier_attempts = 0
        self._call, self._relay = begin()

    # -- an answer --------------------------------------------------------------------------------

    @property
    def clocks(self) -> Clocks:
        return self._relay.clocks

    @property
    def ended(self) -> bool:
        return self._lookups is None and self._relay.ended

    @property
    def arrived(self) -> bool:
        return self._lookups is None and self._relay.arrived

    def poll(self) -> bytes:
        if self._lookups is not None:
            return self._poll_lookups(self._lookups)
        frames = self._relay.poll()
        if self.machine.actions is not None:
            self._call.close(drain=True)  # first, so that a search can have its connection
            self._lookups = self._look_up(self.machine.actions)
        return frames

    def fail(self, error: ProxyError) -> bytes:
        self._stop_lookups()
        return self._relay.fail(error)

    # -- a call -----------------------------------------------------------------------------------

    @property
    def attempts(self) -> int:
        return self._earlier_attempts + self._call.attempts

    @property
    def account(self) -> str | None:
        return self._call.account

    @property
    def answered(self) -> bool:
        return self._call.answered

    def wait(self) -> bool:
        return self._call.wait()

    def close(self, *, drain: bool = False) -> None:
        self._stop_lookups()
        self._call.close(drain=drain)

    # -- inside -----------------------------------------------------------------------------------

    def _poll_lookups(self, lookups: Lookups) -> bytes:
        try:
            outcomes = lookups.poll()
        except ProxyError as error:
            return self.fail(error)
        if outcomes is None:
            return b""
        self._stop_lookups()
        frames = self.machine.found(outcomes)
        self._earlier_attempts += self._call.attempts
        self._call, self._relay = self._begin()
        return frames

    def _stop_lookups(self) -> None:
        lookups, self._lookups = self._lookups, None
        if lookups is not None:
            lookups.close()
