"""Conversations over HTTP: `/v1/conversations`, their metadata, and their items."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, request

from deepseek_proxy.api import auth
from deepseek_proxy.api.body import read_object
from deepseek_proxy.api.exchange import current_exchange
from deepseek_proxy.api.gateway import current_gateway, new_id
from deepseek_proxy.api.standing import parsed, store_for
from deepseek_proxy.errors import NotFound
from deepseek_proxy.store.base import Conversation, Item
from deepseek_proxy.store.store import Store
from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.responses import conversations, listing, parameters, references
from deepseek_proxy.translate.responses.items import InputReader
from deepseek_proxy.translate.responses.stored_items import shown, stored_items
from deepseek_proxy.translate.tools import ToolTable

blueprint = Blueprint("conversations", __name__)


@blueprint.post("/v1/conversations")
@blueprint.post("/conversations")
def create() -> Response:
    """Creates a conversation, empty or with its first items."""
    store, owner = _place()
    body = _body()
    items = _new_items(store, owner, conversations.new_items(body, required=False))
    conversation = Conversation(
        new_id(conversations.ID_PREFIX), owner, int(time.time()), conversations.metadata(body)
    )
    store.create_conversation(conversation, items)
    return _shown(conversation)


@blueprint.get("/v1/conversations/<id>")
@blueprint.get("/conversations/<id>")
def retrieve(id: str) -> Response:
    """One conversation, without its items."""
    return _shown(_conversation(*_place(), id))


@blueprint.post("/v1/conversations/<id>")
@blueprint.post("/conversations/<id>")
def update(id: str) -> Response:
    """Gives a conversation other metadata, in place of all that it had."""
    store, owner = _place()
    if not store.update_conversation(owner, id, conversations.metadata(_body(), required=True)):
        raise conversations.not_found(id)
    return _shown(_conversation(store, owner, id))


@blueprint.delete("/v1/conversations/<id>")
@blueprint.delete("/conversations/<id>")
def delete(id: str) -> Response:
    """Deletes a conversation with its items. Responses that were made in it stay."""
    store, owner = _place()
    if not store.delete_conversation(owner, id):
        raise conversations.not_found(id)
    return _json(conversations.deleted(id))


@blueprint.post("/v1/conversations/<id>/items")
@blueprint.post("/conversations/<id>/items")
def create_items(id: str) -> Response:
    """Adds items to the end of a conversation, and lists them."""
    store, owner = _place()
    _check_include()
    given = conversations.new_items(_body(), required=True)
    _conversation(store, owner, id)  # whose absence says more than what is wrong with the items
    items = _new_items(store, owner, given)
    if not store.add_items(owner, id, items):
        raise conversations.not_found(id)
    return _listed(items, has_more=False)


@blueprint.get("/v1/conversations/<id>/items")
@blueprint.get("/conversations/<id>/items")
def list_items(id: str) -> Response:
    """One page of a conversation's items, the newest first unless `order=asc`."""
    store, owner = _place()
    _check_include()
    page = listing.page(request.args)
    try:
        found = store.conversation_items(
            owner, id, after=page.after, limit=page.limit, descending=page.newest_first
        )
    except LookupError:
        raise listing.unknown_after(page.after or "") from None
    if found is None:
        raise conversations.not_found(id)
    return _listed(found.items, has_more=found.has_more)


@blueprint.get("/v1/conversations/<id>/items/<item>")
@blueprint.get("/conversations/<id>/items/<item>")
def retrieve_item(id: str, item: str) -> Response:
    """One item of a conversation."""
    store, owner = _place()
    _check_include()
    found = store.conversation_item(owner, id, item)
    if found is None:
        _conversation(store, owner, id)
        raise conversations.item_not_found(item, id)
    return _json(shown(found.id, found.json))


@blueprint.delete("/v1/conversations/<id>/items/<item>")
@blueprint.delete("/conversations/<id>/items/<item>")
def delete_item(id: str, item: str) -> Response:
    """Takes an item out of a conversation, which is the answer."""
    store, owner = _place()
    conversation = _conversation(store, owner, id)
    if not store.delete_item(owner, id, item):
        raise conversations.item_not_found(item, id)
    return _shown(conversation)


def _place() -> tuple[Store, str]:
    """Where the conversations are, and whose: nobody else's exist."""
    gateway = current_gateway()
    current_exchange().dialect = "responses"
    caller = auth.identify(request, gateway)
    store = store_for(gateway, caller)
    if store is None:
        raise NotFound("No conversations are kept here: send the whole conversation in 'input'.")
    return store, caller.tenant


def _body() -> Mapping[str, Any]:
    return read_object(request, current_gateway().settings)


def _conversation(store: Store, owner: str, id: str) -> Conversation:
    conversation = store.conversation(owner, id)
    if conversation is None:
        raise conversations.not_found(id)
    return conversation


def _new_items(store: Store, owner: str, given: Sequence[Any]) -> list[Item]:
    """What a client wants to have kept, as it is kept.

    It is read as it will be in the turns to come: an item that cannot be would spoil the conversation.
    """
    items: Sequence[Any] = given
    if wanted := references.referenced(given):
        found = store.find_items(owner, wanted).values()
        items = references.resolved(given, {item.id: parsed(item) for item in found}, "items")
    table = ToolTable(current_gateway().settings.tool_name_limit)
    InputReader(table, lambda _purpose, _token: None, Counter()).read(items, param="items")
    return [Item(id, jsontext.dumps(item)) for id, item in stored_items(items, new_id, "items")]


def _check_include() -> None:
    """`include` adds nothing: whatever is kept of an item is shown."""
    asked = request.args.getlist("include[]") or request.args.getlist("include")
    parameters.check_include(asked)


def _listed(items: Sequence[Item], *, has_more: bool) -> Response:
    return _json(listing.listing([(item.id, item.json) for item in items], has_more=has_more))


def _shown(conversation: Conversation) -> Response:
    return _json(conversations.shown(conversation.id, conversation.created_at, conversation.metadata))


def _json(body: bytes) -> Response:
    return Response(body, mimetype="application/json")
