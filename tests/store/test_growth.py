"""A conversation of 200 turns is kept once, and not 200 times, however its client sends it.

`pytest -s` prints the figures of docs/state.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import orjson
import pytest

from deepseek_proxy.store.base import Head, Item, NewResponse
from deepseek_proxy.store.store import Store

TURNS = 200
WORDS = [
    f"{head}{tail}" for head in "re un in over sub".split() for tail in "view do form set mit port".split()
]


def text(dice: random.Random, words: int) -> str:
    return " ".join(dice.choice(WORDS) + str(dice.randrange(50)) for _ in range(words))


def message(dice: random.Random, role: str, words: int) -> Item:
    id = f"msg_{dice.getrandbits(96):024x}"
    parts = [{"type": "input_text" if role == "user" else "output_text", "text": text(dice, words)}]
    return Item(id, orjson.dumps({"id": id, "type": "message", "role": role, "content": parts}))


def frames(item: Item) -> list[bytes]:
    """An answer's events: a delta for each word, and the whole of it again in the end."""
    said = orjson.loads(item.json)["content"][0]["text"]
    deltas = [
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"%s",'
        b'"output_index":0,"content_index":0,"delta":"%s ","sequence_number":%d}\n\n'
        % (item.id.encode(), word.encode(), number)
        for number, word in enumerate(said.split())
    ]
    return [*deltas, *(b"event: done\ndata: %s\n\n" % item.json for _ in range(4))]


def talk(store: Store, resends: bool, turns: int = TURNS) -> tuple[int, int]:
    """Bytes kept after all turns, and bytes of all inputs as they were given to the model."""
    dice = random.Random(7)
    history: list[Item] = []
    copies = 0
    head: Head | None = None
    for turn in range(turns):
        asked, answered = message(dice, "user", 60), message(dice, "assistant", 250)
        history.append(asked)
        copies += sum(len(item.json) for item in history)
        new: Sequence[Item] = history if resends else [asked]
        id = f"resp_{turn}"
        recording = store.begin(
            NewResponse(id, "ann", 1, "in_progress", b"{}", None if resends else head, new)
        )
        for number, frame in enumerate(frames(answered)):
            recording.append(number, frame)
        body = orjson.dumps({"id": id, "tools": [], "output": [orjson.Fragment(answered.json)]})
        assert store.finish(recording, "completed", body, [answered])
        found = store.get("ann", id)
        assert found is not None
        head = found.head
        history.append(answered)
    assert [item.json for item in store.items("ann", head)] == [item.json for item in history]
    return store.usage("ann").bytes, copies


@pytest.mark.parametrize("resends", [False, True], ids=["previous_response_id", "everything again"])
def test_turns_share_what_they_have_in_common(
    make_store: Callable[..., Store], resends: bool, request: pytest.FixtureRequest
) -> None:
    held, copies = talk(make_store(), resends)
    print(f"\n{request.node.name}: {TURNS} turns held in {held:,} bytes; inputs alone {copies:,} bytes")
    assert held < copies / 15


def test_growth_is_a_straight_line(make_store: Callable[..., Store]) -> None:
    store = make_store()
    whole, _ = talk(store, resends=True)
    for turn in range(TURNS):
        store.delete("ann", f"resp_{turn}")
    assert store.usage("ann").bytes == 0
    quarter, _ = talk(store, resends=True, turns=TURNS // 4)
    assert 3.5 < whole / quarter < 4.5
