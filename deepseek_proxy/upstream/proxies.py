"""Which proxy an attempt takes: the least used, and none that has failed a moment ago.

Uses are counted over a day (UTC). A proxy is blamed for connections that were never made; then it rests,
longer each time. Where all rest, the one that has rested longest is tried: never none at all. Refuses to know
connections. Names that go into the ledger are made of digests: a proxy's URL has its password in it.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from deepseek_proxy.credentials import DIRECT, digest_of
from deepseek_proxy.store.ledger.base import Ledger, LedgerUnavailable

FIRST_REST_SECONDS: Final = 5.0
LAST_REST_SECONDS: Final = 300.0
REMEMBERED_SECONDS: Final = 900.0
_DAY_SECONDS: Final = 86_400

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Proxy:
    """`url` is None for no proxy; `label` shows the proxy without its user and password."""

    url: str | None = field(repr=False)
    label: str
    id: str

    @classmethod
    def of(cls, url: str) -> Proxy:
        """Of a `credentials.proxy_url`."""
        if not url:
            return cls(None, DIRECT, DIRECT)
        parts = urlsplit(url)
        return cls(url, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", digest_of(url)[:16])


class ProxyPool:
    """`find_ledger()` returns where uses and failures are counted. `clock` returns Unix time."""

    def __init__(
        self,
        urls: Sequence[str],
        find_ledger: Callable[[], Ledger],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.proxies: Final = tuple(dict.fromkeys(map(Proxy.of, urls)))
        self._find_ledger = find_ledger
        self._clock = clock
        self._failed: set[str] = set()  # so far as this process knows

    def choose(self, avoid: Collection[Proxy] = ()) -> Proxy:
        """The proxy for the next attempt, counted as used; one of `avoid` only where there is no other."""
        able = [proxy for proxy in self.proxies if proxy not in avoid] or list(self.proxies)
        with _uncounted():
            ledger, day = self._find_ledger(), int(self._clock() // _DAY_SECONDS)
            resting = ledger.marks([_rest(proxy) for proxy in able])
            if len(resting) == len(able):
                able = [min(able, key=lambda proxy: resting[_rest(proxy)].seconds_left)]
            able = [proxy for proxy in able if _rest(proxy) not in resting] or able
            uses = ledger.read([_uses(proxy, day) for proxy in able])
            least = min(uses.values())
            able = [proxy for proxy in able if uses[_uses(proxy, day)] == least]
            chosen = random.choice(able)  # noqa: S311  # a tie is no secret
            ledger.add({_uses(chosen, day): 1}, (day + 1) * _DAY_SECONDS)
            return chosen
        return random.choice(able)  # noqa: S311

    def failed(self, proxy: Proxy) -> None:
        """No connection was made through it."""
        self._failed.add(proxy.id)
        with _uncounted():
            ledger, now = self._find_ledger(), self._clock()
            times = ledger.add({_failures(proxy): 1}, now + REMEMBERED_SECONDS)[_failures(proxy)]
            rest = min(FIRST_REST_SECONDS * 2 ** min(times - 1, 20), LAST_REST_SECONDS)
            ledger.mark(_rest(proxy), str(times), rest)
            logger.warning("Proxy %s rests for %d seconds: no connection came about.", proxy.label, rest)

    def worked(self, proxy: Proxy) -> None:
        """A connection was made through it."""
        if proxy.id in self._failed:
            self._failed.discard(proxy.id)
            with _uncounted():
                ledger = self._find_ledger()
                ledger.unmark(_rest(proxy))
                ledger.add({_failures(proxy): -ledger.read([_failures(proxy)])[_failures(proxy)]}, 0)

    def uses(self) -> dict[Proxy, int]:
        """How often each was taken today. Raises `LedgerUnavailable`."""
        day = int(self._clock() // _DAY_SECONDS)
        counted = self._find_ledger().read([_uses(proxy, day) for proxy in self.proxies])
        return {proxy: counted[_uses(proxy, day)] for proxy in self.proxies}

    def resting(self) -> dict[Proxy, float]:
        """Those that rest, and for how many seconds more. Raises `LedgerUnavailable`."""
        marks = self._find_ledger().marks([_rest(proxy) for proxy in self.proxies])
        return {proxy: marks[_rest(proxy)].seconds_left for proxy in self.proxies if _rest(proxy) in marks}


def _uses(proxy: Proxy, day: int) -> str:
    return f"proxy:{proxy.id}:uses:{day}"


def _failures(proxy: Proxy) -> str:
    return f"proxy:{proxy.id}:failures"


def _rest(proxy: Proxy) -> str:
    return f"proxy:{proxy.id}:rest"


@contextmanager
def _uncounted() -> Iterator[None]:
    """A shared ledger that cannot be reached costs the count, and not the attempt."""
    try:
        yield
    except LedgerUnavailable as error:
        logger.warning("The use of a proxy cannot be counted: %s", error.message)
