"""One call to DeepSeek: from the attempt to connect to the last byte of the answer.

The attempts run beside the request, so that whoever waits can look after the client and its heartbeats
while there is no answer yet. Refuses to know what a body says.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from deepseek_proxy.errors import ProxyError, UpstreamError, UpstreamTimeout
from deepseek_proxy.upstream.body import Body
from deepseek_proxy.upstream.readiness import TICK_SECONDS


@dataclass(frozen=True, slots=True)
class Clocks:
    """How long, in seconds, an answer may be silent, may bring nothing but comments, and may take in all;
    and how long its end may follow its finish reason."""

    bytes_idle: float
    data_idle: float
    total: float
    after_finish: float


class Aborted(Exception):
    """Nobody waits for the answer any more. Raised inside an attempt, never seen by a caller."""


class Call:
    """A call that has been started. Not for use by two readers at once.

    `attempts` counts the attempts made so far; `account` names the account of the last. `since` is when the
    answer began that the total clock measures, on the monotonic clock; None: with this call. `close()` has to
    be called in the end, and may be called at any time, to give up.
    """

    def __init__(self, attempt: Callable[[Call], Body], clocks: Clocks, since: float | None = None) -> None:
        self.attempts = 0
        self.account: str | None = None
        self.clocks = clocks
        self.started = time.monotonic()
        self._since = self.started if since is None else since
        self._last_bytes = self.started
        self._answered = threading.Event()
        self._given_up = threading.Event()
        self._abort_attempt: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._body: Body | None = None
        self._at_close: Callable[[], None] | None = None
        self._error: ProxyError | None = None
        self._aborted = False
        # Bare: a `Thread` makes its starter wait until it runs, and there is one for every call.
        _thread.start_new_thread(self._run, (attempt,))

    # -- for who waits ----------------------------------------------------------------------------

    def wait(self) -> bool:
        """Waits for the answer to begin, one tick at most. Returns whether it has; raises `ProxyError`."""
        if not self._answered.wait(TICK_SECONDS):
            self._check_total(time.monotonic())
            return False
        if self._error is not None:
            raise self._error
        return True

    @property
    def arrived(self) -> bool:
        """Whether `read()` has something already."""
        return self._body is not None and self._body.arrived

    def read(self) -> bytes | None:
        """What has arrived; None after a silent tick, `b""` at the end of the answer.

        Raises `ProxyError` when the answer fails, is cut, or one of the clocks runs out.
        """
        if self._body is None and not self.wait():
            return None
        received = self._body.read() if self._body is not None else b""
        now = time.monotonic()
        if received is not None:
            self._last_bytes = now
        elif now - self._last_bytes > self.clocks.bytes_idle:
            raise UpstreamTimeout(f"The upstream sent nothing for {self.clocks.bytes_idle:g} seconds.")
        self._check_total(now)
        return received

    def read_all(self, max_bytes: int, on_tick: Callable[[], None]) -> bytes:
        """The whole answer. `on_tick` is called about once a tick, and may raise.

        Blank lines keep the connection alive while the request waits in DeepSeek's queue; they are no data,
        and those after the answer do not make it longer.
        """
        parts: list[bytes] = []
        size = 0
        last_tick = last_data = time.monotonic()
        while (received := self.read()) != b"":
            now = time.monotonic()
            if now - last_tick >= TICK_SECONDS or received is None:
                last_tick = now
                on_tick()
            if received is None or received.isspace():
                if not size and now - last_data > self.clocks.data_idle:
                    raise UpstreamTimeout(
                        f"The upstream sent nothing but comments for {self.clocks.data_idle:g} seconds."
                    )
                if size and received is not None and now - last_data > self.clocks.after_finish:
                    break
                continue
            last_data = now
            parts.append(received)
            size += len(received)
            if size > max_bytes:
                raise UpstreamError(f"The upstream's answer is longer than {max_bytes} bytes.")
        return b"".join(parts)

    def close(self, *, drain: bool = False) -> None:
        """Ends the call: the connection goes back to the pool if the answer was read, else it is closed.

        `drain` says that the answer is whole, and only the end of its framing may be missing.
        """
        self._given_up.set()
        with self._lock:
            abort, body = self._abort_attempt, self._body
            self._body = None
        if abort is not None:
            abort()
        if body is not None:
            try:
                body.close(drain=drain)
            finally:
                self._let_go()

    @property
    def answered(self) -> bool:
        """Whether the upstream has begun to answer: what fails after that is no failed attempt."""
        return self._answered.is_set() and self._error is None

    @property
    def failed(self) -> bool:
        """Whether all attempts have failed: DeepSeek charges for none of them. One that was given up while
        it waited has not."""
        return self._answered.is_set() and self._error is not None and not self._aborted

    # -- for who makes the attempts ---------------------------------------------------------------

    @property
    def given_up(self) -> bool:
        return self._given_up.is_set()

    def pause(self, seconds: float) -> None:
        """Sleeps between two attempts; raises `Aborted` if the call is given up meanwhile."""
        if self._given_up.wait(seconds):
            raise Aborted

    def abort_with(self, abort: Callable[[], None] | None) -> None:
        """Says how the attempt that is under way can be ended from outside."""
        with self._lock:
            self._abort_attempt = abort
        if abort is not None and self.given_up:
            raise Aborted

    def at_close(self, act: Callable[[], None]) -> None:
        """`act` is called once, when the connection of this attempt's answer has been given back or closed,
        or when there is no answer after all."""
        self._at_close = act

    # -- inside -----------------------------------------------------------------------------------

    def _run(self, attempt: Callable[[Call], Body]) -> None:
        try:
            body = attempt(self)
        except Aborted:
            self._aborted = True
            self._error = UpstreamError("The call was given up.")
        except ProxyError as error:
            self._error = error
        except Exception as error:
            self._error = UpstreamError(f"The call to the upstream failed: {type(error).__name__}")
            self._error.__cause__ = error
        else:
            with self._lock:
                self._abort_attempt = None
                late = self.given_up
                if not late:
                    self._body = body
            if late:
                body.close()
                self._let_go()
        if self._error is not None:
            self._let_go()
        self._last_bytes = time.monotonic()
        self._answered.set()

    def _let_go(self) -> None:
        with self._lock:
            act, self._at_close = self._at_close, None
        if act is not None:
            act()

    def _check_total(self, now: float) -> None:
        if now - self._since > self.clocks.total:
            raise UpstreamTimeout(f"The answer took longer than {self.clocks.total:g} seconds.")
