"""The output items of a Responses stream that hold text: messages, reasoning and compactions.

Each item writes its own frames in the order of the event grammar (`added`, part, deltas, `done`) and
knows its JSON at any moment. Refuses to know what comes before or after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from deepseek_proxy.translate import ids, jsontext
from deepseek_proxy.translate.responses.emitter import DeltaTemplate, Emitter

ItemStatus = Literal["in_progress", "completed", "incomplete"]
ReasoningOutput = Literal["summary", "text", "openresponses", "hidden"]
Cite = Callable[[str], list[dict[str, Any]]]
"""Finds the annotations of a text that is whole."""


class _Part:
    """One content part of a message: `output_text` or `refusal`."""

    __slots__ = ("annotations", "buffer", "kind", "logprobs", "template", "where")

    def __init__(self, kind: Literal["output_text", "refusal"], where: Mapping[str, Any]) -> None:
        self.kind = kind
        self.where = where
        self.buffer = jsontext.TextBuffer()
        self.logprobs: list[Mapping[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        trailing: Mapping[str, Any] | None = {"logprobs": []} if kind == "output_text" else None
        self.template = DeltaTemplate(f"response.{kind}.delta", where, trailing)

    def current(self) -> dict[str, Any]:
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": self.buffer.text}
        return {
            "type": "output_text",
            "text": self.buffer.text,
            "annotations": self.annotations,
            "logprobs": self.logprobs,
        }


class MessageItem:
    """An assistant message."""

    def __init__(
        self, emitter: Emitter, index: int, new_id: ids.NewId, cite: Cite = lambda _text: []
    ) -> None:
        self._emit = emitter
        self.index = index
        self.id = new_id(ids.MESSAGE)
        self._cite = cite
        self._parts: list[_Part] = []
        self._open_part: _Part | None = None

    @property
    def plaintext(self) -> str:
        return "".join(part.buffer.text for part in self._parts)

    def open(self) -> bytes:
        return self._emit.event(
            "response.output_item.added", {"output_index": self.index, "item": self.current("in_progress")}
        )

    def text(self, literal: bytes, logprobs: Sequence[Mapping[str, Any]] = ()) -> bytes:
        part = self._open_part
        if part is not None and part.kind == "output_text" and not logprobs:
            part.buffer.add(literal)
            return self._emit.delta(part.template, literal)
        opened, part = self._part("output_text")
        part.buffer.add(literal)
        if not logprobs:
            return opened + self._emit.delta(part.template, literal)
        part.logprobs.extend(logprobs)
        # Rare enough to be dumped as a whole.
        fields = {**part.where, "delta": jsontext.literal_text((literal,)), "logprobs": logprobs}
        return opened + self._emit.event("response.output_text.delta", fields)

    def refusal(self, literal: bytes) -> bytes:
        opened, part = self._part("refusal")
        part.buffer.add(literal)
        return opened + self._emit.delta(part.template, literal)

    def close(self, status: ItemStatus) -> bytes:
        closed = self._close_part()
        return closed + self._emit.event(
            "response.output_item.done", {"output_index": self.index, "item": self.current(status)}
        )

    def current(self, status: ItemStatus) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [part.current() for part in self._parts],
        }

    def _part(self, kind: Literal["output_text", "refusal"]) -> tuple[bytes, _Part]:
        """The open part of this kind, and the frames that it took to open it."""
        if self._open_part is not None and self._open_part.kind == kind:
            return b"", self._open_part
        frames = self._close_part()
        where = {"item_id": self.id, "output_index": self.index, "content_index": len(self._parts)}
        part = _Part(kind, where)
        self._parts.append(part)
        self._open_part = part
        return frames + self._emit.event(
            "response.content_part.added", {**where, "part": part.current()}
        ), part

    def _close_part(self) -> bytes:
        part = self._open_part
        if part is None:
            return b""
        self._open_part = None
        final = part.current()
        if part.kind == "refusal":
            done = self._emit.event("response.refusal.done", {**part.where, "refusal": final["refusal"]})
        else:
            part.annotations = final["annotations"] = self._cite(final["text"])
            fields = {**part.where, "text": final["text"], "logprobs": part.logprobs}
            done = self._annotations(part) + self._emit.event("response.output_text.done", fields)
        return done + self._emit.event("response.content_part.done", {**part.where, "part": final})

    def _annotations(self, part: _Part) -> bytes:
        return b"".join(
            self._emit.event(
                "response.output_text.annotation.added",
                {**part.where, "annotation_index": index, "annotation": annotation},
            )
            for index, annotation in enumerate(part.annotations)
        )


class ReasoningItem:
    """The model's thinking, shown as the setting says and sealed into `encrypted_content` always."""

    def __init__(
        self,
        emitter: Emitter,
        index: int,
        new_id: ids.NewId,
        form: ReasoningOutput,
        seal: Callable[[str], str],
    ) -> None:
        """`seal` makes `encrypted_content` of the thinking."""
        self._emit = emitter
        self.index = index
        self.id = new_id(ids.REASONING)
        self._form = form
        self._seal = seal
        self._buffer = jsontext.TextBuffer()
        self._part_open = False
        self._sealed: str | None = None
        if form == "summary":
            self._where = {"item_id": self.id, "output_index": index, "summary_index": 0}
            self._event = "response.reasoning_summary_text"
        else:
            self._where = {"item_id": self.id, "output_index": index, "content_index": 0}
            self._event = "response.reasoning" if form == "openresponses" else "response.reasoning_text"
        self._template = DeltaTemplate(f"{self._event}.delta", self._where)

    @property
    def plaintext(self) -> str:
        return self._buffer.text

    def open(self) -> bytes:
        return self._emit.event(
            "response.output_item.added", {"output_index": self.index, "item": self.current("in_progress")}
        )

    def text(self, literal: bytes) -> bytes:
        self._buffer.add(literal)
        if self._form == "hidden":
            return b""
        opened = b""
        if not self._part_open:
            self._part_open = True
            opened = self._emit.event(f"{self._part_event}.added", {**self._where, "part": self._part("")})
        return opened + self._emit.delta(self._template, literal)

    def close(self, status: ItemStatus) -> bytes:
        frames = b""
        text = self._buffer.text
        if self._part_open:
            frames = self._emit.event(f"{self._event}.done", {**self._where, "text": text})
            frames += self._emit.event(f"{self._part_event}.done", {**self._where, "part": self._part(text)})
        self._sealed = self._seal(text)
        return frames + self._emit.event(
            "response.output_item.done", {"output_index": self.index, "item": self.current(status)}
        )

    def current(self, status: ItemStatus) -> dict[str, Any]:
        """A reasoning item has no status on the wire, and `summary` is never null."""
        item: dict[str, Any] = {"id": self.id, "type": "reasoning", "summary": []}
        if self._part_open:
            parts = [self._part(self._buffer.text)]
            item["summary" if self._form == "summary" else "content"] = parts
        if self._sealed is not None:
            item["encrypted_content"] = self._sealed
        return item

    @property
    def _part_event(self) -> str:
        return "response.reasoning_summary_part" if self._form == "summary" else "response.content_part"

    def _part(self, text: str) -> dict[str, str]:
        return {"type": "summary_text" if self._form == "summary" else "reasoning_text", "text": text}


class CompactionItem:
    """A sealed summary of the conversation, whole from the start."""

    def __init__(self, emitter: Emitter, new_id: ids.NewId, sealed: str, index: int = 0) -> None:
        self._emit = emitter
        self.index = index
        self.id = new_id(ids.COMPACTION)
        self._sealed = sealed

    def open(self) -> bytes:
        return self._event("response.output_item.added", "in_progress")

    def close(self, status: ItemStatus) -> bytes:
        return self._event("response.output_item.done", status)

    def current(self, status: ItemStatus) -> dict[str, Any]:
        """A compaction has no status on the wire."""
        return {"id": self.id, "type": "compaction", "encrypted_content": self._sealed}

    def _event(self, event: str, status: ItemStatus) -> bytes:
        return self._emit.event(event, {"output_index": self.index, "item": self.current(status)})
