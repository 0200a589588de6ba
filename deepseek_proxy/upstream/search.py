"""DeepSeek's Search and Fetch: the actions of one turn, side by side, over the chat's own connections.

DeepSeek opens the pages; the gateway never fetches an address that a client or a model names. A failed action
is an outcome like any other, for the model to read; only a wrong key and an empty balance end the answer, as
they do in a chat. Refuses to know what is asked and what the answers say (`translate.search` does).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from deepseek_proxy.errors import NotFound, ProxyError, QuotaExhausted, Unauthenticated, UpstreamError
from deepseek_proxy.settings import Settings
from deepseek_proxy.translate.lookup import Action, Outcome, Search
from deepseek_proxy.upstream import failures
from deepseek_proxy.upstream.call import Call, Clocks
from deepseek_proxy.upstream.client import FETCH, SEARCH, Client, Request

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024


class Lookups:
    """Actions under way. `close()` has to be called in the end, and may be called at any time."""

    def __init__(self, calls: Sequence[Call], on_answer: Callable[[], None]) -> None:
        self._calls = calls
        self._on_answer = on_answer
        self._outcomes: list[Outcome] = []
        self._received = bytearray()  # of the call whose turn it is to be read

    def poll(self) -> Sequence[Outcome] | None:
        """All outcomes, in the order of the actions; None after a silent tick.

        Raises `Unauthenticated` or `QuotaExhausted`.
        """
        while len(self._outcomes) < len(self._calls):
            outcome = self._read(self._calls[len(self._outcomes)])
            if outcome is None:
                return None
            if isinstance(outcome, bytes):
                self._on_answer()
            self._outcomes.append(outcome)
            self._received.clear()
        return self._outcomes

    def wait(self, on_tick: Callable[[], None]) -> Sequence[Outcome]:
        """All outcomes. `on_tick` is called while there is nothing to read, and may raise."""
        while (outcomes := self.poll()) is None:
            on_tick()
        return outcomes

    def close(self) -> None:
        for call in self._calls:
            call.close()

    def _read(self, call: Call) -> Outcome | None:
        try:
            while received := call.read():
                self._received += received
                if len(self._received) > MAX_ANSWER_BYTES:
                    raise UpstreamError(f"The answer is longer than {MAX_ANSWER_BYTES} bytes.")
        except (Unauthenticated, QuotaExhausted):
            raise
        except ProxyError as error:
            return error
        return None if received is None else bytes(self._received)


class Searcher:
    """Starts lookups. One instance serves all requests of a process."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        seconds = settings.web_search_call_seconds
        self._clocks = Clocks(bytes_idle=seconds, data_idle=seconds, total=seconds, after_finish=seconds)

    def start(
        self, actions: Sequence[Action], key: str | None, request_id: str, on_answer: Callable[[], None]
    ) -> Lookups:
        """Starts the actions, all at once, and returns. `on_answer` is told of each that is answered."""
        requests = [
            Request(
                body=action.body,
                key=key,
                stream=False,
                request_id=request_id,
                mend=lambda _: None,
                path=SEARCH if isinstance(action, Search) else FETCH,
                refusal=_refusal,
            )
            for action in actions
        ]
        calls = [self._client.open(request, self._clocks) for request in requests]
        return Lookups(calls, on_answer)


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> ProxyError:
    """What a status means. A page that cannot be had is no fault of the upstream's."""
    if status == 404 and "failed to fetch" in (failures.error_message(body) or ""):
        return NotFound("it cannot be reached, or is of a kind that cannot be read")
    return failures.from_status(status, headers, body)
