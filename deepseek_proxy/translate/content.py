"""The content of a message, a string or a list of parts, in the words of either of OpenAI's APIs.

What DeepSeek could never read is refused when it is new, and left out of a history. Refuses to know who
speaks, and what DeepSeek accepts (`translate.history` does).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import attachments, fields
from deepseek_proxy.translate.history import Part, TextPart

UNREADABLE_PART: Final = "[attachment omitted: it cannot be read]"

_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})


class ContentReader:
    """Reads the contents of one request. Parts that had to be left out are counted in `notes`.

    Those of unknown types always are, unless `known_only`: then they are refused where they are new.
    """

    def __init__(self, notes: Counter[str], *, known_only: bool = False) -> None:
        self._notes = notes
        self._known_only = known_only
        self.is_fresh = True
        """Whether what is being read is the user's latest word."""

    def parts(self, content: object, path: str) -> tuple[Part, ...]:
        """The parts of a content; none where it is null."""
        if content is None:
            return ()
        if isinstance(content, str):
            return (TextPart(content),)
        if not isinstance(content, list):
            raise fields.invalid_type(path, "a string or an array of content parts", content)
        parts: list[Part] = []
        for index, part in enumerate(content):
            where = f"{path}[{index}]"
            if isinstance(part, str):
                parts.append(TextPart(part))
            elif not isinstance(part, dict):
                raise fields.invalid_type(where, "an object", part)
            elif (read := self._part_of_any_age(part, where)) is not None:
                parts.append(read)
        return tuple(parts)

    def text(self, content: object, path: str, separator: str = "") -> str:
        """The text of who can only write text: everybody but the user and the tools."""
        parts = self.parts(content, path)
        texts = [part.text for part in parts if isinstance(part, TextPart)]
        if len(texts) < len(parts):
            self._notes["part_left_out"] += len(parts) - len(texts)
        return separator.join(texts)

    def _part_of_any_age(self, part: Mapping[str, Any], path: str) -> Part | None:
        """A part that DeepSeek cannot read is refused when it is new. In the history it is left out: the
        client could never send that thread again."""
        try:
            return self._part(part, path)
        except InvalidRequest:
            if self.is_fresh:
                raise
            self._notes["part_left_out"] += 1
            return TextPart(UNREADABLE_PART)

    def _part(self, part: Mapping[str, Any], path: str) -> Part | None:
        kind = part.get("type")
        if not isinstance(kind, str):
            kind = ""
        if kind in _TEXT_PARTS:
            return TextPart(fields.required_string(part, "text", path))
        if kind == "refusal":
            return TextPart(fields.string(part, "refusal", path) or "")
        if kind == "encrypted_content":
            return TextPart(fields.string(part, "encrypted_content", path) or "")
        if kind in ("input_image", "image_url"):
            return attachments.image(part, path)
        if kind in ("input_file", "file"):
            return attachments.file(part, path)
        if kind == "input_audio":
            raise InvalidRequest(
                "Audio input is not supported by DeepSeek's models.", param=path, code="unsupported_value"
            )
        if self._known_only and self.is_fresh:
            raise fields.invalid_value(f"{path}.type", "DeepSeek's models read text, images and text files.")
        self._notes["part_left_out"] += 1
        return None
