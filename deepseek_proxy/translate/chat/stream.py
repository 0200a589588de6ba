"""The stream machine of the Chat Completions dialect: chunks in, frames out.

Rules (DESIGN "the stream machine"; the form is that of OpenAI's own streams):

1. Exactly one end: a chunk with a finish reason, the usage where it was asked for, and `[DONE]`; or an error,
   and nothing after it. Then every method returns nothing.
2. `finish()` without a finish_reason is a failure, never a success.
3. The role comes with the first output, so that a stream which fails before holds its error alone.
4. A turn that ends in the gateway's own searches does not end the stream: `actions` are run outside,
   `found()` tells what came of them, and the next turn's chunks are fed to the same machine.
5. The same machine makes the whole answer of a request that does not stream: see `response`.

Refuses to know where chunks come from, what time it is, and how bytes travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from deepseek_proxy.errors import ProxyError, SearchLimitReached, UpstreamError, UpstreamTruncated
from deepseek_proxy.translate import calling, history, jsontext, sse
from deepseek_proxy.translate.chat import errors, response, searches
from deepseek_proxy.translate.chat.calls import Call, CustomCall, LegacyCall
from deepseek_proxy.translate.chat.citations import Citer
from deepseek_proxy.translate.chat.emitter import DeltaTemplate, Emitter, Envelope
from deepseek_proxy.translate.chat.options import StreamOptions
from deepseek_proxy.translate.history import AssistantText, Entry, Thinking
from deepseek_proxy.translate.hub import Chunk, Delta, Literal, Stage, ToolCallDelta, Usage
from deepseek_proxy.translate.lookup import Action, Outcome
from deepseek_proxy.translate.rounds import Rounds
from deepseek_proxy.translate.sources import Source
from deepseek_proxy.translate.tools import ToolKind
from deepseek_proxy.translate.usage import added

_WHOLE: Final = frozenset({"stop", "tool_calls", "function_call"})
_CUT: Final = frozenset({"length", "content_filter"})
_NO_USAGE: Final = Usage(0, 0, 0, 0)
_GAP: Final = jsontext.dumps(history.BLANK_LINE)
_NOTHING: Final = b'""'


class _Text:
    """All that an answer says in one place, turn by turn."""

    __slots__ = ("buffer", "gap", "key", "seen", "template", "turn")

    def __init__(self, key: str) -> None:
        self.key = key  # of the delta
        self.buffer = jsontext.TextBuffer()  # as the client has it
        self.turn = jsontext.TextBuffer()  # as the model wrote it, of this turn
        self.template: DeltaTemplate | None = None
        self.seen = False  # whether there was any, be it empty
        self.gap = False  # whether a turn before this one left some


class ChatStream:
    """One chat completion, from its first chunk to its end."""

    def __init__(self, envelope: Envelope, options: StreamOptions) -> None:
        self._envelope = envelope
        self._options = options
        self._emit = Emitter(envelope, tells_usage=options.tells_usage, padding=options.padding)
        self._fingerprint: str | None = None
        self._begun = False  # whether the role is out
        self._ended = False
        self._content, self._reasoning = _Text("content"), _Text("reasoning_content")
        self._refusal = _Text("refusal")
        # Where a literal can be passed on without a look at anything else.
        self._plain_content: _Text | None = None
        self._plain_reasoning: _Text | None = None
        self._logprobs: list[Mapping[str, Any]] = []
        self._calls: dict[int, Call | None] = {}  # by upstream position; None: not shown
        self._usage: Usage | None = None  # of the turn
        self._spent: Usage | None = None  # in the turns before
        self.rounds = Rounds(options.search, options.tools)
        self._found: dict[Source, None] = {}  # by the searches so far
        self._citer = Citer(options.search.sources) if self.rounds.are_possible and options.cites else None
        self.actions: Sequence[Action] | None = None
        """What is to be run before the stream can go on; None while a turn is under way."""
        self.finish_reason: str | None = None
        self.error: ProxyError | None = None
        self.response: dict[str, Any] | None = None
        """The whole answer, once it has ended well."""

    @property
    def text(self) -> str:
        return self._content.buffer.text

    @property
    def usage(self) -> Usage | None:
        """The tokens of all turns so far."""
        return added(self._spent, self._usage)

    def start(self) -> bytes:
        """Nothing: see rule 3."""
        return b""

    def feed(self, delta: Delta) -> bytes:
        """The frames for what one chunk adds. Raises `UpstreamError` for a chunk that cannot be."""
        if self._ended or self.finish_reason is not None:
            return self._feed_after_finish(delta)
        if isinstance(delta, Literal):
            text = self._plain_content if delta.stage is Stage.CONTENT else self._plain_reasoning
            if text is not None and text.template is not None:
                text.buffer.add(delta.json)
                return self._emit.text(text.template, delta.json)
            if delta.stage is Stage.CONTENT:
                return self._feed_content(delta.json)
            return self._say(self._reasoning, delta.json)
        if delta.fingerprint is not None and self._fingerprint is None:
            self._fingerprint = delta.fingerprint
            self._emit.knows(delta.fingerprint)
        self._reasoning.seen |= delta.announces_thinking
        frames = b""
        if delta.reasoning:
            frames += self._say(self._reasoning, jsontext.dumps(delta.reasoning))
        if delta.content:
            frames += self._feed_content(jsontext.dumps(delta.content), delta.logprobs)
        if delta.refusal:
            frames += self._say(self._refusal, jsontext.dumps(delta.refusal))
        for call in delta.tool_calls:
            frames += self._feed_call(call)
        self.finish_reason = delta.finish_reason
        self._usage = delta.usage or self._usage
        return frames

    def heartbeat(self) -> bytes:
        """Nothing: in this dialect a comment is all that can be said without saying something."""
        return b""

    def finish(self) -> bytes:
        """The upstream said it is done: ends the stream."""
        if self._ended:
            return b""
        reason = self.finish_reason
        if reason is None:
            return self.fail(UpstreamTruncated("The upstream ended its answer without a finish reason."))
        shown = [call for call in self._calls.values() if call]
        if reason in _WHOLE:
            if self.rounds.are_wanted and not shown:
                return self._search()
            called = "function_call" if self._options.legacy_functions else "tool_calls"
            closed = b"".join(call.close() for call in shown)
            return closed + self._end(called if shown else "stop", shown)
        if reason in _CUT:
            return self._end(reason, shown)
        return self.fail(UpstreamError(f"The upstream interrupted its answer ({reason})."))

    def fail(self, error: ProxyError) -> bytes:
        """Ends the stream with `error`."""
        if self._ended:
            return b""
        frames = self._flush()
        self._ended = True
        self.error = error
        return frames + errors.frame(error)

    # -- searches ---------------------------------------------------------------------------------

    def _search(self) -> bytes:
        """Ends a turn that ends in searches."""
        frames = self._flush()
        try:
            actions = self.rounds.plan()
        except SearchLimitReached as error:
            return frames + self.fail(error)
        self.rounds.said += self._turn()
        self.actions = actions
        self._spent, self._usage = self.usage, None
        self.finish_reason = None
        return frames

    def found(self, outcomes: Sequence[Outcome]) -> bytes:
        """Takes what came of `actions`. After it, the machine is fed with the next turn."""
        ended, _ = self.rounds.settle(outcomes)
        self._found.update(dict.fromkeys(ended.sources))
        self._calls.clear()
        if self._citer is not None and len(self._content.buffer):
            self._citer.skip(history.BLANK_LINE)
        for text in (self._content, self._reasoning):
            text.gap = len(text.buffer) > 0
            text.turn, text.seen = jsontext.TextBuffer(), False
        self.actions = None
        return b""

    def _turn(self) -> list[Entry]:
        """What the turn has said, as a later request repeats it."""
        said: list[Entry] = []
        if self._reasoning.seen:
            said.append(Thinking(self._reasoning.turn.text))
        if len(self._content.turn):
            said.append(AssistantText(self._content.turn.text))
        return said

    # -- text -------------------------------------------------------------------------------------

    def _feed_content(self, literal: bytes, logprobs: Sequence[Mapping[str, Any]] = ()) -> bytes:
        content = self._content
        if self._citer is None and not logprobs:
            return self._say(content, literal)
        if self.rounds.are_possible:
            content.turn.add(literal)
        if self._citer is not None:
            literal = jsontext.dumps(self._citer.feed(jsontext.literal_text((literal,))))
        if not logprobs:
            return self._show(content, literal)
        # Rare enough to be dumped as a whole.
        self._logprobs += logprobs
        opened = self._open(content)
        content.buffer.add(literal)
        return opened + self._emit.delta({"content": jsontext.literal_text((literal,))}, logprobs=logprobs)

    def _flush(self) -> bytes:
        """The end of the text, which may have been the beginning of a citation."""
        return self._show(self._content, jsontext.dumps(self._citer.finish())) if self._citer else b""

    def _say(self, text: _Text, literal: bytes) -> bytes:
        if self.rounds.are_possible:
            text.turn.add(literal)
        return self._show(text, literal)

    def _show(self, text: _Text, literal: bytes) -> bytes:
        if literal == _NOTHING:
            return b""
        opened = self._open(text)
        text.buffer.add(literal)
        return opened + (self._emit.text(text.template, literal) if text.template else b"")

    def _open(self, text: _Text) -> bytes:
        """What goes before the first piece: the role; and a blank line behind what an earlier turn said."""
        frames = self._begin("" if text is self._content else None)
        if text.template is None:
            text.template = self._emit.template(b'{"%b":' % text.key.encode(), b"}")
        if text.gap:
            text.gap = False
            text.buffer.add(_GAP)
            frames += self._emit.text(text.template, _GAP)
        text.seen = True
        if not self.rounds.are_possible:
            self._plain_content = self._content if self._content.template else None
            self._plain_reasoning = self._reasoning if self._reasoning.template else None
        return frames

    def _begin(self, content: str | None) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        said = {"role": "assistant", "content": content}
        if self._reasoning.seen:  # announced, and perhaps all there will be of it
            said["reasoning_content"] = ""
        return self._emit.delta(said)

    def _feed_after_finish(self, delta: Delta) -> bytes:
        """Only usage may follow the finish reason; hosts that repeat it, or go on, are not believed."""
        if isinstance(delta, Chunk) and delta.usage is not None and not self._ended:
            self._usage = delta.usage
        return b""

    # -- calls ------------------------------------------------------------------------------------

    def _feed_call(self, delta: ToolCallDelta) -> bytes:
        if delta.position not in self._calls:
            return self._begin_call(delta)
        call = self._calls[delta.position]
        if call is not None:
            return call.arguments(delta.arguments)
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
        kind: type[Call] = CustomCall if tool.kind is ToolKind.CUSTOM else Call
        if options.legacy_functions:
            kind = LegacyCall
        call = self._calls[delta.position] = kind(self._emit, tool, call_id, len(shown))
        frames = self._flush() + self._begin(None)
        return frames + call.open() + call.arguments(delta.arguments)

    # -- the end ----------------------------------------------------------------------------------

    def _end(self, finish_reason: str, calls: Sequence[Call]) -> bytes:
        frames = self._flush()
        content = self._content
        # A message that calls, or refuses, has a text only where the model wrote one.
        silent = not content.seen and bool(calls or self._refusal.seen)
        last = {} if silent or content.seen or not self._begun else {"content": ""}
        frames += self._begin(None if silent else "")
        annotations = self._citer.annotations if self._citer is not None else []
        if annotations:
            frames += self._emit.delta({"annotations": annotations})
        usage = self.usage or _NO_USAGE
        self._ended = True
        self.response = response.completion(
            self._envelope,
            self._fingerprint,
            message=self._message(calls, annotations, silent=silent),
            logprobs=self._logprobs,
            finish_reason=finish_reason,
            usage=usage,
        )
        self._remember(calls)
        frames += self._emit.delta(last, finish_reason=finish_reason)
        if self._options.tells_usage:
            frames += self._emit.usage(usage)
        return frames + sse.DONE_FRAME

    def _message(
        self, calls: Sequence[Call], annotations: Sequence[Mapping[str, Any]], *, silent: bool
    ) -> dict[str, Any]:
        reasoning, refusal = self._reasoning, self._refusal
        legacy = self._options.legacy_functions
        return response.message(
            content=None if silent else self.text,
            refusal=refusal.buffer.text if refusal.seen else None,
            reasoning=reasoning.buffer.text if reasoning.seen or len(reasoning.buffer) else None,
            annotations=annotations,
            calls=[] if legacy else [call.whole() for call in calls],
            legacy_call=calls[0].whole() if legacy and calls else None,
        )

    def _remember(self, calls: Sequence[Call]) -> None:
        """Keeps what the client may not send back, and DeepSeek wants to have."""
        options, thinking = self._options, self._reasoning
        thought = (thinking.turn if self.rounds.are_possible else thinking.buffer).text
        for call in calls:
            options.remember(call.keeper, thought)
        if self.rounds.said:
            said = [*self.rounds.said, *self._turn()]
            key = searches.key_of([call.keeper for call in calls], self.text)
            options.remember(key, searches.pack(said, self._found))
