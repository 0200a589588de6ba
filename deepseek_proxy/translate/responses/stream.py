"""The stream machine of the Responses dialect: chunks in, frames out.

Rules (DESIGN "the stream machine"; the event grammar is that of OpenAI's recorded streams):

1. Exactly one terminal event; after it every method returns nothing.
2. `finish()` without a finish_reason is a failure, never a success.
3. Items open in the order of their `output_index`, close before the terminal event with the identity
   they were opened with, and the terminal event repeats them as they were closed.
4. A turn that ends in the gateway's own searches does not end the stream: `actions` are run outside,
   `found()` tells what came of them, and the next turn's chunks are fed to the same machine.
5. The same machine makes the whole answer of a request that does not stream: see `response`.

Refuses to know where chunks come from, what time it is, and how bytes travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from typing import Literal as OneOf

from deepseek_proxy.errors import (
    ContentRejected,
    ProxyError,
    SearchLimitReached,
    UpstreamError,
    UpstreamTruncated,
)
from deepseek_proxy.translate import calling, jsontext, sse
from deepseek_proxy.translate.history import AssistantText, Thinking
from deepseek_proxy.translate.hub import Chunk, Delta, Literal, Stage, ToolCallDelta, Usage
from deepseek_proxy.translate.lookup import Action, Outcome
from deepseek_proxy.translate.responses import errors
from deepseek_proxy.translate.responses.calls import ITEM_OF_KIND, CallItem
from deepseek_proxy.translate.responses.emitter import Emitter
from deepseek_proxy.translate.responses.options import StreamOptions
from deepseek_proxy.translate.responses.output import (
    CompactionItem,
    ItemStatus,
    MessageItem,
    ReasoningItem,
)
from deepseek_proxy.translate.responses.response import Envelope
from deepseek_proxy.translate.responses.rounds import Rounds
from deepseek_proxy.translate.responses.search import WebSearchItem
from deepseek_proxy.translate.usage import added, responses_usage

_INCOMPLETE_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_COMPLETED_REASONS: Final = frozenset({"stop", "tool_calls", "function_call"})
_NO_USAGE: Final = Usage(0, 0, 0, 0)

FILTERED: Final = (
    "DeepSeek's content filter cut the answer off. Asked the same way again, it most likely would again: "
    "change the request, or leave out what may have set the filter off."
)

Item = MessageItem | ReasoningItem | CallItem | CompactionItem | WebSearchItem


class ResponseStream:
    """One response, from `start()` to its one terminal event."""

    def __init__(self, envelope: Envelope, options: StreamOptions) -> None:
        self._envelope = envelope
        self._options = options
        self._emit = Emitter(options.padding)
        self._items: list[Item] = []  # by output_index
        self._final: dict[int, dict[str, Any]] = {}  # output_index -> the item as it was closed
        self._message: MessageItem | None = None  # the open one
        self._reasoning: ReasoningItem | None = None  # the open one
        self._calls: dict[int, CallItem | None] = {}  # by upstream position; None: not shown
        self._open_calls: dict[int, CallItem] = {}  # likewise
        self._thinking: list[str] = []  # of the whole turn, for `remember`
        self._thinking_announced = False  # upstream, and nothing of it seen yet
        self._thinking_known = True  # of the open reasoning item; False: it only carries searches
        self._turn_begin = 0  # number of the items before the turn
        self._usage: Usage | None = None  # of the turn
        self._spent: Usage | None = None  # in the turns before
        self.rounds = Rounds(options.search, options.tools)
        self.actions: Sequence[Action] | None = None
        """What is to be run before the stream can go on; None while a turn is under way."""
        self.finish_reason: str | None = None
        self.error: ProxyError | None = None
        self.response: dict[str, Any] | None = None
        """The final Response object, once the terminal event is out."""

    @property
    def text(self) -> str:
        """The text of the closed messages: what SDKs call `output_text`."""
        messages = (item for item in self._final.values() if item["type"] == "message")
        parts = (part for message in messages for part in message["content"])
        return "".join(part["text"] for part in parts if part["type"] == "output_text")

    @property
    def next_number(self) -> int:
        """The sequence number of the next event."""
        return self._emit.next

    @property
    def usage(self) -> Usage | None:
        """The tokens of all turns so far."""
        return added(self._spent, self._usage)

    def start(self) -> bytes:
        """`response.created`, then `response.in_progress` or, where it has to wait, `response.queued`."""
        status: OneOf["queued", "in_progress"] = "queued" if self._options.queued else "in_progress"
        body = jsontext.dumps(self._envelope.snapshot(status, []))
        return self._emit.lifecycle("response.created", body) + self._emit.lifecycle(
            f"response.{status}", body
        )

    def feed(self, delta: Delta) -> bytes:
        """The frames for what one chunk adds. Raises `UpstreamError` for a chunk that cannot be."""
        if self.response is not None or self.finish_reason is not None:
            return self._feed_after_finish(delta)
        if isinstance(delta, Literal):
            return (
                self._feed_content(delta.json)
                if delta.stage is Stage.CONTENT
                else self._feed_thinking(delta.json)
            )
        frames = b""
        if delta.announces_thinking and len(self._items) == self._turn_begin:
            self._thinking_announced = True
        if delta.reasoning:
            frames += self._feed_thinking(jsontext.dumps(delta.reasoning))
        if delta.content:
            frames += self._feed_content(jsontext.dumps(delta.content), delta.logprobs)
        if delta.refusal:
            frames += self._feed_refusal(jsontext.dumps(delta.refusal))
        for call in delta.tool_calls:
            frames += self._feed_call(call)
        self.finish_reason = delta.finish_reason
        self._usage = delta.usage or self._usage
        return frames

    def heartbeat(self) -> bytes:
        """`response.in_progress`, again, with the output so far: Codex takes no comment for a sign of life.

        For an answer that was queued, the first one says that the upstream has begun.
        """
        if self.response is not None:
            return b""
        output = [self._final.get(item.index) or item.current("in_progress") for item in self._items]
        body = jsontext.dumps(self._envelope.snapshot("in_progress", output))
        return self._emit.lifecycle("response.in_progress", body)

    def finish(self) -> bytes:
        """The upstream said it is done: closes what is open and ends the stream."""
        if self.response is not None:
            return b""
        reason = self.finish_reason
        if reason is None:
            return self.fail(UpstreamTruncated("The upstream ended its answer without a finish reason."))
        if reason in _COMPLETED_REASONS:
            if self.rounds.are_wanted and not any(self._calls.values()):
                return self._search()
            frames = self._close_all("completed")
            return frames + self._end("completed", completed_at=self._options.now())
        if reason == "content_filter" and self._options.filtered_is_failed:
            return self.fail(ContentRejected(FILTERED))
        if reason in _INCOMPLETE_REASONS:
            frames = self._close_all("incomplete")
            return frames + self._end("incomplete", incomplete_reason=_INCOMPLETE_REASONS[reason])
        return self.fail(UpstreamError(f"The upstream interrupted its answer ({reason})."))

    def fail(self, error: ProxyError) -> bytes:
        """Ends the stream with `error`, then `response.failed`. Items that are open stay unfinished."""
        if self.response is not None:
            return b""
        self.error = error
        fields = errors.stream_fields(self._options.told(error))
        return self._emit.error(fields) + self._end(
            "failed", error={"code": fields["code"], "message": fields["message"]}
        )

    def cancel(self) -> bytes:
        """Ends the stream where it is: nobody wants the rest. No event says so, OpenAI has none for it."""
        if self.response is not None:
            return b""
        self._close_text("incomplete")  # what it writes has nobody to read it
        output = [self._final.get(item.index) or item.current("incomplete") for item in self._items]
        usage = responses_usage(self.usage) if self.usage else None
        self.response = self._envelope.snapshot("cancelled", output, usage=usage)
        return sse.DONE_FRAME

    # -- searches ---------------------------------------------------------------------------------

    def _search(self) -> bytes:
        """Ends a turn, and shows the searches that it ends in."""
        frames = self._before_output()
        try:
            searches = self.rounds.begin(self._emit, len(self._items), self._options)
        except SearchLimitReached as error:
            return frames + self.fail(error)
        self._items += searches
        self.actions = [search.action for search in searches]
        self._spent, self._usage = self.usage, None
        self.finish_reason = None
        return frames + b"".join(search.open() for search in searches)

    def found(self, outcomes: Sequence[Outcome]) -> bytes:
        """Takes what came of `actions`. After it, the machine is fed with the next turn."""
        searches = self.rounds.found(outcomes)
        self._calls.clear()
        self._thinking.clear()
        self._turn_begin = len(self._items)
        self.actions = None
        return b"".join(self._close(search, "completed") for search in searches)

    # -- text -------------------------------------------------------------------------------------

    def _feed_content(self, literal: bytes, logprobs: Sequence[Mapping[str, Any]] = ()) -> bytes:
        if self._message is not None:
            return self._message.text(literal, logprobs)
        opened, message = self._begin_message()
        return opened + message.text(literal, logprobs)

    def _feed_refusal(self, literal: bytes) -> bytes:
        if self._message is not None:
            return self._message.refusal(literal)
        opened, message = self._begin_message()
        return opened + message.refusal(literal)

    def _feed_thinking(self, literal: bytes) -> bytes:
        if self._reasoning is not None:
            return self._reasoning.text(literal)
        frames = self._close_text("completed") + self._close_calls()
        opened, reasoning = self._begin_reasoning()
        return frames + opened + reasoning.text(literal)

    def _feed_after_finish(self, delta: Delta) -> bytes:
        """Only usage may follow the finish reason; hosts that repeat it, or go on, are not believed."""
        if isinstance(delta, Chunk) and delta.usage is not None and self.response is None:
            self._usage = delta.usage
        return b""

    def _begin_message(self) -> tuple[bytes, MessageItem]:
        frames = self._before_output() + self._close_calls()
        options = self._options
        item = MessageItem(self._emit, len(self._items), options.new_id, options.cite)
        self._items.append(item)
        self._message = item
        return frames + item.open(), item

    def _begin_reasoning(self, *, known: bool = True) -> tuple[bytes, ReasoningItem]:
        options = self._options
        seal = self.rounds.sealer(options.seal, known=known)
        item = ReasoningItem(self._emit, len(self._items), options.new_id, options.reasoning_output, seal)
        self._items.append(item)
        self._reasoning = item
        self._thinking_known = known
        self._thinking_announced = False
        return item.open(), item

    def _before_output(self, status: ItemStatus = "completed") -> bytes:
        """Closes the thinking. Thinking that was announced and stayed empty gets an item too: the model
        wants to be told on the next turn that it was empty, which is not the same as unknown. And where
        nothing was thought, something has to carry the searches."""
        frames = b""
        if self._thinking_announced or self.rounds.waits_for_carrier:
            frames, _ = self._begin_reasoning(known=self._thinking_announced)
        return frames + self._close_text(status)

    # -- calls ------------------------------------------------------------------------------------

    def _feed_call(self, delta: ToolCallDelta) -> bytes:
        call = self._open_calls.get(delta.position)
        if call is not None:
            return call.arguments(delta.arguments)
        if delta.position not in self._calls:
            return self._begin_call(delta)
        if self._calls[delta.position] is not None and delta.arguments.strip():
            raise UpstreamError("The upstream went on with a tool call after its end.")
        self.rounds.go_on(delta.position, delta.arguments)
        return b""

    def _begin_call(self, delta: ToolCallDelta) -> bytes:
        options = self._options
        shown = [call.call_id for call in self._calls.values() if call]
        self._calls[delta.position] = None
        begun = calling.begin(delta, options, self.rounds, shown)
        if begun is None:
            return b""
        tool, call_id = begun
        frames = self._before_output() + self._close_calls(whole_only=True)
        item = ITEM_OF_KIND[tool.kind](self._emit, options.new_id, tool, call_id)
        self._calls[delta.position] = self._open_calls[delta.position] = item
        if not item.held:
            frames += self._show(item)
        return frames + item.arguments(delta.arguments)

    def _show(self, call: CallItem) -> bytes:
        self._items.append(call)
        return call.open(len(self._items) - 1)

    # -- ends -------------------------------------------------------------------------------------

    def _close_text(self, status: ItemStatus) -> bytes:
        frames = b""
        if self._reasoning is not None:
            frames = self._close(self._reasoning, status)
            text = self._reasoning.plaintext
            self._thinking.append(text)
            if self._thinking_known and self.rounds.are_possible:
                self.rounds.said.append(Thinking(text))
            self._reasoning = None
        if self._message is not None:
            frames += self._close(self._message, status)
            if self.rounds.are_possible:
                self.rounds.said.append(AssistantText(self._message.plaintext))
            self._message = None
        return frames

    def _close_calls(self, *, whole_only: bool = False) -> bytes:
        """Closes the open calls. With `whole_only`, those that are shown and whose arguments are not complete
        JSON stay open: a host that interleaves calls may go on with them."""
        frames = b""
        for position, call in tuple(self._open_calls.items()):
            if call.is_whole or call.held or not whole_only:
                frames += self._close_call(position, call, "completed")
        return frames

    def _close_call(self, position: int, call: CallItem, status: ItemStatus) -> bytes:
        del self._open_calls[position]
        shown = self._show(call) if call.held else b""
        return shown + self._close(call, status)

    def _close_all(self, status: ItemStatus) -> bytes:
        frames = self._before_output(status)
        for position, call in tuple(self._open_calls.items()):
            # Only the last one can have been cut: the answer went on after the others.
            is_last = len(self._open_calls) == 1
            frames += self._close_call(position, call, status if is_last else "completed")
        thinking = "".join(self._thinking)
        for item in self._items:
            if isinstance(item, CallItem):
                self._options.remember(item.call_id, thinking)
        return frames

    def _close(self, item: Item, status: ItemStatus) -> bytes:
        frames = item.close(status)
        self._final[item.index] = item.current(status)
        return frames

    def _end(
        self,
        status: OneOf["completed", "incomplete", "failed"],
        *,
        completed_at: int | None = None,
        incomplete_reason: str | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> bytes:
        total_of = self._usage if self._options.totals_last_turn else None
        usage = responses_usage(self.usage or _NO_USAGE, total_of)
        self.response = self._envelope.snapshot(
            status,
            [self._final[index] for index in sorted(self._final)],
            completed_at=completed_at,
            # Clients need numbers in an answer; some hosts send none.
            usage=usage if self.usage or not error else None,
            incomplete_reason=incomplete_reason,
            error=error,
        )
        return self._emit.lifecycle(f"response.{status}", jsontext.dumps(self.response)) + sse.DONE_FRAME
