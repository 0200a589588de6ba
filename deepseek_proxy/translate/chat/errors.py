"""Failures inside a Chat Completions stream.

After the first byte there is no status any more: OpenAI's SDKs raise what a frame has under `error`. Nothing
follows it, not even `[DONE]`: a client that overlooks the error must not take the answer for a whole one.
"""

from __future__ import annotations

from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate import jsontext, openai_errors


def frame(error: ProxyError) -> bytes:
    return b"data: %b\n\n" % jsontext.dumps(openai_errors.http_body(error))
