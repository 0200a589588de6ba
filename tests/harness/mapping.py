"""The pages of docs/mapping as tables that tests can read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[2] / "docs" / "mapping"
WORDS: Final = {"kept", "renamed", "approximated", "accepted", "refused"}
"""What a page says of a field."""


class Page:
    def __init__(self, name: str) -> None:
        self.text = (FOLDER / name).read_text("utf-8")

    def rows(self, heading: str) -> list[list[str]]:
        """The cells of the table under a heading, without its head."""
        pattern = rf"^## {heading}\n(.*?)(?=^## |\Z)"
        (section,) = re.findall(pattern, self.text, re.MULTILINE | re.DOTALL)
        lines = [line for line in section.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]

    def listed(self, heading: str, word: str | None = None) -> list[str]:
        """Every name in the first column, or those that the second one says `word` of."""
        rows = [row for row in self.rows(heading) if word in (None, row[1])]
        return [name for row in rows for name in named(row[0])]


def named(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)
