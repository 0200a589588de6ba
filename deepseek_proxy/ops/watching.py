"""Files of the configuration: noticing that one has another content.

Refuses to know what is in them, and what is done about it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from deepseek_proxy.settings import CONFIG_VARIABLE, Settings

_OWN_READERS: Final = frozenset({"keys_file"})
"""Files that whoever uses them looks after by themselves."""

_Stamp = tuple[int, int, int, int] | None


class Watch:
    """To be asked again and again, about once a second: looking costs one system call a file."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._stamps = self._look()
        self._content = self._read()
        self._unsettled = False

    def changed(self) -> bool:
        """Whether the files say something else than when this last was True, or at first.

        Not while somebody may still be writing: two looks have to find the same.
        """
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps, self._unsettled = stamps, True
            return False
        if not self._unsettled:
            return False
        self._unsettled = False
        before, self._content = self._content, self._read()
        return self._content != before

    def _look(self) -> list[_Stamp]:
        return [_stamp(path) for path in self._paths]

    def _read(self) -> bytes:
        digest = hashlib.sha256()
        for path in self._paths:
            try:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError:
                digest.update(b"none")
        return digest.digest()


def files_of(settings: Settings) -> tuple[Path, ...]:
    """The configuration file, and the files that its settings were read from."""
    config = os.environ.get(CONFIG_VARIABLE)
    return (*([Path(config).expanduser()] if config else []), *_named_files(settings))


def _named_files(values: BaseModel) -> Iterator[Path]:
    for name in type(values).model_fields:
        value = getattr(values, name)
        if isinstance(value, Path) and name.endswith("_file") and name not in _OWN_READERS:
            yield value
        for inner in value if isinstance(value, tuple) else ():
            if isinstance(inner, BaseModel):
                yield from _named_files(inner)


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size
