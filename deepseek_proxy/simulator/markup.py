"""The model's own markup for tool calls, as it looks where the server does not turn it into calls.

That happens on the official service when a request declares no tools but its history makes the model call
one, and often on other hosts. Refuses to know when it is to happen. Source: prompts rendered by
`deepseek-recipe` 0.2.0, and public reports of leaks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from deepseek_proxy.simulator.turns import Call

# (what stands between tag and word, the word of the outermost element)
STYLES: Final = {"v4.1": (" ", " calls"), "v4": ("", "tool_calls")}
PIPE: Final = "｜"


def of_calls(calls: Sequence[Call], style: str, pipe: str = PIPE) -> str:
    """The calls in the markup of a model generation: `v4.1` (flash) or `v4` (pro)."""
    gap, outer = STYLES[style]
    tag = f"{pipe}DSML{pipe}"
    lines = [f"\n\n<{tag}{outer}>"]
    for call in calls:
        lines.append(f'<{tag}{gap}invoke name="{call.name}">')
        for name, value in _parameters(call.arguments).items():
            textual = isinstance(value, str)
            shown = value if textual else json.dumps(value, ensure_ascii=False)
            opening = f'<{tag}{gap}parameter name="{name}" string="{str(textual).lower()}">'
            lines.append(f"{opening}{shown}</{tag}{gap}parameter>")
        lines.append(f"</{tag}{gap}invoke>")
    lines.append(f"</{tag}{outer}>")
    return "\n".join(lines)


def _parameters(arguments: str) -> dict[str, object]:
    try:
        values = json.loads(arguments)
    except ValueError:
        values = None
    return values if isinstance(values, dict) else {"arguments": arguments}
