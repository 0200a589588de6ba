"""The leak guard: after a test, a gateway holds what it held before.

Looks from outside, in /proc: threads, files and sockets of each worker. A greenlet or a lease that stays
behind shows in the socket it holds. Refuses to know why something leaked.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway, Server

SETTLE_SECONDS: Final = 3.0
LISTENING: Final = "0A"
# gevent resolves names on threads that it starts at need and keeps; gthread fills its pool the same way.
SPARE_THREADS: Final = {Server.GEVENT: 10, Server.GTHREAD: 34, Server.FLASK: 0}


@dataclass(frozen=True)
class Footprint:
    """What one process holds. `files` are open descriptors that are no TCP sockets."""

    threads: int
    files: tuple[str, ...]
    client_sockets: int
    upstream_sockets: int
    other_sockets: int


def footprint(pid: int, gateway_port: int, upstream_port: int) -> Footprint:
    connections = _tcp_connections(pid)
    files: list[str] = []
    clients = upstreams = others = 0
    for target in _open_files(pid):
        connection = connections.get(target)
        if connection is None:
            files.append("socket" if target.startswith("socket:") else target)
        elif connection[2] == LISTENING:
            files.append("listener")
        elif connection[0] == gateway_port:
            clients += 1
        elif connection[1] == upstream_port:
            upstreams += 1
        else:
            others += 1
    threads = len(os.listdir(f"/proc/{pid}/task"))
    return Footprint(threads, tuple(sorted(files)), clients, upstreams, others)


@contextlib.contextmanager
def no_leaks(
    gateway: Gateway, upstream: FakeUpstream, *, settle_seconds: float = SETTLE_SECONDS
) -> Iterator[None]:
    """Asserts on leaving that every worker is back where it was, within `settle_seconds`.

    Pooled connections to the upstream are no leak: as many as the upstream knows to be idle, and those it
    hung up on, which a pool may keep until it wants to use them.
    """
    before = {pid: footprint(pid, gateway.port, upstream.port) for pid in gateway.worker_pids()}
    yield
    deadline = time.monotonic() + settle_seconds
    while found := _leaks(gateway, upstream, before):
        assert time.monotonic() < deadline, "; ".join(found)
        time.sleep(0.02)


def _leaks(gateway: Gateway, upstream: FakeUpstream, before: dict[int, Footprint]) -> list[str]:
    found: list[str] = []
    if upstream.busy_handlers:
        found.append(f"{upstream.busy_handlers} upstream requests are still open")
    pooled = 0
    if gateway.worker_pids() != list(before):
        found.append("the workers are not the same as before")
        return found
    for pid, was in before.items():
        now = footprint(pid, gateway.port, upstream.port)
        pooled += now.upstream_sockets
        if now.threads > was.threads + SPARE_THREADS[gateway.server]:
            found.append(f"{was.threads} threads became {now.threads}")
        more = Counter(now.files) - Counter(was.files)
        # SQLite keeps the descriptor of a connection that was closed beside others, for the next one.
        more -= Counter(name for name in more if name.endswith("/store.db"))
        if more:
            found.append(f"files that were not open before: {sorted(more.elements())}")
        if now.client_sockets > was.client_sockets:
            found.append(f"{now.client_sockets} sockets of clients are open")
        if now.other_sockets:
            found.append(f"{now.other_sockets} sockets to somewhere else")
    idle = upstream.idle_connections + upstream.hung_up
    if pooled > idle:
        found.append(f"{pooled} upstream sockets are held, {idle} are idle")
    return found


def _open_files(pid: int) -> Iterator[str]:
    folder = Path(f"/proc/{pid}/fd")
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(folder / name)


def _tcp_connections(pid: int) -> dict[str, tuple[int, int, str]]:
    """`socket:[inode]` -> (local port, remote port, state) of all TCP sockets on this machine."""
    found: dict[str, tuple[int, int, str]] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            local, remote = (int(address.rpartition(":")[2], 16) for address in columns[1:3])
            found[f"socket:[{columns[9]}]"] = (local, remote, columns[3])
    return found
