"""The requests: a small one, and a conversation of a coding agent that has grown to a given size."""

from __future__ import annotations

import json
import random
from typing import Any, Final

MODEL: Final = "deepseek-flash"
WORDS: Final = (
    "def return self import request response stream buffer class assert handler upstream event delta tool "
    'call path line test build index value "quoted" café 中文 ✓ 0 1 { } [ ] ( ) == // \\n'
).split()
TOOL: Final = {
    "type": "function",
    "name": "shell",
    "description": "Runs a shell command and returns its output.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"cmd": {"type": "string", "description": "The command."}},
        "required": ["cmd"],
        "additionalProperties": False,
    },
}


def responses_body(size: int, *, store: bool = False) -> bytes:
    """The JSON of a streamed `POST /v1/responses` of about `size` bytes, the same every time."""
    chance = random.Random(size)
    items: list[dict[str, Any]] = [_message("user", "input_text", "Please write a function.")]
    held = 0
    while held < size:
        turn = _turn(chance, len(items))
        held += len(json.dumps(turn, ensure_ascii=False).encode())
        items += turn
    body = {
        "model": MODEL,
        "stream": True,
        "store": store,
        "instructions": "You are a coding agent.",
        "input": items,
        "tools": [TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _turn(chance: random.Random, number: int) -> list[dict[str, Any]]:
    """Three calls with their thinking and results, an answer, and the next question."""
    items: list[dict[str, Any]] = []
    for part in range(3):
        call_id = f"call_{number:06}_{part}"
        thought = {"type": "summary_text", "text": _text(chance, 600)}
        command = json.dumps({"cmd": _text(chance, 120)}, ensure_ascii=False)
        items += [
            {"type": "reasoning", "id": f"rs_{number}_{part}", "summary": [thought]},
            {"type": "function_call", "call_id": call_id, "name": "shell", "arguments": command},
            {
                "type": "function_call_output",
                "call_id": call_id,
                "output": _text(chance, chance.choice((800, 3000, 9000))),
            },
        ]
    return [
        *items,
        _message("assistant", "output_text", _text(chance, 200)),
        _message("user", "input_text", _text(chance, 300)),
    ]


def _message(role: str, kind: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def _text(chance: random.Random, length: int) -> str:
    return " ".join(chance.choices(WORDS, k=length // 6))
