"""The clients that the gateway knows, by their keys. Refuses to know requests, and what a client may do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from deepseek_proxy.credentials import ClientKey, digest_of


class Keyring:
    """`closed` says that only its clients are let in, be there any or not."""

    def __init__(self, keys: Iterable[ClientKey], *, closed: bool) -> None:
        self.closed: Final = closed
        self._by_digest = {key.digest: key for key in keys}

    def find(self, key: str) -> ClientKey | None:
        """The client whose key this is.

        What is compared are digests: how long that takes tells nothing of the keys that are known.
        """
        return self._by_digest.get(digest_of(key))
