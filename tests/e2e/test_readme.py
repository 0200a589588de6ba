"""The README's examples, as they stand there, through a real gateway to the simulator.

Only the port is another one.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from e2e import npm
from e2e.codex import NEWEST, launcher
from harness.gateway import Gateway
from harness.programs import program

from deepseek_proxy.cli.serve import greeting
from deepseek_proxy.settings import isolated

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
KEY = "sk-reader-0123456789"


def example(language: str, holding: str, port: int) -> str:
    """The one code block of the README in `language` with `holding` in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if holding in block]
    return found.replace("127.0.0.1:8787", f"127.0.0.1:{port}")


def run(
    arguments: list[str], folder: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A program that ends well. Its environment holds a key and nothing else that could help."""
    ended = subprocess.run(
        arguments,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "DEEPSEEK_API_KEY": KEY, **(variables or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def test_python(gateway: Gateway, tmp_path: Path) -> None:
    ended = run([sys.executable, "-c", example("python", "OpenAI", gateway.port)], tmp_path)
    assert "Why is the sky blue?" in ended.stdout


def test_javascript(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(npm.installed(*npm.OPENAI))
    (tmp_path / "example.mjs").write_text(example("js", "OpenAI", gateway.port))
    assert "Why is the sky blue?" in run(["node", "example.mjs"], tmp_path).stdout


def test_curl(gateway: Gateway, tmp_path: Path) -> None:
    program("curl")
    shown = run(["sh", "-c", example("sh", "curl", gateway.port)], tmp_path).stdout
    assert shown.startswith("event: response.created\n")
    assert shown.endswith("data: [DONE]\n\n")


def codex(folder: Path, config: str, *options: str) -> subprocess.CompletedProcess[str]:
    home = folder / "home"
    home.mkdir()
    (home / "config.toml").write_text(config)
    prompt = ["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "say hello"]
    return run([str(launcher(NEWEST)), *options, *prompt], folder, {"CODEX_HOME": str(home)})


def test_codex_with_the_configuration_file(gateway: Gateway, tmp_path: Path) -> None:
    ended = codex(tmp_path, example("toml", "model_providers", gateway.port))
    assert ended.stdout == "hello\n"
    assert "metadata" not in ended.stderr  # "Model metadata for … not found": the catalogue was not read


def test_codex_where_the_gateway_has_the_key(gateway: Gateway, tmp_path: Path) -> None:
    (placeholder,) = re.findall('`(experimental_bearer_token = ".+?")`', README)
    config = example("toml", "model_providers", gateway.port)
    ended = codex(tmp_path, re.sub("^env_key.*$", placeholder, config, flags=re.MULTILINE))
    assert ended.stdout == "hello\n"
    assert "metadata" not in ended.stderr


@pytest.mark.parametrize("key", [None, "sk-own"])
def test_codex_with_the_line_that_serve_prints(gateway: Gateway, tmp_path: Path, key: str | None) -> None:
    line = greeting(isolated(deepseek_api_key=key), f"http://127.0.0.1:{gateway.port}").splitlines()[-1]
    _, *options = shlex.split(line)
    ended = codex(tmp_path, "", *options)
    assert ended.stdout == "hello\n"
    assert "metadata" not in ended.stderr
