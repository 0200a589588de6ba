"""One call: the attempt runs beside it, three clocks end it, and it can be given up at any time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from deepseek_proxy.errors import RateLimited, UpstreamError, UpstreamTimeout, UpstreamTruncated
from deepseek_proxy.upstream.body import Body
from deepseek_proxy.upstream.call import Aborted, Call, Clocks
from deepseek_proxy.upstream.readiness import TICK_SECONDS

PATIENT = Clocks(bytes_idle=60, data_idle=60, total=60, after_finish=60)


class ScriptedBody:
    """Answers `read` from a list, and then with its end; an exception is raised. Counts its closings."""

    def __init__(self, *reads: bytes | Exception | None) -> None:
        self._reads = iter(reads)
        self.closings: list[bool] = []

    @property
    def arrived(self) -> bool:
        return False

    def read(self) -> bytes | None:
        answer = next(self._reads, b"")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self, *, drain: bool = False) -> None:
        self.closings.append(drain)


class SteadyBody(ScriptedBody):
    """Gives the same answer for ever, a millisecond apart."""

    def __init__(self, answer: bytes | None) -> None:
        super().__init__()
        self._answer = answer

    def read(self) -> bytes | None:
        time.sleep(0.001)
        return self._answer


@pytest.fixture
def begin() -> Iterator[Callable[..., Call]]:
    calls: list[Call] = []

    def start(attempt: Callable[[Call], Body], clocks: Clocks = PATIENT) -> Call:
        calls.append(Call(attempt, clocks))
        return calls[-1]

    yield start
    for call in calls:
        call.close()


def wait(call: Call) -> None:
    while not call.wait():
        pass


def read_for_ever(call: Call) -> None:
    deadline = time.monotonic() + 5
    while call.read() != b"":
        assert time.monotonic() < deadline


def test_a_call_returns_at_once_and_tells_when_the_answer_begins(begin: Callable[..., Call]) -> None:
    go_on = threading.Event()

    def attempt(_: Call) -> Body:
        assert go_on.wait(10)
        return ScriptedBody(b"one", None, b"two")

    call = begin(attempt)
    started = time.monotonic()
    assert call.wait() is False
    assert TICK_SECONDS * 0.9 < time.monotonic() - started < TICK_SECONDS + 0.5
    assert call.read() is None
    go_on.set()
    wait(call)
    assert [call.read() for _ in range(4)] == [b"one", None, b"two", b""]


def test_a_call_can_be_read_without_waiting_first(begin: Callable[..., Call]) -> None:
    call = begin(lambda _: ScriptedBody(b"one"))
    assert call.read_all(100, on_tick=lambda: None) == b"one"


def test_the_error_of_the_attempt_is_told_every_time(begin: Callable[..., Call]) -> None:
    error = RateLimited("slow down", retry_after=3)

    def attempt(_: Call) -> Body:
        raise error

    call = begin(attempt)
    for ask in (call.wait, call.wait, call.read):
        with pytest.raises(RateLimited) as raised:
            ask()
        assert raised.value is error


def test_a_bug_in_the_attempt_is_an_error_without_its_words(begin: Callable[..., Call]) -> None:
    def attempt(_: Call) -> Body:
        raise KeyError("sk-secret")

    call = begin(attempt)
    with pytest.raises(UpstreamError, match="KeyError") as raised:
        wait(call)
    assert "sk-secret" not in raised.value.message
    assert isinstance(raised.value.__cause__, KeyError)


def test_what_a_body_raises_passes_through(begin: Callable[..., Call]) -> None:
    call = begin(lambda _: ScriptedBody(b"one", UpstreamTruncated("cut")))
    wait(call)
    assert call.read() == b"one"
    with pytest.raises(UpstreamTruncated):
        call.read()


class TestClocks:
    @staticmethod
    def seconds_until_timeout(call: Call, message: str) -> float:
        started = time.monotonic()
        with pytest.raises(UpstreamTimeout, match=message):
            read_for_ever(call)
        return time.monotonic() - started

    def test_no_byte_for_too_long(self, begin: Callable[..., Call]) -> None:
        clocks = Clocks(bytes_idle=0.2, data_idle=60, total=60, after_finish=60)
        call = begin(lambda _: SteadyBody(None), clocks)
        assert 0.15 < self.seconds_until_timeout(call, "sent nothing for 0.2 seconds") < 1

    def test_silence_counts_from_the_last_byte(self, begin: Callable[..., Call]) -> None:
        clocks = Clocks(bytes_idle=0.3, data_idle=60, total=60, after_finish=60)
        call = begin(lambda _: ScriptedBody(b"one", None, b"two", *[None] * 100), clocks)
        wait(call)
        assert call.read() == b"one"
        time.sleep(0.2)
        assert call.read() is None
        assert call.read() == b"two"
        time.sleep(0.2)
        assert call.read() is None

    def test_the_time_before_the_answer_is_no_silence_of_the_body(self, begin: Callable[..., Call]) -> None:
        def attempt(_: Call) -> Body:
            time.sleep(0.4)
            return ScriptedBody(None, b"one")

        call = begin(attempt, Clocks(bytes_idle=0.3, data_idle=60, total=60, after_finish=60))
        assert call.read_all(10, on_tick=lambda: None) == b"one"

    @pytest.mark.parametrize("answer", [None, b"data"], ids=["silent", "busy"])
    def test_an_answer_that_takes_too_long_in_all(
        self, begin: Callable[..., Call], answer: bytes | None
    ) -> None:
        clocks = Clocks(bytes_idle=60, data_idle=60, total=0.3, after_finish=60)
        call = begin(lambda _: SteadyBody(answer), clocks)
        assert 0.25 < self.seconds_until_timeout(call, "took longer than 0.3 seconds") < 1

    def test_an_attempt_that_takes_too_long_in_all(self, begin: Callable[..., Call]) -> None:
        def attempt(call: Call) -> Body:
            call.pause(30)
            raise AssertionError

        call = begin(attempt, Clocks(bytes_idle=60, data_idle=60, total=0.1, after_finish=60))
        with pytest.raises(UpstreamTimeout, match=r"took longer than 0\.1"):
            wait(call)


class TestReadAll:
    def test_silence_calls_back(self, begin: Callable[..., Call]) -> None:
        ticks: list[int] = []
        call = begin(lambda _: ScriptedBody(b"one", None, b"two", None))
        wait(call)
        assert call.read_all(6, on_tick=lambda: ticks.append(1)) == b"onetwo"
        assert len(ticks) == 2

    def test_so_does_the_wait_for_the_answer(self, begin: Callable[..., Call]) -> None:
        class LeftError(Exception):
            pass

        def leave() -> None:
            raise LeftError

        def attempt(call: Call) -> Body:
            call.pause(30)
            raise AssertionError

        with pytest.raises(LeftError):
            begin(attempt).read_all(10, on_tick=leave)

    def test_the_bound_holds(self, begin: Callable[..., Call]) -> None:
        call = begin(lambda _: SteadyBody(b"four"))
        with pytest.raises(UpstreamError, match="longer than 4 bytes"):
            call.read_all(4, on_tick=lambda: None)
        assert begin(lambda _: ScriptedBody(b"four")).read_all(4, on_tick=lambda: None) == b"four"


class TestClosing:
    @pytest.mark.parametrize("drain", [True, False])
    def test_the_body_is_closed_once(self, begin: Callable[..., Call], drain: bool) -> None:
        body = ScriptedBody(b"one")
        call = begin(lambda _: body)
        wait(call)
        call.close(drain=drain)
        call.close(drain=True)
        assert body.closings == [drain]
        assert call.read() == b""

    def test_a_pause_ends_at_once(self, begin: Callable[..., Call]) -> None:
        ended = threading.Event()

        def attempt(call: Call) -> Body:
            try:
                call.pause(30)
            except Aborted:
                ended.set()
                raise
            raise AssertionError

        call = begin(attempt)
        assert not call.given_up
        call.close()
        assert call.given_up
        assert ended.wait(1)
        with pytest.raises(UpstreamError, match="given up"):
            wait(call)

    def test_a_pause_that_ends_by_itself_goes_on(self, begin: Callable[..., Call]) -> None:
        def attempt(call: Call) -> Body:
            call.pause(0.01)
            return ScriptedBody(b"one")

        assert begin(attempt).read_all(10, on_tick=lambda: None) == b"one"

    def test_an_attempt_under_way_is_ended_from_outside(self, begin: Callable[..., Call]) -> None:
        under_way, aborted = threading.Event(), threading.Event()

        def attempt(call: Call) -> Body:
            call.abort_with(aborted.set)
            under_way.set()
            assert aborted.wait(10)
            raise Aborted

        call = begin(attempt)
        assert under_way.wait(10)
        call.close()
        assert aborted.is_set()
        with pytest.raises(UpstreamError, match="given up"):
            wait(call)

    def test_no_attempt_begins_after_it(self, begin: Callable[..., Call]) -> None:
        go_on = threading.Event()
        begun: list[bool] = []

        def attempt(call: Call) -> Body:
            assert go_on.wait(10)
            call.abort_with(lambda: None)
            begun.append(True)
            return ScriptedBody()

        call = begin(attempt)
        call.close()
        go_on.set()
        with pytest.raises(UpstreamError, match="given up"):
            wait(call)
        assert begun == []

    def test_an_attempt_that_is_over_is_not_ended_any_more(self, begin: Callable[..., Call]) -> None:
        aborts: list[bool] = []

        def attempt(call: Call) -> Body:
            call.abort_with(lambda: aborts.append(True))
            return ScriptedBody(b"one")

        call = begin(attempt)
        wait(call)
        call.close()
        assert aborts == []

    def test_an_answer_that_comes_too_late_is_closed(self, begin: Callable[..., Call]) -> None:
        go_on, closed = threading.Event(), threading.Event()

        class LateBody(ScriptedBody):
            def close(self, *, drain: bool = False) -> None:
                super().close(drain=drain)
                closed.set()

        body = LateBody(b"one")

        def attempt(_: Call) -> Body:
            assert go_on.wait(10)
            return body

        call = begin(attempt)
        call.close()
        go_on.set()
        assert closed.wait(5)
        assert body.closings == [False]
        wait(call)
        assert call.read() == b""
