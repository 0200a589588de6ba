"""Items, responses and conversations as tests put them into a store."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from deepseek_proxy.store.base import Conversation, Item, NewResponse, StoredResponse
from deepseek_proxy.store.keeper import Recording
from deepseek_proxy.store.store import Store


def item(name: str, text: str = "") -> Item:
    return Item(f"msg_{name}", orjson.dumps({"type": "message", "content": text or name}))


def begin(store: Store, id: str = "resp_1", owner: str = "ann", **given: object) -> Recording:
    values = {"created_at": 1_800_000_000, "status": "in_progress", "body": b'{"status":"in_progress"}'}
    return store.begin(NewResponse(id=id, owner=owner, **(values | given)))  # type: ignore[arg-type]


def answer(store: Store, id: str, output: Sequence[Item] = (), **given: object) -> StoredResponse:
    """A whole response, begun and completed."""
    recording = begin(store, id, **given)
    assert store.finish(recording, "completed", b'{"status":"completed"}', output)
    found = store.get(recording.response.owner, id)
    assert found is not None
    return found


def talk(store: Store, *names: str, id: str = "conv_1", owner: str = "ann") -> None:
    store.create_conversation(Conversation(id, owner, 1_800_000_000, b"{}"), [item(name) for name in names])
