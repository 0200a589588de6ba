"""A response of which the store keeps everything: its input, its events as they were sent, and its end.

The bytes that go out are handed on as they are; who writes them, and when, is the store's business. Refuses
to know the upstream and HTTP.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from deepseek_proxy.api.replaying import Listener
from deepseek_proxy.errors import InvalidRequest, StoreFull, StoreUnavailable
from deepseek_proxy.store.base import Head, Item, NewResponse
from deepseek_proxy.store.keeper import Recording
from deepseek_proxy.store.store import Store
from deepseek_proxy.translate import jsontext

logger = logging.getLogger(__name__)


class StoreRecorder:
    """A `Recorder`. `own` are the items that the request brought; before them came the chain `base`, or what
    was `said` in the conversation.

    `goes_on` says that a request is answered also where the store fails, and not kept then; `warning` tells
    the client so.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        base: Head | None,
        own: Sequence[Item],
        *,
        conversation: str | None = None,
        said: Sequence[Item] = (),
        background: bool = False,
        goes_on: bool = False,
    ) -> None:
        self._store = store
        self._owner = owner
        self._base = base
        self._own = own
        self._conversation = conversation
        self._said = said
        self._background = background
        self._goes_on = goes_on
        self._recording: Recording | None = None
        self._listeners: list[weakref.ref[Listener]] = []
        self.warning: str | None = None

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody wants the answer to stop."""
        return self._recording is not None and self._recording.cancel_requested

    def begin(self, response: Mapping[str, Any]) -> bool:
        new = NewResponse(
            id=response["id"],
            owner=self._owner,
            created_at=response["created_at"],
            status=response["status"],
            body=jsontext.dumps(response),
            base=self._base,
            input=self._own,
            conversation=self._conversation,
            said=self._said,
            background=self._background,
        )
        self._said = ()  # it may be megabytes, and the answer may take an hour
        if self._conversation is None:
            self._own = ()
        try:
            self._recording = self._store.begin(new)
        except LookupError:
            raise InvalidRequest(
                "The response to go on from was deleted while this request arrived.",
                param="previous_response_id",
                code="previous_response_not_found",
            ) from None
        except (StoreUnavailable, StoreFull) as error:
            if not self._goes_on:
                raise
            self.warning = f"This response is not stored: {error.message}"
        return self._recording is not None

    @property
    def record(self) -> Callable[[int, bytes], None] | None:
        if self._recording is None:
            return None
        return self._record_aloud if self._background else self._recording.append

    def _record_aloud(self, number: int, frames: bytes) -> None:
        if self._recording is not None:
            self._recording.append(number, frames)
        for listener in self._heard_by():
            listener.put(number, frames)

    def listen(self, *, fresh: bool) -> Listener:
        """Hears what a background response says from now on; `fresh`: it has said nothing yet.

        For as long as somebody holds it: readers come and go, and the response may take an hour.
        """
        listener = Listener(fresh=fresh)
        self._listeners.append(weakref.ref(listener, self._listeners.remove))
        return listener

    def _heard_by(self) -> list[Listener]:
        return [listener for reference in [*self._listeners] if (listener := reference()) is not None]

    def proceed(self, response: Mapping[str, Any]) -> None:
        """Keeps another state of the response, while it goes on."""
        if self._recording is not None:
            with suppress(StoreUnavailable):  # its end is what counts
                self._store.update(self._recording, response["status"], jsontext.dumps(response))

    def end(self, response: Mapping[str, Any], number: int, frames: bytes) -> None:
        recording, self._recording = self._recording, None
        if recording is None:
            return
        if frames:
            recording.append(number, frames)
        said = _said(self._own, response) if self._conversation is not None else ()
        try:
            self._store.finish(
                recording, response["status"], jsontext.dumps(response), _output(response), said
            )
        except Exception:
            logger.exception("response %s has ended, and could not be stored", response["id"])
        for listener in self._heard_by():
            listener.end()

    def drop(self) -> None:
        recording, self._recording = self._recording, None
        if recording is not None:
            self._store.discard(recording)


class ConversationRecorder:
    """A `Recorder` of a response that is not stored, in a conversation that keeps what was said."""

    warning = None
    record = None

    def __init__(self, store: Store, owner: str, conversation: str, own: Sequence[Item]) -> None:
        self._store = store
        self._owner = owner
        self._conversation = conversation
        self._own = own

    def begin(self, response: Mapping[str, Any]) -> bool:
        return False

    def end(self, response: Mapping[str, Any], number: int, frames: bytes) -> None:
        try:
            self._store.add_items(self._owner, self._conversation, _said(self._own, response))
        except Exception:
            logger.exception("what response %s said is not in its conversation", response["id"])

    def drop(self) -> None:
        pass


def _output(response: Mapping[str, Any]) -> list[Item]:
    return [Item(item["id"], jsontext.dumps(item)) for item in response["output"]]


def _said(own: Sequence[Item], response: Mapping[str, Any]) -> Sequence[Item]:
    """What a response adds to its conversation: nothing where it has failed, and will be asked for again."""
    return () if response["status"] == "failed" else (*own, *_output(response))
