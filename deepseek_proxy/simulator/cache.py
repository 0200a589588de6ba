"""DeepSeek's context cache: which part of a prompt was there before.

Renders a request the way its prompt is laid out (effort and tools in the head, then the messages in order)
and remembers the prefixes of earlier prompts and answers, in blocks of 64 tokens. A byte that changes near
the front loses everything behind it, as it does live. Refuses to know prices and requests' validity.
Layout: DeepSeek's context-cache page (docs of Nov 2026), and prompts rendered by `deepseek-recipe` 0.2.0.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from deepseek_proxy.simulator import tokens
from deepseek_proxy.simulator.request import ChatRequest, image_count, text_of

BLOCK_TOKENS: Final = 64
_BLOCK_BYTES: Final = BLOCK_TOKENS * tokens.BYTES_PER_TOKEN
MAX_BLOCKS: Final = 200_000
IMAGE_TOKENS: Final = 1024


def render(request: ChatRequest) -> bytes:
    """The request's prompt, up to where the model begins to write."""
    return b"".join(_parts(request))


def render_answer(message: Mapping[str, Any]) -> bytes:
    """How an assistant message stands in the prompt of the next turn."""
    return _assistant(message, reasoned=True)


def _parts(request: ChatRequest) -> Iterator[bytes]:
    mode = request.effort if request.thinking else "off"
    yield f"<effort {mode}>".encode()
    messages = list(request.messages)
    systems = [message for message in messages if message["role"] == "system"]
    hoisted = systems if not request.model.vision else systems[:1] if messages[0]["role"] == "system" else []
    for message in hoisted:
        yield text_of(message).encode()
    for tool in request.tools:
        yield b"\n" + orjson.dumps(tool)
    if request.json_mode:
        yield orjson.dumps(request.body["response_format"])
    # Thinking of turns before the last user message only stays when there are tools.
    tail = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
    for i, message in enumerate(messages):
        if any(message is other for other in hoisted):
            continue
        if message["role"] == "assistant":
            yield _assistant(message, reasoned=bool(request.tools) or i > tail)
        else:
            yield f"<{message['role']}>{text_of(message)}".encode()
            if request.model.vision:
                yield b"\0" * (image_count(message) * IMAGE_TOKENS * tokens.BYTES_PER_TOKEN)


def _assistant(message: Mapping[str, Any], *, reasoned: bool) -> bytes:
    reasoning = (message.get("reasoning_content") or "") if reasoned else ""
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    shown = "".join(f"<call {call['name']}>{call['arguments']}" for call in calls)
    return f"<assistant>{reasoning}</think>{text_of(message)}{shown}".encode()


class PrefixCache:
    """The prefixes seen so far, of every key and `user_id` apart. Safe to use from several threads."""

    def __init__(self, max_blocks: int = MAX_BLOCKS) -> None:
        self._blocks: OrderedDict[bytes, None] = OrderedDict()
        self._max = max_blocks
        self._lock = threading.Lock()

    def hit_tokens(self, request: ChatRequest, prompt: bytes) -> int:
        """How many tokens at the front of `prompt` were seen before; never all of them."""
        hits = 0
        with self._lock:
            for digest in _digests(request, prompt[:-1]):
                if digest not in self._blocks:
                    break
                self._blocks.move_to_end(digest)
                hits += 1
        return hits * BLOCK_TOKENS

    def remember(self, request: ChatRequest, prompt: bytes) -> None:
        """Keeps every whole block of `prompt` (and of the answer, where that was added to it)."""
        with self._lock:
            for digest in _digests(request, prompt):
                self._blocks[digest] = None
                self._blocks.move_to_end(digest)
            while len(self._blocks) > self._max:
                self._blocks.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._blocks.clear()


def _digests(request: ChatRequest, prompt: bytes) -> Iterator[bytes]:
    """One digest for each whole block, which stands for everything up to its end."""
    partition = f"{request.key}\0{request.body.get('user_id')}\0{request.model.id}"
    running = hashlib.blake2b(partition.encode(), digest_size=16)
    for start in range(0, len(prompt) - _BLOCK_BYTES + 1, _BLOCK_BYTES):
        running.update(prompt[start : start + _BLOCK_BYTES])
        yield running.digest()
