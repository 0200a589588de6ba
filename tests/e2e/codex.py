"""Runs the real Codex CLI against a gateway, headless or in a terminal.

Each `Codex` has a fresh CODEX_HOME, HOME and working folder; tools that the model calls are really run
there. Refuses to know what the model says.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from e2e import npm
from e2e.terminal import Terminal
from harness.gateway import CLIENT_KEY, Gateway

NEWEST: Final = "0.169.0"
OLDER: Final = "0.142.0"
OLDEST: Final = "0.118.0"
FREE: Final = "--dangerously-bypass-approvals-and-sandbox"
EXEC: Final = ("exec", "--skip-git-repo-check", FREE, "--json")
KEY_VARIABLES: Final = ("GATEWAY_API_KEY", "DEEPSEEK_API_KEY")


def launcher(version: str) -> Path:
    """The `codex` command of a version, installed if it is not there."""
    return npm.installed("@openai/codex", version) / ".bin" / "codex"


@dataclass(frozen=True)
class Run:
    """One run of `codex exec`, ended: its exit code, its JSON events, and what it wrote to stderr."""

    code: int
    events: list[dict[str, Any]]
    stderr: str

    def items(self, kind: str) -> list[dict[str, Any]]:
        """The completed items of a type: agent_message, reasoning, command_execution, file_change, …"""
        return [
            event["item"]
            for event in self.events
            if event["type"] == "item.completed" and event["item"]["type"] == kind
        ]

    @property
    def thread(self) -> str:
        """The thread's id, by which it can be resumed."""
        (started,) = [event for event in self.events if event["type"] == "thread.started"]
        return str(started["thread_id"])

    @property
    def answer(self) -> str:
        """The last message, of a turn that was completed."""
        assert self.code == 0, self
        text: str = self.items("agent_message")[-1]["text"]
        return text

    @property
    def failure(self) -> str:
        """Why the turn failed."""
        assert self.code == 1, self
        (message,) = [event["error"]["message"] for event in self.events if event["type"] == "turn.failed"]
        return str(message)

    @property
    def warnings(self) -> list[str]:
        """Complaints that did not end the turn, except for the retries."""
        return [item["message"] for item in self.items("error")]

    @property
    def retries(self) -> list[str]:
        return [event["message"] for event in self.events if event["type"] == "error"]


class Codex:
    """An installation of one version with a configuration of its own, in a folder that has none yet.

    `gateway` may be replaced between two runs. `model` are fields that its catalogue entries have in place
    of the gateway's own. `configured` says that the provider stands in its `config.toml`; else it is given
    with every command.
    """

    def __init__(
        self,
        folder: Path,
        gateway: Gateway,
        version: str = NEWEST,
        *,
        model: Mapping[str, Any] | None = None,
        configured: bool = False,
    ) -> None:
        self.version = version
        self._model = dict(model or {})
        self._configured = configured
        self.gateway = gateway
        self.launcher = launcher(version)
        self._home = folder / "home"
        self.codex_home = folder / "codex-home"
        self.work = folder / "work"
        for path in (self._home, self.codex_home, self.work):
            path.mkdir()

    def exec(
        self,
        *arguments: str,
        config: Mapping[str, Any] | None = None,
        interrupt_when: Callable[[], bool] | None = None,
        seconds: float = 60,
    ) -> Run:
        """`codex exec` with these arguments.

        `config` holds further settings by dotted key. Ctrl-C is pressed once `interrupt_when()` is true.
        """
        process = subprocess.Popen(
            [self.launcher, EXEC[0], *self._options(config or {}), *EXEC[1:], *arguments],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            while interrupt_when is not None and process.poll() is None:
                time.sleep(0.05)
                if interrupt_when():
                    process.send_signal(signal.SIGINT)
                    break
            output, complaints = process.communicate(timeout=seconds)
        finally:
            _end_session(process.pid)
            process.wait()
        return Run(process.returncode, [json.loads(line) for line in output.splitlines()], complaints)

    def tui(self, prompt: str) -> Terminal:
        """The interactive `codex` with its first prompt."""
        options = self._options({"check_for_update_on_startup": False})
        command = [self.launcher, *options, FREE, "--no-alt-screen", "--no-daemon", prompt]
        return Terminal(command, self.work, self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """All the variables that it gets."""
        return {
            "PATH": f"{self.launcher.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self._home),
            "CODEX_HOME": str(self.codex_home),
            **dict.fromkeys(KEY_VARIABLES, CLIENT_KEY),
        }

    def _options(self, config: Mapping[str, Any]) -> list[str]:
        settings = {**({} if self._configured else self._provider), **config}
        return [f"-c{key}={json.dumps(value)}" for key, value in settings.items()]

    @property
    def _provider(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.gateway.port}/v1"
        provider = {
            "name": "DeepSeek gateway",
            "base_url": url,
            "env_key": "GATEWAY_API_KEY",
            "wire_api": "responses",
        }
        top: dict[str, Any] = {"model": "deepseek-flash", "model_provider": "gateway"}
        if self._reads_catalogue_url:
            provider["model_catalog_url"] = f"{url}/models"
        else:
            top["model_catalog_json"] = str(self._catalogue_file())
        return {**top, **{f"model_providers.gateway.{key}": value for key, value in provider.items()}}

    @property
    def _reads_catalogue_url(self) -> bool:
        return not self._model and tuple(map(int, self.version.split("."))) >= (0, 162, 0)

    def _catalogue_file(self) -> Path:
        """What the gateway serves to this version, as the file that older versions read instead."""
        with self.gateway.call("GET", f"/v1/models?client_version={self.version}") as call:
            catalogue = call.reply().json()
        for entry in catalogue["models"]:
            entry.update(self._model)
        path = self.codex_home / "catalogue.json"
        path.write_text(json.dumps(catalogue))
        return path


def _end_session(leader: int) -> None:
    """Ends Codex and what it may have left running."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass
