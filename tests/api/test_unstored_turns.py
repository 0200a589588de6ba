"""Turns that a connection keeps for as long as it lasts, and as there is room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepseek_proxy.api.recorder import Forgetful
from deepseek_proxy.api.standing import Standing
from deepseek_proxy.api.unstored_turns import UnstoredTurns
from deepseek_proxy.translate.responses.place import Place

SAID = {"type": "message", "role": "assistant", "content": []}


class Stores(Forgetful):
    """Keeps everything, as a store does."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def begin(self, response: Mapping[str, Any]) -> bool:
        self.seen.append("begin")
        return True

    def end(self, response: Mapping[str, Any], number: int, frames: bytes) -> None:
        self.seen.append("end")

    def drop(self) -> None:
        self.seen.append("drop")


def turn(
    turns: UnstoredTurns,
    response: str,
    value: Any,
    after: str | None = None,
    *,
    earlier: Any = (),
    status: str = "completed",
    store: Forgetful | None = None,
) -> None:
    """One request and its answer."""
    standing = Standing({"input": value}, Place(earlier, after), store or Forgetful())
    recorder = turns.watched(standing).recorder
    recorder.begin({"id": response})
    recorder.end({"id": response, "status": status, "output": [SAID]}, 0, b"")


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_a_turn_is_what_was_asked_and_answered_and_all_before() -> None:
    turns = UnstoredTurns(10_000)
    turn(turns, "resp_1", "one")
    turn(turns, "resp_2", [user("two"), user("three")], "resp_1")
    turn(turns, "resp_3", None, "resp_2")
    assert turns.recall("resp_1") == [user("one"), SAID]
    assert turns.recall("resp_2") == [user("one"), SAID, user("two"), user("three"), SAID]
    assert turns.recall("resp_3") == [user("one"), SAID, user("two"), user("three"), SAID, SAID]
    assert turns.recall("resp_4") is None


def test_one_may_go_on_twice_from_the_same() -> None:
    turns = UnstoredTurns(10_000)
    turn(turns, "resp_1", "one")
    turn(turns, "resp_2", "left", "resp_1")
    turn(turns, "resp_3", "right", "resp_1")
    assert turns.recall("resp_3") == [user("one"), SAID, user("right"), SAID]


def test_what_comes_from_the_store_is_kept_with_what_goes_on_from_it() -> None:
    turns = UnstoredTurns(10_000)
    turn(turns, "resp_2", "two", "resp_stored", earlier=[user("one"), SAID])
    assert turns.recall("resp_2") == [user("one"), SAID, user("two"), SAID]


def test_what_the_store_keeps_is_not_kept_twice() -> None:
    turns, store = UnstoredTurns(10_000), Stores()
    turn(turns, "resp_1", "one", store=store)
    assert turns.recall("resp_1") is None
    assert store.seen == ["begin", "end"]


def test_what_failed_is_not_kept() -> None:
    turns = UnstoredTurns(10_000)
    turn(turns, "resp_1", "one", status="failed")
    turn(turns, "resp_2", "one", status="cancelled")
    turn(turns, "resp_3", "one", status="incomplete")
    assert [turns.recall(f"resp_{number}") is None for number in (1, 2, 3)] == [True, True, False]


def test_what_was_dropped_is_told_the_store() -> None:
    store = Stores()
    recorder = UnstoredTurns(0).watched(Standing({}, Place(), store)).recorder
    recorder.begin({})
    recorder.drop()
    assert store.seen == ["begin", "drop"]


def test_a_turn_can_be_forgotten() -> None:
    turns = UnstoredTurns(10_000)
    turn(turns, "resp_1", "one")
    turns.forget("resp_1")
    turns.forget("resp_1")
    assert turns.recall("resp_1") is None


def test_memory_is_bounded() -> None:
    turns = UnstoredTurns(10_000)
    after = None
    for number in range(300):
        turn(turns, f"resp_{number}", "x" * 100, after)
        after = f"resp_{number}"
    assert turns.recall("resp_0") is None
    kept = [number for number in range(300) if turns.recall(f"resp_{number}") is not None]
    assert len(kept) * 100 < 10_000
    turn(turns, "resp_large", "x" * 20_000)
    assert turns.recall("resp_large") is None
