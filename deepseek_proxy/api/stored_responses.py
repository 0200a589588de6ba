"""Stored responses over HTTP: `/v1/responses/<id>`, its stream, its input, its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from flask import Blueprint, Response, request

from deepseek_proxy.api import auth, replaying, streaming
from deepseek_proxy.api.exchange import current_exchange
from deepseek_proxy.api.gateway import Gateway, current_gateway
from deepseek_proxy.api.replaying import Replay
from deepseek_proxy.errors import InvalidRequest, NotFound
from deepseek_proxy.store.base import ENDED, StoredResponse
from deepseek_proxy.store.store import Store
from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.responses import listing, parameters, replay

CANCEL_SECONDS: Final = 5.0
"""How long a cancellation waits for the process that makes the response."""
_LOOK_SECONDS: Final = 0.05

blueprint = Blueprint("stored", __name__)


@blueprint.get("/v1/responses/<id>")
@blueprint.get("/responses/<id>")
def retrieve(id: str) -> Response:
    """A stored response as it is now; with `stream=true`, its events."""
    store, owner = _place()
    _check_include()
    found = _response(store, owner, id)
    if not replay.flag(request.args, "stream"):
        return _shown(store, found)
    if found.gaps:
        raise replay.gone(id)
    gateway = current_gateway()
    after = replay.starting_after(request.args)
    source = Replay(store, owner, id, after, gateway.background.listen(owner, id))
    return streaming.respond(replayed(gateway, source))


def replayed(gateway: Gateway, source: Replay) -> Iterator[bytes]:
    """The frames of a stored response, for the client of the current request."""
    return replaying.stream(source, gateway.pace, streaming.watch(request), gateway.drain)


@blueprint.delete("/v1/responses/<id>")
@blueprint.delete("/responses/<id>")
def delete(id: str) -> Response:
    """Deletes a response with its events. One that runs in the background is cancelled."""
    store, owner = _place()
    found = _response(store, owner, id)
    if found.background:
        _cancelled(store, found)
    if not store.delete(owner, id):
        raise _not_found(id)
    return _json(jsontext.dumps({"id": id, "object": "response", "deleted": True}))


@blueprint.post("/v1/responses/<id>/cancel")
@blueprint.post("/responses/<id>/cancel")
def cancel(id: str) -> Response:
    """Ends a background response, and the call to DeepSeek with it. One that has ended stays as it is."""
    store, owner = _place()
    found = _response(store, owner, id)
    if not found.background:
        raise InvalidRequest(
            "Cannot cancel a synchronous response: only responses with 'background': true can be cancelled."
        )
    return _shown(store, _cancelled(store, found))


@blueprint.get("/v1/responses/<id>/input_items")
@blueprint.get("/responses/<id>/input_items")
def input_items(id: str) -> Response:
    """One page of the items that the request brought, the newest first unless `order=asc`."""
    store, owner = _place()
    _check_include()
    page = listing.page(request.args)
    found = _response(store, owner, id)
    try:
        items = store.items(owner, found.input)
    except LookupError:
        raise _not_found(id) from None
    own = [(item.id, item.json) for item in items[len(items) - found.own_input :]]
    shown, has_more = listing.part(own, page)
    return _json(listing.listing(shown, has_more=has_more))


def _place() -> tuple[Store, str]:
    """Where responses are, and whose: nobody else's exist."""
    gateway = current_gateway()
    current_exchange().dialect = "responses"
    caller = auth.identify(request, gateway)
    if gateway.store is None:
        raise NotFound("This gateway stores no responses, its store is off ('store_url').")
    return gateway.store, caller.tenant


def _response(store: Store, owner: str, id: str) -> StoredResponse:
    found = store.get(owner, id)
    if found is None:
        raise _not_found(id)
    return found


def _not_found(id: str) -> NotFound:
    return NotFound(f"Response with id '{id[:200]}' not found.")


def _cancelled(store: Store, response: StoredResponse) -> StoredResponse:
    """The response once its maker has heard that nobody wants it, or as it is when that takes too long."""
    until = time.monotonic() + CANCEL_SECONDS
    if not _is_over(response):
        store.request_cancel(response.owner, response.id)
    while not _is_over(response) and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
        response = _response(store, response.owner, response.id)
    return response


def _is_over(response: StoredResponse) -> bool:
    return response.status in ENDED or response.abandoned


def _check_include() -> None:
    """`include` adds nothing: whatever is kept is shown."""
    parameters.check_include(request.args.getlist("include[]") or request.args.getlist("include"))


def _shown(store: Store, response: StoredResponse) -> Response:
    if not response.abandoned:
        return _json(response.body)
    return _json(jsontext.dumps(replaying.abandoned(store, response)))


def _json(body: bytes) -> Response:
    return Response(body, mimetype="application/json")
