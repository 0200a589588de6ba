"""Codex as most people use it: in a terminal."""

from __future__ import annotations

from e2e.backend import Backend, results, text_of, tool_names
from e2e.codex import Codex
from e2e.terminal import ENTER, ESCAPE

NAMING = "User prompt:\nWhat is six by seven?"  # how Codex asks for the thread's title
SLOW_SECONDS = 0.15
LONG = " ".join(f"word{number}" for number in range(100))


def test_a_thread(codex: Codex, backend: Backend) -> None:
    """Thinking is seen while it happens, then a command, then the answer; an answer can be stopped."""
    calculate = {"name": "exec_command", "arguments": {"cmd": "echo $((6*7))"}}
    backend.says(
        {"match": NAMING, "text": '{"title": "Six by seven"}'},
        {
            "match": "six by seven",
            "reasoning": f"**Asking the shell first of all**\n\nI need a calculator, {LONG[:100]}",
            "text": "I will look.",
            "calls": [calculate],
            "token_seconds": SLOW_SECONDS,
        },
        {"match": "six by seven", "text": "It is **42**."},
        {"match": "Talk", "text": LONG, "token_seconds": SLOW_SECONDS},
        {"match": "Go on", "text": "Going on."},
    )
    with codex.tui("What is six by seven?") as terminal:
        terminal.wait_for("Asking the shell")
        assert "I will look." not in terminal.wait_for("I need a calculator")
        ran = "Ran echo $((6*7))\n  └ 42\n"
        screen = terminal.wait_for("I will look.", ran, "It is 42.", "DeepSeek V4.1 Flash")
        assert "Model metadata" not in screen
        terminal.wait(lambda _: terminal.title.startswith("Six by seven"))

        terminal.type("Talk")
        terminal.wait_for("› Talk")
        terminal.type(ENTER)
        terminal.wait_for("word3")
        terminal.type(ESCAPE)
        assert "word50" not in terminal.wait_for("Conversation interrupted")

        terminal.type("Go on")
        terminal.wait_for("› Go on")
        terminal.type(ENTER)
        terminal.wait_for("Going on.")
    records = backend.records()
    (naming,) = [
        record["body"] for record in records if text_of(record["body"]["messages"][-1]).endswith(NAMING)
    ]
    assert naming["thinking"] == {"type": "disabled"}
    assert tool_names(naming) == []
    asked, calculated, stopped, gone_on = [record for record in records if record["body"] is not naming]
    assert results(calculated["body"])[0].endswith("42\n")
    assert (stopped["outcome"], gone_on["outcome"]) == ("client gone", "complete")
    *_, talk, aborted, go_on = gone_on["body"]["messages"]
    assert [text_of(talk), text_of(go_on)] == ["Talk", "Go on"]
    assert text_of(aborted).startswith("<turn_aborted>")
    assert gone_on["body"]["messages"][: len(asked["body"]["messages"])] == asked["body"]["messages"]
