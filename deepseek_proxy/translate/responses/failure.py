"""A whole stream that only says what failed before there was a response.

For clients that listen to errors inside a stream alone (`codex.as_stream_failure`).
"""

from __future__ import annotations

from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate.responses import parameters
from deepseek_proxy.translate.responses.options import StreamOptions
from deepseek_proxy.translate.responses.response import Envelope
from deepseek_proxy.translate.responses.stream import ResponseStream
from deepseek_proxy.translate.tools import ToolTable


def failed(error: ProxyError, response_id: str, now: int) -> bytes:
    """The stream's bytes; `now` is Unix time in seconds."""
    options = StreamOptions(
        tools=ToolTable(0),
        new_id=lambda prefix: prefix,
        seal=lambda _purpose, text: text,
        remember=lambda _call_id, _text: None,
        now=lambda: now,
    )
    nothing_asked = parameters.echo({}, "none", parallel=True)
    machine = ResponseStream(Envelope(response_id, now, "", nothing_asked), options)
    return machine.start() + machine.fail(error)
