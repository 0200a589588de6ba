"""Where a request stands in what is kept: what it goes on from, and who keeps its answer.

Finds the items that a request names instead of sending them: those of an earlier response, and those that it
refers to one by one. Refuses to know what items mean, and how an answer is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from deepseek_proxy.api.gateway import Caller, Gateway, new_id
from deepseek_proxy.api.recorder import Forgetful, Recorder
from deepseek_proxy.api.store_recorder import ConversationRecorder, StoreRecorder
from deepseek_proxy.errors import InvalidRequest, NotFound
from deepseek_proxy.store.base import ENDED, Head, Item
from deepseek_proxy.store.store import Store
from deepseek_proxy.translate import fields, jsontext
from deepseek_proxy.translate.responses import conversations, references, results
from deepseek_proxy.translate.responses.place import Place
from deepseek_proxy.translate.responses.stored_items import shown, stored_items


@dataclass(frozen=True, slots=True)
class Origin:
    """What a request goes on from: the items, and the chain of the store that holds them, or those that are
    kept in a conversation, as they are there."""

    items: Sequence[Mapping[str, Any]] = ()
    chain: Head | None = None
    response: str | None = None
    conversation: str | None = None
    said: Sequence[Item] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """`body` is the request's, with the items in place that it refers to."""

    body: Mapping[str, Any]
    place: Place
    recorder: Recorder


Recall = Callable[[str], Sequence[Mapping[str, Any]] | None]
"""The items up to the end of a response that is not stored; None where that is not known."""


def stand(
    gateway: Gateway, caller: Caller, body: Mapping[str, Any], recall: Recall = lambda _: None
) -> Standing:
    """Where the request of this body stands. `recall` is asked before the store is.

    Raises `InvalidRequest` for what is not there, or cannot be together, and `StoreUnavailable`.
    """
    store = store_for(gateway, caller)
    background = fields.boolean(body, "background", False)
    stores = fields.boolean(body, "store", True) and store is not None
    if background and not stores:
        raise InvalidRequest(
            "A background response has to be stored, and this one is not: leave 'background' out"
            + ("." if store is None else ", or let it be stored."),
            param="background",
            code="unsupported_parameter",
        )
    origin = _origin(store, caller.tenant, body, recall)
    if wanted := references.referenced(body.get("input")):
        found = _items(store, caller.tenant, wanted)
        body = {**body, "input": references.resolved(body["input"], found)}
    if origin.response is not None:
        results.check(origin.items, body.get("input"))
    place = Place(origin.items, origin.response, origin.conversation, stores, background)
    recorder: Recorder = Forgetful()
    if store is not None and stores:
        recorder = StoreRecorder(
            store,
            caller.tenant,
            origin.chain,
            _to_store(origin, body),
            conversation=origin.conversation,
            said=origin.said,
            background=background,
            goes_on=gateway.settings.store_when_down == "continue" and not background,
        )
    elif store is not None and origin.conversation is not None:
        own = own_items(body.get("input"))
        recorder = ConversationRecorder(store, caller.tenant, origin.conversation, own)
    return Standing(body, place, recorder)


def _to_store(origin: Origin, body: Mapping[str, Any]) -> list[Item]:
    """The items that the store does not have yet; those of a response that is not stored among them."""
    own = own_items(body.get("input"))
    unknown = origin.response is not None and origin.chain is None
    return [*own_items([*origin.items]), *own] if unknown else own


def own_items(value: object) -> list[Item]:
    """The items of a request's `input`, as they are stored. Raises `InvalidRequest` where they are none."""
    if value is None:
        return []
    return [Item(id, jsontext.dumps(item)) for id, item in stored_items(value, new_id)]


def parsed(item: Item) -> dict[str, Any]:
    """A stored item with its id in it."""
    value: dict[str, Any] = orjson.loads(shown(item.id, item.json))
    return value


def not_found(id: str) -> InvalidRequest:
    return _not_found(f"Previous response with id '{id[:200]}' not found.")


def _not_found(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="previous_response_id", code="previous_response_not_found")


def store_for(gateway: Gateway, caller: Caller) -> Store | None:
    """Where things are kept for this caller; None where nothing is."""
    return gateway.store if caller.client is None or caller.client.store else None


def _origin(store: Store | None, owner: str, body: Mapping[str, Any], recall: Recall) -> Origin:
    conversation = conversations.named(body)
    if conversation is not None:
        return _inside(store, owner, conversation)
    previous = fields.string(body, "previous_response_id")
    if previous is None:
        return Origin()
    items = recall(previous)
    return _after(store, owner, previous) if items is None else Origin(items, response=previous)


def _after(store: Store | None, owner: str, id: str) -> Origin:
    if store is None:
        raise _not_found(
            f"Previous response with id '{id[:200]}' not found. This gateway stores nothing: "
            "send the whole conversation in 'input'."
        )
    response = store.get(owner, id)
    if response is None:
        raise not_found(id)
    if response.status not in ENDED and not response.abandoned:
        raise InvalidRequest(
            f"Response '{id}' is still {response.status}: wait for its end before you go on from it.",
            param="previous_response_id",
        )
    chain = response.head if response.status in ENDED else response.input
    try:
        return Origin([parsed(item) for item in store.items(owner, chain)], chain, id)
    except LookupError:
        raise not_found(id) from None


def _inside(store: Store | None, owner: str, id: str) -> Origin:
    if store is None:
        raise NotFound(
            "Conversation not found. This gateway stores nothing: send the whole conversation in 'input'.",
            param="conversation",
        )
    page = store.conversation_items(owner, id)
    if page is None:
        raise conversations.not_found(id, "conversation")
    return Origin([parsed(item) for item in page.items], conversation=id, said=page.items)


def _items(store: Store | None, owner: str, ids: Sequence[str]) -> Mapping[str, dict[str, Any]]:
    found = store.find_items(owner, ids) if store is not None else {}
    return {id: parsed(item) for id, item in found.items()}
