"""The clients that the gateway knows, by their keys: those of the settings, and those of a file.

The file is looked at when a key is asked for, no more than once a second: a new key is known then, and a
revoked one is not, without a restart and in every worker. A file that cannot be used changes nothing. Refuses
to know requests, and what a client may do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from deepseek_proxy import keyfile
from deepseek_proxy.credentials import ClientKey, digest_of, distinct_keys

LOOK_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int] | None


class Keyring:
    """`keys` are those of the settings. Without them and without a `file` everybody is let in."""

    def __init__(self, keys: Iterable[ClientKey], file: Path | None = None) -> None:
        self._own = tuple(keys)
        self._file = file
        self.closed: Final = bool(self._own) or file is not None
        self._by_digest = {key.digest: key for key in self._own}
        self._stamp: _Stamp = None
        self._next_look = 0.0

    def find(self, key: str) -> ClientKey | None:
        """The client whose key this is.

        What is compared are digests: how long that takes tells nothing of the keys that are known.
        """
        if self._file is not None and time.monotonic() >= self._next_look:
            self._look(self._file)
        return self._by_digest.get(digest_of(key))

    def _look(self, file: Path) -> None:
        self._next_look = time.monotonic() + LOOK_SECONDS
        try:
            stamp = _stamp(file)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            known = distinct_keys((*self._own, *keyfile.read(file)))
        except (ValueError, OSError) as error:  # one that cannot be read, or two keys that are the same
            logger.error("The keys in %s are not used, and those from before still are: %s", file, error)
            return
        self._by_digest = {key.digest: key for key in known}


def _stamp(file: Path) -> _Stamp:
    """What is another after every change; None where there is no file."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns, status.st_size
