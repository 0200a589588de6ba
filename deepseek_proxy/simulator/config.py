"""What a simulator can be told when it is created.

Knows nothing of HTTP. The limits' defaults are DeepSeek's own (docs of Nov 2026); tests make them small.
"""

from __future__ import annotations

from dataclasses import dataclass

from deepseek_proxy import models


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """Settings of one simulator.

    `token_seconds` is the pause after each chunk of a stream; `chunk_characters` makes chunks of that many
    characters where None makes one of each token. `fault` applies to every answer, in the grammar of
    `faults.py`. `context_window` is in tokens. `max_concurrency` is the number of answers that one key may
    have under way; the next one is answered with 429. `max_recorded` bounds `GET /_simulator/requests`.
    `json_schema` accepts that response format, which DeepSeek's chat endpoint refuses (Nov 2026).
    """

    token_seconds: float = 0.0
    chunk_characters: int | None = None
    fault: str = ""
    context_window: int = models.FLASH.context_window
    max_concurrency: int | None = None
    max_recorded: int = 200
    json_schema: bool = False
    max_body_bytes: int = 48 * 1024 * 1024
