"""What only the Redis store can get wrong: the way there, and what else lives in the same place."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from harness import redis_server
from harness.threads import at_once

from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.store.base import Conversation, Item, Limits, LogPiece, NewResponse, Usage
from deepseek_proxy.store.keeper import Recording
from deepseek_proxy.store.redis import RedisBackend
from deepseek_proxy.store.redis_server import CALL_SECONDS, REST_SECONDS
from deepseek_proxy.store.store import Store

ROOMY = Limits(1 << 30, 1 << 30)


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    store = Store(RedisBackend(redis_url, ROOMY))
    yield store
    store.close()


def begin(store: Store, id: str = "resp_1", owner: str = "ann") -> Recording:
    return store.begin(NewResponse(id, owner, 1, "in_progress", b"{}", None, [Item(f"q{id}", b"{}")]))


@contextmanager
def own_server() -> Iterator[tuple[subprocess.Popen[bytes], Store]]:
    """A server that the test may break."""
    with redis_server.process() as (server, url):
        store = Store(RedisBackend(url, ROOMY))
        try:
            yield server, store
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGCONT)
            store.close()


def test_a_server_that_is_gone_is_told_at_once(free_port: int) -> None:
    store = Store(RedisBackend(f"redis://user:secret@127.0.0.1:{free_port}/0", ROOMY))
    started = time.monotonic()
    with pytest.raises(StoreUnavailable) as refusal:
        begin(store)
    assert time.monotonic() - started < CALL_SECONDS
    for word in ("secret", "user", "127.0.0.1"):
        assert word not in refusal.value.message
    store.close()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_a_server_that_hangs_is_waited_for_once_and_not_by_everybody_in_turn() -> None:
    with own_server() as (server, store):
        begin(store)
        server.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        for _ in range(20):
            with pytest.raises(StoreUnavailable):
                store.get("ann", "resp_1")
        assert time.monotonic() - started < CALL_SECONDS + REST_SECONDS
        server.send_signal(signal.SIGCONT)
        time.sleep(REST_SECONDS + 0.1)
        assert store.get("ann", "resp_1") is not None


def test_an_answer_that_ends_while_the_server_hangs_is_stored_when_it_is_back() -> None:
    with own_server() as (server, store):
        recording = begin(store)
        recording.append(0, b"first ")
        server.send_signal(signal.SIGSTOP)
        recording.append(1, b"second")
        assert store.finish(recording, "completed", b'{"well":1}', [Item("a", b"{}")])
        server.send_signal(signal.SIGCONT)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                found = store.get("ann", "resp_1")
                if found is not None and found.status == "completed":
                    break
            except StoreUnavailable:
                pass
            time.sleep(0.1)
        else:
            pytest.fail("the answer is lost")
        assert found.body == b'{"well":1}'
        events = store.events("ann", "resp_1")
        assert events is not None
        assert b"".join(piece.data for piece in events.pieces) == b"first second"


def test_what_was_begun_unheard_and_what_cannot_be_discarded_is_deleted_later() -> None:
    with own_server() as (server, store):
        recording = begin(store)
        server.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreUnavailable):  # the server will read this nevertheless
            store.begin(NewResponse("resp_2", "ann", 1, "in_progress", b"{}"))
        store.discard(recording)
        server.send_signal(signal.SIGCONT)
        until = time.monotonic() + 20
        while True:
            assert time.monotonic() < until
            time.sleep(0.1)
            try:
                if store.usage().responses == 0:
                    break
            except StoreUnavailable:
                pass
        assert store.usage() == Usage(0, 0, 0)


def test_connections_that_broke_are_made_again(redis_url: str, store: Store) -> None:
    begin(store)
    with redis.Redis.from_url(redis_url) as operator:
        for _ in range(3):
            operator.client_kill_filter(_type="normal", skipme=True)
            assert store.get("ann", "resp_1") is not None


def test_scripts_that_the_server_forgot_are_sent_again(redis_url: str, store: Store) -> None:
    begin(store)
    with redis.Redis.from_url(redis_url) as operator:
        operator.script_flush()
    assert store.get("ann", "resp_1") is not None


@contextmanager
def without_memory(redis_url: str) -> Iterator[None]:
    with redis.Redis.from_url(redis_url) as operator:
        operator.config_set("maxmemory", "1mb")
        try:
            yield
        finally:
            operator.config_set("maxmemory", "0")


def test_a_server_without_memory_is_a_store_that_cannot_be_used(redis_url: str, store: Store) -> None:
    begin(store)
    with without_memory(redis_url):
        with pytest.raises(StoreUnavailable):
            begin(store, "resp_2")
        assert store.get("ann", "resp_1") is not None
    assert begin(store, "resp_2")


def test_room_is_made_on_a_server_without_memory(redis_url: str, store: Store) -> None:
    store.finish(begin(store), "completed", b"{}", [Item("a", b"{}")])
    store.finish(begin(store, "resp_2"), "completed", b"{}", [Item("b", b"{}")])
    store.create_conversation(Conversation("conv_1", "ann", 1, b"{}"), [Item("c", b"{}"), Item("d", b"{}")])
    a_year_on = RedisBackend(redis_url, ROOMY, clock=lambda: time.time() + 365 * 86_400)
    with without_memory(redis_url):
        assert store.delete("ann", "resp_1")
        assert store.delete_item("ann", "conv_1", "c")
        assert store.delete_conversation("ann", "conv_1")
        a_year_on.beat(store.worker, 30)
        assert a_year_on.claim("sweep", store.worker, 60)
        assert a_year_on.sweep(10) == 1
        assert store.usage() == Usage(0, 0, 0)
    a_year_on.close()


def test_events_that_find_no_memory_wait_for_it(redis_url: str, store: Store) -> None:
    recording = begin(store)
    recording.append(0, b"first")
    with without_memory(redis_url):
        with pytest.raises(StoreUnavailable):
            store.backend.append([LogPiece("ann", "resp_1", 0, b"\0first")])
        recording.append(1, b" second")
        assert store.finish(recording, "completed", b"{}")
    until = time.monotonic() + 20
    while (events := store.events("ann", "resp_1")) is None or not events.ended:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert b"".join(piece.data for piece in events.pieces) == b"first second"


def test_other_keys_of_the_same_server_are_left_alone_and_ours_are_gone_in_the_end(
    redis_url: str, store: Store
) -> None:
    with redis.Redis.from_url(redis_url) as operator:
        operator.set("somebody's", "own")
        recording = begin(store)
        recording.append(0, b"x")
        store.finish(recording, "completed", b"{}", [Item("a", b"{}")])
        assert store.delete("ann", "resp_1")
        left = {key.decode() for key in operator.keys("*")}
    ours = {key.removeprefix("deepseek-proxy:store:") for key in left - {"somebody's"}}
    assert ours <= {"number", "total", "workers", "duties"}
    assert "somebody's" in left


def test_no_id_reaches_into_another_owners_names(store: Store) -> None:
    begin(store, "b:resp_1", owner="a")
    assert store.get("a:b", "resp_1") is None
    assert store.get("a", "b:resp_1") is not None


def test_two_machines_see_the_same(redis_url: str, store: Store) -> None:
    program = (
        "import sys\n"
        "from deepseek_proxy.store.base import Limits, NewResponse\n"
        "from deepseek_proxy.store.redis import RedisBackend\n"
        "from deepseek_proxy.store.store import Store\n"
        "store = Store(RedisBackend(sys.argv[1], Limits(1 << 30, 1 << 30)))\n"
        "recording = store.begin(NewResponse('resp_there', 'ann', 1, 'in_progress', b'{}'))\n"
        "store.finish(recording, 'completed', b'{\"there\":1}')\n"
    )
    subprocess.run([sys.executable, "-c", program, redis_url], check=True, timeout=60)
    found = store.get("ann", "resp_there")
    assert found is not None
    assert found.body == b'{"there":1}'


def test_many_threads_share_a_few_connections(store: Store) -> None:
    at_once(100, lambda number: store.finish(begin(store, f"resp_{number}"), "completed", b"{}"))
    assert store.usage("ann").responses == 100
