"""The form that an answer shall have: JSON by a schema or without one, short or long.

What DeepSeek has no switch for becomes a sentence of the system text. Refuses to know where a dialect keeps
the wish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deepseek_proxy.translate import fields, schema
from deepseek_proxy.translate.history import Entry, SystemText, TextPart, UserMessage
from deepseek_proxy.translate.schema import StructuredOutput

KINDS: Final = ("text", "json_object", "json_schema")

_VERBOSITY_HINTS: Final = {
    "low": "Keep answers short: only what was asked for.",
    "high": "Answer at length, with the details and the reasons.",
}


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How the answer shall look: `hints` go to the model, `structured` is checked."""

    is_json: bool
    structured: StructuredOutput | None
    hints: Sequence[str]


def read(
    kind: str | None, asked: Mapping[str, Any], path: str, verbosity: str | None, entries: Sequence[Entry]
) -> AnswerFormat:
    """The format of `kind`, None being text. `asked` has the name and the schema of a `json_schema`.

    Raises `InvalidRequest` with the path of what is wrong.
    """
    hints = [_VERBOSITY_HINTS[verbosity]] if verbosity in _VERBOSITY_HINTS else []
    structured = None
    if kind == "json_schema":
        structured = schema.structured_output(
            name=fields.required_string(asked, "name", path),
            schema=asked.get("schema"),
            strict=fields.boolean(asked, "strict", False, path),
            description=fields.string(asked, "description", path),
            param=f"{path}.schema",
        )
        hints.append(structured.instruction)
    elif kind == "json_object" and not schema.mentions_json(_opening_texts(entries)):
        hints.append(schema.JSON_INSTRUCTION)
    return AnswerFormat(kind in ("json_object", "json_schema"), structured, hints)


def tell(entries: list[Entry], hints: Sequence[str]) -> None:
    """Puts hints at the end of the leading system text: at its head, they would spoil the cached prefix."""
    lead = next((i for i, entry in enumerate(entries) if not isinstance(entry, SystemText)), len(entries))
    entries[lead:lead] = [SystemText(hint) for hint in hints]


def _opening_texts(entries: Sequence[Entry]) -> list[str]:
    """The system texts and the first message behind them.

    The word "json" is looked for in these alone: later texts would make a hint come and go from one turn
    to the next, and each time the cached prefix with it.
    """
    texts = []
    for entry in entries:
        if isinstance(entry, SystemText):
            texts.append(entry.text)
            continue
        if isinstance(entry, UserMessage):
            texts.extend(part.text for part in entry.parts if isinstance(part, TextPart))
        break
    return texts
