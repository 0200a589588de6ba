"""Conversation repair: neutral entries -> the messages DeepSeek accepts.

A dialect turns its request into entries; `build()` compiles them. Refuses to know any dialect's wire
shape, sealing, and how thinking is switched (`reasoning.py`). Rules: DeepSeek "Create Chat Completion"
and "Thinking Mode" (docs of Nov 2026), and what deepseek-recipe 0.2.0 accepts.

1. What was built for a conversation is a byte-exact prefix of what is built when entries are appended to
   it: a rule may look at what came before and at the results of a message's own calls, never at how far
   from the end something stands.
2. One assistant message is one answer: reasoning, then text, then calls. A second text, or reasoning
   after a text, begins another message: DeepSeek takes several in a row, and a merged one would change
   bytes that were already sent when a client repeats a request whose stream was cut.
3. While a call still awaits its result, further calls belong to the same message. Text or reasoning that
   comes after a result or after somebody else's message is a new answer: the calls before it are closed
   for good, and a result that comes later still becomes user text.
4. Results follow their calls at once, in call order. What stood between goes behind them, in order.
5. Parts and joined texts are separated by a blank line, as DeepSeek itself separates them; each keeps its
   exact text.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from deepseek_proxy.translate.hub import Message

# -- entries --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """`url` is an http(s) address or a `data:` URL; `detail` a hint that is dropped where unknown."""

    url: str
    detail: str | None = None


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class SystemText:
    """A system or developer message."""

    text: str


@dataclass(frozen=True, slots=True)
class UserMessage:
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class AssistantText:
    """One text answer; a dialect joins the parts of one message itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """Recovered reasoning of the text or call that follows; "" is known to have been empty.

    For reasoning that cannot be recovered there is no entry.
    """

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`name` is the name sent upstream; `arguments` is the string the model wrote, JSON or not."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned. Without `call_id` it goes to the oldest open call of `name`."""

    call_id: str | None
    name: str | None
    parts: tuple[Part, ...]


Entry = SystemText | UserMessage | AssistantText | Thinking | ToolCall | ToolResult


# -- what comes out -------------------------------------------------------------------------------


class Repair(StrEnum):
    """Every kind of change made to a history. The values are metric labels: stable."""

    LATE_SYSTEM = "late_system"
    """A system text after the first message; sent in place as a user message in `<system-reminder>`."""
    MOVED_MESSAGE = "moved_message"
    """A message between a call and its result; moved behind the results."""
    MOVED_TEXT = "moved_text"
    """Assistant text that followed a call of the same answer; joined to the text before the calls."""
    MERGED_CALL = "merged_call"
    """A call that came after a result while others were unanswered; put into the same message."""
    REORDERED_RESULTS = "reordered_results"
    """Results in another order than their calls; put into call order (counted once a message)."""
    MISSING_RESULT = "missing_result"
    """A call without a result; answered with `INTERRUPTED`."""
    ORPHAN_RESULT = "orphan_result"
    """A result of a call that is not in the conversation; sent in place as user text."""
    LATE_RESULT = "late_result"
    """A result that came after its call's message was closed; sent in place as user text."""
    EXTRA_RESULT = "extra_result"
    """A further result of an answered call; joined to the first one."""
    NAMED_RESULT = "named_result"
    """A result without a call id; matched by the tool's name."""
    DUPLICATE_CALL_ID = "duplicate_call_id"
    """A call id used twice in one message; the second one got a suffix."""
    DANGLING_REASONING = "dangling_reasoning"
    """Reasoning that no text or call follows; dropped."""
    JOINED_REASONING = "joined_reasoning"
    """A further reasoning text of one message; joined to the first one."""
    RECALLED_REASONING = "recalled_reasoning"
    """Reasoning the client did not send back; found in the cache."""
    MISSING_REASONING = "missing_reasoning"
    """Reasoning that is nowhere to be found; sent as `NO_REASONING`."""
    MOVED_IMAGE = "moved_image"
    """An image in a tool result; moved to a user message behind the results."""
    OMITTED_IMAGE = "omitted_image"
    """An image the model cannot see or DeepSeek cannot read; replaced by a short text."""
    EMPTY_CONVERSATION = "empty_conversation"
    """Nothing was left to send; DeepSeek wants at least one message."""


@dataclass(frozen=True, slots=True)
class History:
    """`messages` for DeepSeek; `repairs` counts by `Repair`; `tool_names` called, first seen first."""

    messages: list[Message]
    repairs: Counter[str]
    tool_names: tuple[str, ...]


INTERRUPTED: Final = "[This tool call was interrupted and returned no output.]"
NO_REASONING: Final = " "  # DeepSeek wants the field; "" would say that the model thought nothing
BLIND_MODEL: Final = "[image omitted: this model cannot see images]"
UNREADABLE_IMAGE: Final = "[image omitted: only PNG, JPEG, GIF and WebP images can be read]"
IMAGE_BELOW: Final = "[image: shown in the message after the tool results]"

BLANK_LINE: Final = "\n\n"
MAX_IMAGE_URL_CHARACTERS: Final = 8192  # of an http(s) address; DeepSeek, Sep 2026
IMAGE_DETAILS: Final = frozenset({"low", "high", "original", "auto"})

# What DeepSeek looks at before it decodes an inline image (deepseek-recipe 0.2.0).
_INLINE_IMAGE = re.compile(r"data:image/(?:png|jpe?g|gif|webp)(?:;[^,;]{1,100}){0,4};base64,", re.IGNORECASE)
_WEB_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


def build(
    entries: Iterable[Entry], *, vision: bool, thinking: bool, recall: Callable[[str], str | None]
) -> History:
    """Compiles a conversation, in time linear in its size. Never raises: no history is unusable.

    `vision` says that the model sees images, `thinking` that this request thinks. `recall` gives the
    reasoning that belongs to a call id, None where it is not known; it is asked only when thinking.
    """
    compiler = _Compiler(list(entries), vision=vision, thinking=thinking, recall=recall)
    compiler.run()
    return History(compiler.messages, compiler.repairs, tuple(compiler.tool_names))


# -- pairing --------------------------------------------------------------------------------------


def pair(entries: Sequence[Entry]) -> tuple[dict[int, int], dict[int, int]]:
    """First results and their calls, as positions: (call -> result, result -> call).

    Calls with the same id are answered in order. A call is closed to results by a new answer (rule 3),
    and by a call that uses its id again after a message: clients that number calls anew in every turn
    leave an interrupted one behind like this.
    """
    waiting: dict[str, deque[int]] = {}
    waiting_by_name: dict[str, deque[int]] = {}
    result_of: dict[int, int] = {}
    call_of: dict[int, int] = {}
    last_foreign = last_message = floor = -1  # calls before `floor` are closed
    reasoned = False
    for at, entry in enumerate(entries):
        match entry:
            case Thinking():
                reasoned = True
                continue
            case AssistantText():
                floor = last_foreign
            case ToolCall(call_id=call_id, name=name):
                if reasoned:
                    floor = last_foreign
                same_id = waiting.setdefault(call_id, deque())
                if same_id and same_id[-1] < last_message:
                    same_id.clear()
                same_id.append(at)
                waiting_by_name.setdefault(name, deque()).append(at)
            case ToolResult(call_id=call_id, name=name):
                last_foreign = at
                queue = waiting_by_name.get(name or "") if call_id is None else waiting.get(call_id)
                while queue and (queue[0] < floor or queue[0] in result_of):
                    queue.popleft()
                if queue:
                    call = queue.popleft()
                    result_of[call], call_of[at] = at, call
            case SystemText() | UserMessage():
                last_foreign = last_message = at
        reasoned = False
    return result_of, call_of


# -- compiling ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Call:
    entry: ToolCall
    id: str  # unique in its message
    results: list[ToolResult] = field(default_factory=list)


@dataclass(slots=True)
class _Answer:
    """The assistant message being put together, and what has to wait for its results."""

    reasoning: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)  # by position of the entry
    latest: dict[str, _Call] = field(default_factory=dict)  # by the client's call id
    used_ids: set[str] = field(default_factory=set)
    repeats: Counter[str] = field(default_factory=Counter)
    answered: list[int] = field(default_factory=list)  # positions of calls, in the order of their results
    awaits_until: int = -1  # position of the last first result of its calls
    broken: bool = False  # something that is not the model's stood after its first call
    deferred: list[Message] = field(default_factory=list)


class _Compiler:
    def __init__(
        self, entries: list[Entry], *, vision: bool, thinking: bool, recall: Callable[[str], str | None]
    ) -> None:
        self.messages: list[Message] = []
        self.repairs: Counter[str] = Counter()
        self.tool_names: dict[str, None] = {}
        self._entries = entries
        self._vision = vision
        self._thinking = thinking
        self._recall = recall
        self._result_of, self._call_of = pair(entries)
        self._answer: _Answer | None = None
        self._reasoning: list[str] = []  # waits for the text or call it belongs to
        self._names: dict[str, str] = {}  # tool names of the calls so far, by call id

    def run(self) -> None:
        first = self._system()
        for at in range(first, len(self._entries)):
            match self._entries[at]:
                case Thinking(text=text):
                    self._reasoning.append(text)
                case AssistantText(text=text):
                    self._add_text(at, text)
                case ToolCall() as call:
                    self._add_call(at, call)
                case ToolResult() as result:
                    self._drop_reasoning()
                    self._add_result(at, result)
                case UserMessage(parts=parts):
                    self._drop_reasoning()
                    self._place(at, {"role": "user", "content": self._content(parts)})
                case SystemText(text=text):
                    self._drop_reasoning()
                    self.repairs[Repair.LATE_SYSTEM] += 1
                    reminder = f"<system-reminder>\n{text}\n</system-reminder>"
                    self._place(at, {"role": "user", "content": reminder})
        self._drop_reasoning()
        self._close()
        if not self.messages:
            self.repairs[Repair.EMPTY_CONVERSATION] += 1
            self.messages.append({"role": "user", "content": ""})

    def _system(self) -> int:
        """Sends the leading system texts as one; returns how many there are."""
        texts: list[str] = []
        for entry in self._entries:
            if not isinstance(entry, SystemText):
                break
            texts.append(entry.text)
        if texts:
            self.messages.append({"role": "system", "content": _join(texts)})
        return len(texts)

    # -- the model's entries

    def _add_text(self, at: int, text: str) -> None:
        answer = self._answer
        if answer is None or answer.awaits_until < at:
            answer = self._begin()
        elif answer.calls:
            self.repairs[Repair.MOVED_TEXT] += 1
        self._take_reasoning(answer)
        answer.texts.append(text)

    def _add_call(self, at: int, call: ToolCall) -> None:
        answer = self._answer
        if answer is None or not self._continues(answer, at):
            answer = self._begin()
        elif answer.broken:
            self.repairs[Repair.MERGED_CALL] += 1
        self._take_reasoning(answer)
        added = _Call(call, self._unique_id(answer, call.call_id))
        answer.calls[at] = answer.latest[call.call_id] = added
        answer.awaits_until = max(answer.awaits_until, self._result_of.get(at, -1))
        self._names[call.call_id] = call.name
        self.tool_names[call.name] = None

    def _continues(self, answer: _Answer, at: int) -> bool:
        """Whether a call belongs to the message before it (rules 2 and 3)."""
        if answer.awaits_until > at:
            return True
        return not self._reasoning and not answer.broken

    def _begin(self) -> _Answer:
        self._close()
        self._answer = answer = _Answer()
        return answer

    def _take_reasoning(self, answer: _Answer) -> None:
        for text in self._reasoning:
            if answer.reasoning:
                self.repairs[Repair.JOINED_REASONING] += 1
            answer.reasoning.append(text)
        self._reasoning = []

    def _drop_reasoning(self) -> None:
        if self._reasoning:
            self.repairs[Repair.DANGLING_REASONING] += len(self._reasoning)
            self._reasoning = []

    def _unique_id(self, answer: _Answer, call_id: str) -> str:
        unique = call_id
        while unique in answer.used_ids:
            answer.repeats[call_id] += 1
            unique = f"{call_id}_{answer.repeats[call_id] + 1}"
        if unique != call_id:
            self.repairs[Repair.DUPLICATE_CALL_ID] += 1
        answer.used_ids.add(unique)
        return unique

    # -- everybody else's entries

    def _add_result(self, at: int, result: ToolResult) -> None:
        answer = self._answer
        if answer is not None and (call_at := self._call_of.get(at)) is not None:
            if result.call_id is None:
                self.repairs[Repair.NAMED_RESULT] += 1
            answer.calls[call_at].results.append(result)
            answer.answered.append(call_at)
            answer.broken = True
        elif answer is not None and result.call_id is not None and result.call_id in answer.latest:
            self.repairs[Repair.EXTRA_RESULT] += 1
            answer.latest[result.call_id].results.append(result)
        else:
            self._place(at, {"role": "user", "content": self._content(self._orphan(result))})

    def _orphan(self, result: ToolResult) -> tuple[Part, ...]:
        """A result that can follow no call, as the parts of a user message."""
        known = result.call_id is not None and result.call_id in self._names
        self.repairs[Repair.LATE_RESULT if known else Repair.ORPHAN_RESULT] += 1
        name = result.name or self._names.get(result.call_id or "")
        what = "an unknown tool call" if result.call_id is None else f"tool call {result.call_id}"
        tool = f" ({name})" if name else ""
        why = "which was answered or given up earlier" if known else "which is not part of this conversation"
        return (TextPart(f"[Output of {what}{tool}, {why}:]"), *result.parts)

    def _place(self, at: int, message: Message) -> None:
        """Puts a message where it stands, or behind the results that are still to come."""
        if self._answer is not None and self._answer.awaits_until > at:
            self.repairs[Repair.MOVED_MESSAGE] += 1
            self._answer.broken = True
            self._answer.deferred.append(message)
        else:
            self._close()
            self.messages.append(message)

    # -- messages

    def _close(self) -> None:
        """Sends the assistant message with its results, images, and what waited for them."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        self.messages.append(self._assistant(answer))
        if answer.answered != sorted(answer.answered):
            self.repairs[Repair.REORDERED_RESULTS] += 1
        images: list[dict[str, Any]] = []
        for call in answer.calls.values():
            self.messages.append({"role": "tool", "content": self._output(call), "tool_call_id": call.id})
            images += self._images(call)
        if images:
            self.messages.append({"role": "user", "content": images})
        self.messages += answer.deferred

    def _assistant(self, answer: _Answer) -> Message:
        message: Message = {"role": "assistant", "content": _join(answer.texts)}
        reasoning = self._reasoning_of(answer)
        if reasoning is not None:
            message["reasoning_content"] = reasoning
        if answer.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.entry.name, "arguments": call.entry.arguments},
                }
                for call in answer.calls.values()
            ]
        return message

    def _reasoning_of(self, answer: _Answer) -> str | None:
        if answer.reasoning:
            return _join(answer.reasoning)
        if not self._thinking:
            return None
        for call in answer.calls.values():
            if (recalled := self._recall(call.entry.call_id)) is not None:
                self.repairs[Repair.RECALLED_REASONING] += 1
                return recalled
        self.repairs[Repair.MISSING_REASONING] += 1
        return NO_REASONING

    def _output(self, call: _Call) -> str:
        """The text of a tool message: every result of the call, a marker for each image."""
        if not call.results:
            self.repairs[Repair.MISSING_RESULT] += 1
            return INTERRUPTED
        return BLANK_LINE.join(
            part.text if isinstance(part, TextPart) else (self._omission(part) or IMAGE_BELOW)
            for result in call.results
            for part in result.parts
        )

    def _images(self, call: _Call) -> Iterator[dict[str, Any]]:
        """The content parts that show a call's images to a model that sees; nothing where there are none."""
        shown = [
            part
            for result in call.results
            for part in result.parts
            if isinstance(part, ImagePart) and not self._why_omitted(part)
        ]
        if shown:
            self.repairs[Repair.MOVED_IMAGE] += len(shown)
            yield _text_part(f"[Images from tool call {call.id} ({call.entry.name}):]")
            yield from map(_image_part, shown)

    def _content(self, parts: Sequence[Part]) -> str | list[dict[str, Any]]:
        """User content: one string, or a list of parts where images go up."""
        sent: list[TextPart | ImagePart] = []
        for part in parts:
            omission = self._omission(part) if isinstance(part, ImagePart) else None
            sent.append(TextPart(omission) if omission else part)
        texts = [part.text for part in sent if isinstance(part, TextPart)]
        if len(texts) == len(sent):
            return BLANK_LINE.join(texts)
        return [_text_part(p.text) if isinstance(p, TextPart) else _image_part(p) for p in sent]

    def _omission(self, image: ImagePart) -> str | None:
        """The marker to send in place of an image, None where the image itself can go up."""
        marker = self._why_omitted(image)
        if marker:
            self.repairs[Repair.OMITTED_IMAGE] += 1
        return marker

    def _why_omitted(self, image: ImagePart) -> str | None:
        if not self._vision:
            return BLIND_MODEL
        if _INLINE_IMAGE.match(image.url):
            return None
        if _WEB_ADDRESS.match(image.url) and len(image.url) <= MAX_IMAGE_URL_CHARACTERS:
            return None
        return UNREADABLE_IMAGE


def _join(texts: Sequence[str]) -> str:
    """The texts with a blank line between them; empty ones leave no gap."""
    return BLANK_LINE.join(filter(None, texts))


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image_part(image: ImagePart) -> dict[str, Any]:
    url = {"url": image.url}
    if image.detail in IMAGE_DETAILS:
        url["detail"] = image.detail
    return {"type": "image_url", "image_url": url}


# -- the one repair that needs DeepSeek's word ------------------------------------------------------

MISSING_REASONING_ERROR: Final = "in the thinking mode must be passed back"


def with_placeholders(messages: Sequence[Message]) -> list[Message] | None:
    """`messages` with `NO_REASONING` for every empty or missing reasoning; None where there is none.

    For one more attempt after `MISSING_REASONING_ERROR`: some deployments refuse the empty string.
    """
    mended = [_with_placeholder(message) for message in messages]
    return mended if mended != list(messages) else None


def _with_placeholder(message: Message) -> Message:
    if message["role"] != "assistant" or message.get("reasoning_content"):
        return message
    mended: Message = {
        "role": "assistant",
        "content": message["content"],
        "reasoning_content": NO_REASONING,
    }
    if "tool_calls" in message:
        mended["tool_calls"] = message["tool_calls"]
    return mended
