"""How a Redis is reached: which failures are waited for, by whom, and what is said of them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.store import redis_server
from deepseek_proxy.store.redis_server import CALL_SECONDS, RedisServer

ONE = {"one": "return {KEYS[1], ARGV[1], ARGV[2]}"}


def at(url: str, **given: object) -> RedisServer:
    return RedisServer(url, "prefix:", ONE, StoreUnavailable, **given)  # type: ignore[arg-type]


@contextmanager
def stranger(*, hangs: bool) -> Iterator[tuple[str, list[float]]]:
    """Something that takes connections, and then says nothing, or hangs up. When it took which."""
    taken: list[float] = []
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    taken.append(time.monotonic())
                    stack.push(connection) if hangs else connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"redis://user:secret@127.0.0.1:{listener.getsockname()[1]}/0", taken
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_script_gets_the_prefix_and_the_moment(redis_url: str) -> None:
    server = at(redis_url, clock=lambda: 5.5, text=True)
    assert server.run("one", "x") == ["prefix:", "5.5", "x"]
    assert str(server.info()["redis_version"])
    server.close()
    server = at(redis_url)
    assert server.run("one", 1) == [b"prefix:", b"", b"1"]
    server.close()


def test_what_is_no_url_is_told_without_its_password() -> None:
    with pytest.raises(ValueError, match=r"^this is no URL of a Redis$"):
        at("redis://user:secret@host:port/0")


def test_a_server_that_does_not_answer_is_left_alone_for_a_moment() -> None:
    with stranger(hangs=True) as (url, taken):
        server = at(url)
        with pytest.raises(StoreUnavailable) as refusal:
            server.run("one", 1)
        assert "secret" not in refusal.value.message
        assert "127.0.0.1" not in refusal.value.message
        began, before = time.monotonic(), len(taken)
        with pytest.raises(StoreUnavailable):
            server.info()
        assert time.monotonic() - began < CALL_SECONDS / 2
        assert len(taken) == before
        server.close()


def test_a_connection_that_broke_keeps_nobody_from_making_another() -> None:
    with stranger(hangs=False) as (url, taken):
        server = at(url)
        for number in (1, 2, 3):
            with pytest.raises(StoreUnavailable):
                server.run("one", 1)
            assert len(taken) == number
        server.close()


def test_who_finds_no_connection_in_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(redis_server, "LINE_SECONDS", 0.1)
    with stranger(hangs=True) as (url, taken):
        server = at(url)

        def hang() -> None:
            with suppress(StoreUnavailable):
                server.run("one", 1)

        first = threading.Thread(target=hang)
        first.start()
        while not taken:
            time.sleep(0.01)
        with pytest.raises(StoreUnavailable, match="too many wait"):
            server.run("one", 1)
        first.join()
        assert len(taken) == 1
        server.close()
