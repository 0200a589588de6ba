"""What the SDK tests offer the model: a tool, calls of it, a picture, a schema."""

from __future__ import annotations

from typing import Any, Final

MODEL: Final = "deepseek-flash"
WEATHER: Final[dict[str, Any]] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CALLS: Final = [
    {"name": "get_weather", "arguments": {"city": "Köln"}},
    {"name": "get_weather", "arguments": {"city": "北京"}},
]
PNG: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A picture of one pixel, in base64."""
PNG_URL: Final = f"data:image/png;base64,{PNG}"
TRIP_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "nights": {"type": "integer", "minimum": 2},
    },
    "required": ["city", "nights"],
    "additionalProperties": False,
}
