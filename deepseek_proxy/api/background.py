"""Responses that are made while nobody waits for them: `background: true`.

Each runs on a thread of its own (a greenlet under gevent), from the moment at which its request is accepted
to its end, to a cancellation, or to the end of the process: then it says so in what is stored of it. Refuses
to know where that is, and how an answer is made.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from deepseek_proxy.api.replaying import Listener
from deepseek_proxy.ops.lifecycle import Drain
from deepseek_proxy.ops.metrics import Metrics

if TYPE_CHECKING:
    from deepseek_proxy.api.answer import Answer
    from deepseek_proxy.api.exchange import Exchange
    from deepseek_proxy.api.store_recorder import StoreRecorder

logger = logging.getLogger(__name__)


class Background:
    """The background responses of this process. One for each application."""

    def __init__(self, drain: Drain, metrics: Metrics) -> None:
        self._drain = drain
        self._metrics = metrics
        self._running: dict[tuple[str, str], StoreRecorder] = {}

    def listen(self, owner: str, id: str, *, fresh: bool = False) -> Listener | None:
        """What the response says from now on; None where it is not made here."""
        recorder = self._running.get((owner, id))
        return recorder.listen(fresh=fresh) if recorder is not None else None

    def start(self, owner: str, id: str, answer: Answer, recorder: StoreRecorder, exchange: Exchange) -> None:
        """Makes an answer whose response has been begun. `exchange` is reported at its end."""
        exchange.outlives_its_request = True
        self._running[owner, id] = recorder
        self._drain.working.add(recorder)

        waiting = [answer]  # out of which the thread takes it: what it closes over, it would hold to its end

        def run() -> None:
            try:
                _make(waiting.pop(), recorder, exchange)
            finally:
                self._running.pop((owner, id), None)
                self._drain.working.discard(recorder)
                exchange.outlives_its_request = False
                exchange.finish(200, self._metrics)

        threading.Thread(target=run, daemon=True, name="background").start()


def _make(answer: Answer, recorder: StoreRecorder, exchange: Exchange) -> None:
    try:
        frames = answer.frames(at_once=True)
        del answer  # and with it the request, which may be megabytes
        try:
            for _ in frames:
                if recorder.cancel_requested:
                    break
        finally:
            frames.close()
    except Exception:  # which is told in the response, too
        logger.exception("background response failed", extra={"request_id": exchange.id})
    exchange.tally.client_gone = False  # there was none
