"""Codex with catalogue entries that the gateway does not serve: other ways to offer tools, as users set them.

Bundled models of the newest Codex have these; a user who copies such an entry gets them.
"""

from __future__ import annotations

import json
from pathlib import Path

from e2e.backend import Backend, added_messages, results, text_of, tool_names
from e2e.codex import Codex
from e2e.mcp_server import CONFIGURATION
from harness.gateway import Gateway


def test_tool_search(tmp_path: Path, gateway: Gateway, backend: Backend) -> None:
    """Tools that the model has searched for are declared from then on, and can be called."""
    codex = Codex(tmp_path, gateway, model={"supports_search_tool": True})
    backend.says(
        {"calls": [{"name": "tool_search", "arguments": {"query": "add numbers"}}]},
        {"calls": [{"name": "mcp__demo_srv__add", "arguments": {"a": 2, "b": 3}}]},
        {"text": "Five."},
    )
    run = codex.exec("Add.", config=CONFIGURATION)
    assert run.answer == "Five."
    (added,) = run.items("mcp_tool_call")
    assert added["tool"] == "add"
    first, second, third = backend.bodies()
    assert "mcp__demo_srv__add" not in tool_names(first)
    assert tool_names(second) == [*tool_names(first), "mcp__demo_srv__add"]
    assert added_messages(third, second)
    found, added_up = results(third)
    assert "mcp__demo_srv__add" in found.split(": ")[1].split(", ")
    assert added_up.endswith("the sum is 5")


def test_tools_in_the_input(tmp_path: Path, gateway: Gateway, backend: Backend) -> None:
    """A "lite" model's tools come as an item of the input, in namespaces."""
    codex = Codex(tmp_path, gateway, model={"use_responses_lite": True})
    backend.says(
        {"calls": [{"name": "exec_command", "arguments": {"cmd": "echo lite"}}]},
        {"calls": [{"name": "mcp__demo_srv__add", "arguments": {"a": 2, "b": 3}}]},
        {"text": "Done."},
    )
    run = codex.exec("Do both.", config=CONFIGURATION)
    assert run.answer == "Done."
    first, second, third = backend.bodies()
    assert added_messages(second, first)
    assert added_messages(third, second)
    said, added = results(third)
    assert said.endswith("lite\n")
    assert added.endswith("the sum is 5")


def test_code_mode(tmp_path: Path, gateway: Gateway, backend: Backend) -> None:
    """The one tool takes JavaScript as it is; a script can answer several times."""
    codex = Codex(tmp_path, gateway, model={"use_responses_lite": True, "tool_mode": "code_mode_only"})
    script = """const said = await tools.exec_command({cmd: "echo 'code'"});
text(said.output);
notify("once more");
"""
    backend.says({"calls": [{"name": "exec", "arguments": {"input": script}}]}, {"text": "Done."})
    run = codex.exec("Run it.")
    assert run.answer == "Done."
    (executed,) = run.items("command_execution")
    assert executed["aggregated_output"] == "code\n"
    earlier, later = backend.bodies()
    answered, result = added_messages(later, earlier)
    assert json.loads(answered["tool_calls"][0]["function"]["arguments"]) == {"input": script}
    assert "code" in result["content"]
    assert "once more" in result["content"]


def test_team_of_agents(tmp_path: Path, gateway: Gateway, backend: Backend) -> None:
    """Agents of version 2 inherit the parent's thread and get their task in an item of its own kind."""
    codex = Codex(tmp_path, gateway, model={"multi_agent_version": "v2"})
    spawn = {"message": "Task of the child.", "task_name": "kid"}
    backend.says(
        {"match": "of the parent", "calls": [{"name": "collaboration__spawn_agent", "arguments": spawn}]},
        {"match": "of the parent", "calls": [{"name": "collaboration__wait_agent", "arguments": {}}]},
        {"match": "of the child", "text": "The child is done."},
        {"match": "The child is done.", "text": "All done."},
    )
    assert codex.exec("Task of the parent.").answer == "All done."
    (child,) = [body for body in backend.bodies() if "Task of the child." in text_of(body["messages"][-1])]
    assert text_of(child["messages"][-1]).startswith("Message from /root:")
