"""The examples of docs/clients/openai-sdks.md, as they stand there. Only the port is another one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from e2e import npm
from harness.gateway import Gateway

PAGE = Path(__file__).parents[2] / "docs" / "clients" / "openai-sdks.md"
EXAMPLES = re.findall(r"^```(python|js)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
PRINTED = {
    "Why is the sky blue?": "Why is the sky blue?",
    "previous_response_id=": "Your name is Ada.",
    "conversations.items.list": "Your name is Ada.",
    "background=True": "completed",
    "function_tool": "It is sunny in",
}
"""What an example holds, and what it prints."""


@pytest.mark.parametrize(("language", "example"), EXAMPLES)
def test_example(language: str, example: str, gateway: Gateway, tmp_path: Path) -> None:
    source = tmp_path / ("example.py" if language == "python" else "example.mjs")
    source.write_text(example.replace("127.0.0.1:8787", f"127.0.0.1:{gateway.port}"))
    if language == "js":
        (tmp_path / "node_modules").symlink_to(npm.installed(*npm.OPENAI))
    ended = subprocess.run(
        [sys.executable if language == "python" else "node", source.name],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DEEPSEEK_API_KEY": "sk-reader-0123456789"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    expected = [printed for holding, printed in PRINTED.items() if holding in example]
    assert expected
    for printed in expected:
        assert printed in ended.stdout
