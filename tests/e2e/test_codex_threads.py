"""Codex threads through a real gateway: resumed, compacted, cut off, interrupted, kept waiting."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from e2e.backend import Backend, added_messages, results, text_of
from e2e.codex import NEWEST, OLDER, OLDEST, Codex
from e2e.conftest import Start
from harness.gateway import Gateway

THOUGHTS: Final = "Let me see – 让我想想。\n\n\t"


def command(line: str) -> dict[str, Any]:
    return {"name": "exec_command", "arguments": {"cmd": line}}


# -- resumed ---------------------------------------------------------------------------------------


def test_resume(codex: Codex, backend: Backend) -> None:
    """The whole thread is sent again, byte for byte, thinking included."""
    backend.says(
        {"reasoning": THOUGHTS, "text": "I look.", "calls": [command("echo one")]},
        {"reasoning": "It says one.", "text": "One."},
        {"reasoning": "Again.", "text": "Still one."},
    )
    assert codex.exec("What is it?").answer == "One."
    assert codex.exec("resume", "--last", "And now?").answer == "Still one."
    first, second, third = backend.bodies()
    looked, _ = added_messages(second, first)
    answered, asked = added_messages(third, second)
    assert looked["reasoning_content"] == THOUGHTS
    assert answered == {"role": "assistant", "content": "One.", "reasoning_content": "It says one."}
    assert asked == {"role": "user", "content": "And now?"}


def test_resume_with_another_gateway(tmp_path: Path, backend: Backend) -> None:
    """Nothing that a thread needs is in the gateway's memory: only the sealing key is, in its folder."""
    gateways = []
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        settings = {"state_dir": tmp_path / "state", "workers": 2}
        gateways.append(Gateway(tmp_path / name, backend.url, settings=settings))
    before, after = gateways
    backend.says({"reasoning": THOUGHTS, "text": "One."}, {"text": "Two."})
    codex = Codex(tmp_path, before)
    assert codex.exec("First.").answer == "One."
    before.stop()
    codex.gateway = after
    assert codex.exec("resume", "--last", "Second.").answer == "Two."
    after.stop()
    earlier, later = backend.bodies()
    answered, _ = added_messages(later, earlier)
    assert answered["reasoning_content"] == THOUGHTS


# -- compacted -------------------------------------------------------------------------------------


def test_local_compaction(codex: Codex, backend: Backend) -> None:
    """An ordinary turn makes the summary; what comes after it begins with the summary."""
    backend.says({"text": "One."}, {"text": "THE SUMMARY"}, {"text": "Two."})
    codex.exec("First.")
    assert codex.exec("resume", "--last", "Second.", config={"model_auto_compact_token_limit": 2000}).answer
    _, compacting, after = backend.bodies()
    assert "CONTEXT CHECKPOINT COMPACTION" in text_of(compacting["messages"][-1])
    texts = [text_of(message) for message in after["messages"]]
    assert "First." in texts
    assert "One." not in texts
    assert texts[-2].endswith("THE SUMMARY")
    assert texts[-1] == "Second."


@pytest.mark.parametrize("version", [NEWEST, OLDER, OLDEST])
def test_remote_compaction(tmp_path: Path, gateway: Gateway, backend: Backend, version: str) -> None:
    """A provider named OpenAI is asked to compact: the newer two Codexes in a stream, the oldest by a route.

    What Codex says in the user's name, it says anew where it still holds: it is there once, as it is now.
    """
    backend.says({"text": "One."}, {"text": "THE SUMMARY"}, {"text": "Two."}, {"text": "Three."})
    remote = {"model_providers.gateway.name": "OpenAI"}
    codex = Codex(tmp_path, gateway, version)
    (codex.work / "AGENTS.md").write_text("Be kind.\n")
    thread = codex.exec("First.", config=remote).thread
    small = {**remote, "model_auto_compact_token_limit": 2000}
    assert codex.exec("resume", thread, "Second.", config=small).answer == "Two."
    assert codex.exec("resume", thread, "Third.", config=remote).answer == "Three."
    _, compacting, after, last = backend.bodies()
    assert text_of(compacting["messages"][-2]) == "One."
    texts = [text_of(message) for message in after["messages"]]
    assert texts.count("First.") == 1
    assert "One." not in texts
    assert any(text.endswith("THE SUMMARY") for text in texts)
    assert sum(text.count("Be kind.") for text in texts) == 1
    assert sum(text.count("<environment_context>") for text in texts) == 1
    assert texts[-1] == "Second."
    assert [text_of(message) for message in added_messages(last, after)] == ["Two.", "Third."]


def test_compaction_that_does_not_fit_itself(codex: Codex, backend: Backend) -> None:
    """Codex leaves out the oldest of the thread, and tries again."""
    backend.refusals_expected = True
    backend.says({"text": "One."}, {"fault": "context-length"}, {"text": "THE SUMMARY"}, {"text": "Two."})
    codex.exec("First.")
    small = {"model_auto_compact_token_limit": 2000}
    assert codex.exec("resume", "--last", "Second.", config=small).answer == "Two."
    _, refused, compacting, after = backend.bodies()
    assert len(json.dumps(compacting["messages"])) < len(json.dumps(refused["messages"]))
    assert any(text_of(message).endswith("THE SUMMARY") for message in after["messages"])


# -- others ----------------------------------------------------------------------------------------


def test_sub_agent(codex: Codex, backend: Backend) -> None:
    """The child gets its task, and the parent hears what came of it."""
    spawn = {"name": "multi_agent_v1__spawn_agent", "arguments": {"message": "Task of the child."}}
    backend.says(
        {"match": "of the parent", "calls": [spawn]},
        {"match": "of the parent", "calls": [command("sleep 1")]},
        {"match": "of the child", "text": "The child is done."},
        {"match": "of the parent", "text": "All done."},
    )
    run = codex.exec("Task of the parent.")
    assert run.answer == "All done."
    *_, last = backend.bodies()
    assert "The child is done." in text_of(last["messages"][-1])


def test_review(codex: Codex, backend: Backend) -> None:
    for line in ("git init -q", "git -c user.name=n -c user.email=e commit -q --allow-empty -m begin"):
        subprocess.run(line.split(), cwd=codex.work, check=True)
    (codex.work / "new.py").write_text("print(1)\n")
    backend.says(
        {"calls": [command("git status --short")]},
        {"text": json.dumps({"findings": [], "overall_explanation": "Nothing is wrong."})},
    )
    run = codex.exec("review", "--uncommitted")
    assert "Nothing is wrong." in run.answer
    _, later = backend.bodies()
    assert results(later)[0].endswith("?? new.py\n")


# -- cut off ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "ran"),
    [(3, []), (8, []), (12, []), (21, ["one"])],
    ids=["in the thinking", "in the text", "in the first call", "in the second call"],
)
def test_stream_that_is_cut(codex: Codex, backend: Backend, after: int, ran: list[str]) -> None:
    """Codex asks again with what it has: a command that it was given whole is run, and only once."""
    calls = [command("echo one >> log"), command("echo two >> log")]
    cut = {
        "reasoning": "I think.",
        "text": "Let me look.",
        "calls": calls,
        "fault": f"truncate after={after}",
    }
    backend.says(cut, {"text": "Done."})
    run = codex.exec("Look.")
    assert run.answer == "Done."
    assert len(run.retries) == 1
    log = codex.work / "log"
    assert (log.read_text().split() if log.exists() else []) == ran
    assert len(backend.bodies()) == 2


# -- interrupted -----------------------------------------------------------------------------------


def test_interrupted_answer(codex: Codex, backend: Backend) -> None:
    """The call to DeepSeek ends with it; thinking that led to nothing is left out of the thread."""
    backend.says(
        {"reasoning": "Hm", "text": "one two three four five six seven", "token_seconds": 0.4},
        {"text": "Going on."},
    )
    run = codex.exec("Count.", interrupt_when=lambda: backend.busy_seconds() > 1.5)
    assert run.code != 0
    assert len(run.items("reasoning")) == 1
    assert [record["outcome"] for record in backend.records()] == ["client gone"]
    assert codex.exec("resume", run.thread, "Go on.").answer == "Going on."
    earlier, later = backend.bodies()
    aborted, asked = added_messages(later, earlier)
    assert text_of(aborted).startswith("<turn_aborted>")
    assert text_of(asked) == "Go on."


def test_interrupted_command(codex: Codex, backend: Backend) -> None:
    backend.says(
        {"reasoning": THOUGHTS, "calls": [command("touch started; sleep 30")]}, {"text": "Going on."}
    )
    run = codex.exec("Wait.", interrupt_when=(codex.work / "started").exists)
    assert run.code != 0
    assert codex.exec("resume", run.thread, "Go on.").answer == "Going on."
    earlier, later = backend.bodies()
    waited, result, *_ = added_messages(later, earlier)
    assert waited["reasoning_content"] == THOUGHTS
    assert "aborted by user" in text_of(result)


# -- kept waiting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["silence seconds=3", "keep-alive seconds=3 interval=0.3", "stall after=3 seconds=3"]
)
def test_silence(tmp_path: Path, start: Start, backend: Backend, fault: str) -> None:
    """Codex gives up a stream after a time without events, and does not count comments."""
    lively = start("lively", heartbeat_seconds=0.2, progress_seconds=0.4)
    backend.breaks(fault)
    impatient = {"model_providers.gateway.stream_idle_timeout_ms": 1500}
    run = Codex(tmp_path, lively).exec("Say hello", config=impatient)
    assert run.answer == "hello"
    assert run.retries == []
    assert len(backend.bodies()) == 1
