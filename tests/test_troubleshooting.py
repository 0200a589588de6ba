"""The messages that the documents quote are those that the code produces, word for word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"
DEPLOYMENT = [ROOT / "docs" / "deploy" / name for name in ("docker.md", "vercel.md")]
FOREIGN = {
    "No usable temporary directory found",  # Python
    'could not import "wsgi.py"',  # Vercel
    "FUNCTION_INVOCATION_TIMEOUT",
    "FUNCTION_PAYLOAD_TOO_LARGE",
    "unhealthy",  # Docker
    "Permission denied",  # Linux
    "ports:",
}


def templates() -> Iterator[str]:
    """Every text of the package, line by line, with `…` for what is filled in."""
    for path in (ROOT / "deepseek_proxy").rglob("*.py"):
        if "simulator" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                text = "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = re.sub("%[sd]", "…", node.value)
            else:
                continue
            yield from text.splitlines()


TEMPLATES = set(templates())


def first_cells(page: Path) -> Iterator[list[str]]:
    """What stands in backticks in the first cell of each row of a page's tables."""
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("|") and (quoted := re.findall("`([^`]+)`", line.split("|")[1])):
            yield quoted


MESSAGES = list(first_cells(TROUBLESHOOTING))


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 30
    assert all(len(quoted) == 1 for quoted in MESSAGES)


@pytest.mark.parametrize("quoted", MESSAGES, ids=lambda quoted: quoted[0][:40])
def test_each_message_is_one_of_the_codes(quoted: list[str]) -> None:
    assert quoted[0] in TEMPLATES


def test_no_message_is_explained_twice() -> None:
    assert len({quoted[0] for quoted in MESSAGES}) == len(MESSAGES)


@pytest.mark.parametrize("page", DEPLOYMENT, ids=lambda page: page.name)
def test_what_a_deployment_page_quotes_is_said_by_somebody(page: Path) -> None:
    failures = page.read_text("utf-8").partition("## When it fails")[2]
    assert failures
    for quoted in first_cells(page):
        for text in quoted:
            if f"`{text}`" in failures and text not in FOREIGN:
                assert any(text in template for template in TEMPLATES), text
