"""By what a conversation is known again, so that it can go where its beginning is in DeepSeek's cache.

The cache matches whole prefixes, and a conversation keeps its own from turn to turn: what stands before the
first answer names it. Refuses to know accounts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from deepseek_proxy.translate import jsontext

_DIGEST_BYTES = 12


def affinity(upstream: Mapping[str, Any], cache_key: str | None = None) -> str | None:
    """A short name of the conversation that `upstream`, the request to DeepSeek, belongs to.

    `cache_key` is the client's own name for it (`prompt_cache_key`). Without one, all up to the first user
    message names it, the model included: each has a cache of its own. None where there are no messages.
    """
    messages = upstream.get("messages", ())
    if not (messages or cache_key):
        return None
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    digest.update(f"{upstream.get('model')}\0".encode())
    if cache_key:
        digest.update(b"key\0" + cache_key.encode("utf-8", "surrogatepass"))
    else:
        for message in messages:
            digest.update(jsontext.dumps(message))
            if message.get("role") == "user":
                break
    return digest.hexdigest()
