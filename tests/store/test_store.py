"""What every backend has to do, seen from the gateway: one suite, run over each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import orjson
import pytest
from harness.clocks import Clock
from harness.threads import at_once
from harness.waiting import wait_for
from store.conftest import DAY, TTL_DAYS
from store.turns import answer, begin, item, talk

from deepseek_proxy.errors import StoreFull
from deepseek_proxy.store.base import Events, Item, Limits, Piece
from deepseek_proxy.store.keeper import BEAT_LAPSES_SECONDS, FLUSH_BYTES, PATIENT_FLUSH_SECONDS
from deepseek_proxy.store.store import Store

MakeStore = Callable[..., Store]


def whole_log(store: Store, id: str, owner: str = "ann") -> list[Piece]:
    pieces: list[Piece] = []
    while True:
        events = store.events(owner, id, pieces[-1].first if pieces else -1)
        assert events is not None
        pieces += [piece for piece in events.pieces if not pieces or piece.first > pieces[-1].first]
        if events.ended:
            return pieces


# -- responses


def test_a_response_is_kept_from_its_beginning_to_its_end(store: Store) -> None:
    recording = begin(store, status="queued", body=b'{"status":"queued"}', background=True)
    found = store.get("ann", "resp_1")
    assert found is not None
    assert (found.status, found.body, found.background) == ("queued", b'{"status":"queued"}', True)
    assert not found.abandoned

    assert store.update(recording, "in_progress", b'{"status":"in_progress"}')
    found = store.get("ann", "resp_1")
    assert found is not None
    assert (found.status, found.body) == ("in_progress", b'{"status":"in_progress"}')

    body = orjson.dumps({"text": "long " * 10_000})
    assert store.finish(recording, "completed", body)
    found = store.get("ann", "resp_1")
    assert found is not None
    assert (found.status, found.body, found.created_at) == ("completed", body, 1_800_000_000)


def test_nobody_else_sees_a_response(store: Store) -> None:
    answer(store, "resp_1", [item("a")], input=[item("q")])
    assert store.get("bob", "resp_1") is None
    assert store.events("bob", "resp_1") is None
    assert not store.delete("bob", "resp_1")
    assert not store.request_cancel("bob", "resp_1")
    assert store.find_items("bob", ["msg_a", "msg_q"]) == {}
    assert store.get("ann", "resp_1") is not None


def test_two_owners_may_have_the_same_id(store: Store) -> None:
    answer(store, "resp_1", owner="ann")
    answer(store, "resp_1", owner="bob")
    assert store.delete("ann", "resp_1")
    assert store.get("bob", "resp_1") is not None


def test_a_deleted_response_is_gone_and_its_maker_is_told(store: Store) -> None:
    recording = begin(store)
    recording.append(0, b"x")
    assert store.delete("ann", "resp_1")
    assert store.get("ann", "resp_1") is None
    assert store.events("ann", "resp_1") is None
    assert not store.delete("ann", "resp_1")
    assert not store.update(recording, "in_progress", b"{}")
    assert not store.finish(recording, "completed", b"{}", [item("a")])
    assert store.get("ann", "resp_1") is None
    assert store.usage("ann").bytes == 0


def test_what_has_ended_does_not_change_any_more(store: Store) -> None:
    recording = begin(store)
    assert store.finish(recording, "completed", b'{"first":1}')
    assert not store.finish(recording, "failed", b'{"second":1}')
    assert not store.update(recording, "in_progress", b"{}")
    found = store.get("ann", "resp_1")
    assert found is not None
    assert found.body == b'{"first":1}'


def test_a_discarded_response_was_never_there(store: Store) -> None:
    recording = begin(store, input=[item("q")])
    recording.append(0, b"x")
    store.discard(recording)
    assert store.get("ann", "resp_1") is None
    assert store.usage() == store.usage("nobody")


# -- chains


def test_a_turn_goes_on_from_the_one_before(store: Store) -> None:
    first = answer(store, "resp_1", [item("a1")], input=[item("q1")])
    second = answer(store, "resp_2", [item("a2")], base=first.head, input=[item("q2"), item("q3")])
    assert store.items("ann", first.input) == [item("q1")]
    assert store.items("ann", second.input) == [item("q1"), item("a1"), item("q2"), item("q3")]
    assert store.items("ann", second.head)[-1] == item("a2")
    assert second.own_input == 2


def test_a_chain_outlives_the_response_it_began_with(store: Store) -> None:
    first = answer(store, "resp_1", [item("a1")], input=[item("q1")])
    second = answer(store, "resp_2", [item("a2")], base=first.head, input=[item("q2")])
    assert store.delete("ann", "resp_1")
    assert store.items("ann", second.head) == [item("q1"), item("a1"), item("q2"), item("a2")]
    assert store.delete("ann", "resp_2")
    assert store.usage("ann").bytes == 0
    assert store.find_items("ann", ["msg_q1", "msg_a1"]) == {}


def test_turns_that_branch_off_share_what_is_common(store: Store) -> None:
    first = answer(store, "resp_1", [item("a1")], input=[item("q1", "long " * 1000)])
    left = answer(store, "resp_2", base=first.head, input=[item("left")])
    right = answer(store, "resp_3", base=first.head, input=[item("right")])
    assert store.delete("ann", "resp_1")
    assert store.delete("ann", "resp_2")
    assert store.items("ann", right.head) == [item("q1", "long " * 1000), item("a1"), item("right")]
    with pytest.raises(LookupError):
        store.items("ann", left.head)


def test_the_same_turn_sent_twice_is_kept_once(store: Store) -> None:
    one = answer(store, "resp_1", input=[item("q", "long " * 1000)])
    size = store.usage("ann").bytes
    two = answer(store, "resp_2", input=[item("q", "long " * 1000)])
    assert one.input == two.input
    assert store.usage("ann").bytes < size + 500
    assert store.delete("ann", "resp_1")
    assert len(store.items("ann", two.input)) == 1


def test_a_history_that_is_sent_again_is_recognised_without_its_ids(store: Store) -> None:
    answer(store, "resp_1", input=[item("q1"), item("q2")])
    again = [Item("msg_other1", item("q1").json), Item("msg_other2", item("q2").json), item("q3")]
    second = answer(store, "resp_2", input=again)
    assert store.items("ann", second.input) == [item("q1"), item("q2"), item("q3")]
    assert second.own_input == 3


def test_a_turn_without_items_has_an_empty_chain(store: Store) -> None:
    empty = answer(store, "resp_1")
    assert (empty.input, empty.head) == (None, None)
    assert store.items("ann", empty.head) == []


def test_a_turn_that_adds_nothing_has_the_chain_before(store: Store) -> None:
    first = answer(store, "resp_1", [item("a1")], input=[item("q1")])
    second = answer(store, "resp_2", base=first.head)
    assert second.input == second.head == first.head
    assert store.delete("ann", "resp_1")
    assert store.items("ann", second.head) == [item("q1"), item("a1")]


def test_nobody_goes_on_from_what_is_gone_or_from_another_owners_chain(store: Store) -> None:
    first = answer(store, "resp_1", [item("a1")], input=[item("q1")])
    with pytest.raises(LookupError):
        begin(store, "resp_2", owner="bob", base=first.head, input=[item("q2")])
    with pytest.raises(LookupError):
        store.items("bob", first.head)
    assert store.delete("ann", "resp_1")
    with pytest.raises(LookupError):
        begin(store, "resp_2", base=first.head, input=[item("q2")])
    with pytest.raises(LookupError):
        begin(store, "resp_2", base=first.head)
    assert store.usage() == store.usage("nobody")


def test_items_are_found_by_their_ids(store: Store) -> None:
    answer(store, "resp_1", [item("a1"), item("a2")], input=[item("q1"), item("q2")])
    found = store.find_items("ann", ["msg_q2", "msg_a1", "msg_unknown"])
    assert found == {"msg_q2": item("q2"), "msg_a1": item("a1")}


def test_the_latest_item_of_an_id_counts(store: Store) -> None:
    answer(store, "resp_1", [Item("msg_a", b'{"n":1}')])
    answer(store, "resp_2", [Item("msg_a", b'{"n":2}')])
    assert store.find_items("ann", ["msg_a"])["msg_a"].json == b'{"n":2}'


def test_an_item_has_one_line(store: Store) -> None:
    with pytest.raises(ValueError, match="line"):
        begin(store, input=[Item("msg_a", b'{\n"n":1}')])


# -- events


def test_a_log_is_replayed_as_it_was_written(store: Store) -> None:
    recording = begin(store, background=True)
    frames = [f"event: e\ndata: {number}\n\n".encode() for number in range(300)]
    for number, frame in enumerate(frames):
        recording.append(number, frame)
        if number == 150:
            wait_for(lambda: bool(store.events("ann", "resp_1").pieces))  # type: ignore[union-attr]
    assert store.finish(recording, "completed", b"{}")
    pieces = whole_log(store, "resp_1")
    assert b"".join(piece.data for piece in pieces) == b"".join(frames)
    assert len(pieces) >= 2
    for piece in pieces:
        assert piece.data.startswith(frames[piece.first])


def test_a_log_is_read_from_the_piece_that_holds_what_comes_next(store: Store) -> None:
    recording = begin(store, background=True)
    for first in (0, 10, 20):
        recording.append(first, b"%d" % first)
        wait_for(
            lambda first=first: (
                (events := store.events("ann", "resp_1")) is not None  # type: ignore[misc]
                and any(piece.first == first for piece in events.pieces)
            )
        )
    assert store.finish(recording, "completed", b"{}")

    def firsts(after: int) -> list[int]:
        events = store.events("ann", "resp_1", after)
        assert events is not None
        return [piece.first for piece in events.pieces]

    assert firsts(-1) == [0, 10, 20]
    assert firsts(5) == [0, 10, 20]
    assert firsts(8) == [0, 10, 20]
    assert firsts(9) == [10, 20]
    assert firsts(19) == [20]
    assert firsts(1000) == [20]


def test_a_long_log_comes_in_parts(store: Store) -> None:
    recording = begin(store, background=True)
    noise = [bytes(orjson.dumps([hash((number, n)) for n in range(30_000)])) for number in range(6)]
    for number, data in enumerate(noise):
        recording.append(number, data)
        wait_for(
            lambda number=number: bool(  # type: ignore[misc]
                (events := store.events("ann", "resp_1", number - 1)) and events.pieces[-1:]
                and events.pieces[-1].first == number
            )
        )  # fmt: skip
    assert store.finish(recording, "completed", b"{}")
    events = store.events("ann", "resp_1")
    assert events is not None
    assert not events.ended
    assert 0 < len(events.pieces) < 6
    assert [piece.data for piece in whole_log(store, "resp_1")] == noise


def test_a_live_log_is_followed_from_another_worker(make_store: MakeStore) -> None:
    writer, reader = make_store(), make_store()
    recording = begin(writer, background=True)
    heard: list[bytes] = []

    def follow() -> None:
        after = -1
        while True:
            events = reader.follow("ann", "resp_1", after, seconds=5)
            assert events is not None
            new = [piece for piece in events.pieces if piece.first > after]
            heard.extend(piece.data for piece in new)
            after = new[-1].first if new else after
            if events.ended:
                return

    thread = threading.Thread(target=follow)
    thread.start()
    for number in range(5):
        recording.append(number, b"%d" % number)
        time.sleep(0.1)
    writer.finish(recording, "completed", b"{}")
    thread.join(10)
    assert b"".join(heard) == b"01234"


def test_following_ends_when_nothing_comes(store: Store) -> None:
    begin(store)
    started = time.monotonic()
    assert store.follow("ann", "resp_1", -1, seconds=0.3) == Events([], ended=False)
    assert 0.25 < time.monotonic() - started < 3
    assert store.follow("ann", "resp_unknown", -1, seconds=5) is None


def test_what_a_client_reads_itself_is_written_in_larger_pieces(store: Store) -> None:
    patient, hasty = begin(store, "resp_1"), begin(store, "resp_2", background=True)
    started = time.monotonic()
    patient.append(0, b"x")
    hasty.append(0, b"x")
    wait_for(lambda: bool(store.events("ann", "resp_2").pieces))  # type: ignore[union-attr]
    if time.monotonic() - started < PATIENT_FLUSH_SECONDS:
        assert store.events("ann", "resp_1") == Events([], ended=False)
    wait_for(lambda: bool(store.events("ann", "resp_1").pieces))  # type: ignore[union-attr]
    patient.append(1, b"y" * FLUSH_BYTES)
    started = time.monotonic()
    wait_for(lambda: len(store.events("ann", "resp_1").pieces) == 2)  # type: ignore[union-attr]
    assert time.monotonic() - started < PATIENT_FLUSH_SECONDS


# -- workers


def test_cancelling_reaches_the_worker(make_store: MakeStore) -> None:
    worker, other = make_store(), make_store()
    recording = begin(worker, background=True)
    spared = begin(worker, "resp_2", background=True)
    assert other.request_cancel("ann", "resp_1")
    wait_for(lambda: recording.cancel_requested)
    assert not spared.cancel_requested
    assert worker.finish(recording, "cancelled", b"{}")
    assert not other.request_cancel("ann", "resp_1")
    assert not other.request_cancel("ann", "resp_unknown")
    worker.finish(spared, "completed", b"{}")


def test_cancelling_in_the_same_worker_is_known_at_once(store: Store) -> None:
    recording = begin(store, background=True)
    assert store.request_cancel("ann", "resp_1")
    assert recording.cancel_requested


def test_without_a_worker_a_response_is_abandoned(make_store: MakeStore, clock: Clock) -> None:
    dead, alive = make_store(), make_store()
    begin(dead, "resp_1")
    answer(dead, "resp_2")
    clock.now += BEAT_LAPSES_SECONDS + 1
    begin(alive, "resp_3")
    abandoned, ended, running = (alive.get("ann", f"resp_{number}") for number in (1, 2, 3))
    assert abandoned is not None
    assert ended is not None
    assert running is not None
    assert (abandoned.abandoned, ended.abandoned, running.abandoned) == (True, False, False)
    assert alive.follow("ann", "resp_1", -1, seconds=5) == Events([], ended=False, abandoned=True)


def test_a_worker_that_was_taken_for_dead_still_ends_its_response(store: Store, clock: Clock) -> None:
    recording = begin(store)
    clock.now += BEAT_LAPSES_SECONDS + 1
    assert store.finish(recording, "completed", b"{}")
    found = store.get("ann", "resp_1")
    assert found is not None
    assert not found.abandoned


# -- ages and sizes


def test_a_response_expires(store: Store, clock: Clock) -> None:
    answer(store, "resp_1", [item("a1")], input=[item("q1")])
    clock.now += TTL_DAYS * DAY - 1
    assert store.get("ann", "resp_1") is not None
    clock.now += 2
    assert store.get("ann", "resp_1") is None
    assert store.events("ann", "resp_1") is None
    assert store.usage("ann").responses == 1
    assert store.backend.sweep(100) >= 1
    assert store.usage() == store.usage("nobody")


def test_a_younger_turn_keeps_the_chain_of_one_that_expired(store: Store, clock: Clock) -> None:
    first = answer(store, "resp_1", [item("a1")], input=[item("q1")])
    clock.now += 10 * DAY
    second = answer(store, "resp_2", [item("a2")], base=first.head, input=[item("q2")])
    clock.now += 25 * DAY
    store.backend.sweep(100)
    assert store.get("ann", "resp_1") is None
    assert store.items("ann", second.head) == [item("q1"), item("a1"), item("q2"), item("a2")]


def test_a_sweep_does_a_bounded_amount_of_work(store: Store, clock: Clock) -> None:
    for number in range(10):
        answer(store, f"resp_{number}", input=[item(str(number))])
    clock.now += TTL_DAYS * DAY + 1
    assert store.backend.sweep(4) == 4
    assert store.usage("ann").responses == 6
    assert store.backend.sweep(100) < 100
    assert store.usage() == store.usage("nobody")


def noise(number: int, size: int = 10_000) -> bytes:
    """Bytes of JSON that hardly compress."""
    return orjson.dumps([hash((number, n)) for n in range(size // 20)])


def fill(store: Store, owners: Sequence[str]) -> None:
    for number, owner in enumerate(owners, 1):
        store.finish(begin(store, f"resp_{number}", owner=owner), "completed", noise(number))


def test_the_oldest_answers_make_room(make_store: MakeStore) -> None:
    store = make_store(Limits(owner_bytes=100_000, total_bytes=1_000_000))
    kept = 0
    for number in range(60):
        recording = begin(store, f"resp_{number}")
        store.finish(recording, "completed", noise(number))
        store.backend.sweep(100)
        kept = store.usage("ann").responses
    assert 3 <= kept < 20
    assert store.usage("ann").bytes <= 100_000
    assert store.get("ann", "resp_59") is not None
    assert store.get("ann", "resp_0") is None


def test_an_owner_has_a_limit_and_others_go_on(make_store: MakeStore) -> None:
    store = make_store(Limits(owner_bytes=100_000, total_bytes=1_000_000))
    running = begin(store, "resp_0")
    with pytest.raises(StoreFull):
        fill(store, ["ann"] * 60)
    with pytest.raises(StoreFull):
        talk(store, *(f"{number}" * 100 for number in range(1000)))
    begin(store, "resp_1", owner="bob")
    assert store.finish(running, "completed", noise(0))


def test_all_owners_together_have_a_limit(make_store: MakeStore) -> None:
    store = make_store(Limits(owner_bytes=100_000, total_bytes=200_000))
    with pytest.raises(StoreFull):
        fill(store, [f"owner{number}" for number in range(60)])
    while store.backend.sweep(100):
        pass
    assert 0 < store.usage().bytes <= 180_000
    begin(store, "resp_1", owner="zoe")


def test_one_worker_has_a_duty_at_a_time(make_store: MakeStore, clock: Clock) -> None:
    one, other = make_store(), make_store()
    assert one.backend.claim("sweep", one.worker, 60)
    assert one.backend.claim("sweep", one.worker, 60)
    assert not other.backend.claim("sweep", other.worker, 60)
    clock.now += 61
    assert other.backend.claim("sweep", other.worker, 60)


def test_many_workers_at_once(make_store: MakeStore) -> None:
    stores = [make_store() for _ in range(4)]

    def work(number: int) -> None:
        store, base = stores[number], None
        for turn in range(10):
            recording = begin(store, f"resp_{number}_{turn}", base=base, input=[item("same"), item("q")])
            recording.append(0, b"frame")
            assert store.finish(recording, "completed", b"{}", [item(f"a{turn}")])
            found = store.get("ann", f"resp_{number}_{turn}")
            assert found is not None
            assert len(store.items("ann", found.head)) == 3 * (turn + 1)
            base = found.head

    at_once(4, work)
    assert stores[0].usage("ann").responses == 40
    for number in range(4):
        for turn in range(10):
            assert stores[0].delete("ann", f"resp_{number}_{turn}")
    assert stores[0].usage("ann").bytes == 0
