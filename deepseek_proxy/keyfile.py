"""The file of clients' keys that `deepseek-proxy keys` writes: JSON, `{"keys": [{name, key_sha256, …}]}`.

A change is a new file in place of the old one, so a reader has one or the other; writers take turns. Only
digests are written. Refuses to know who reads it, and when.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from deepseek_proxy.credentials import ClientKey, distinct_keys
from deepseek_proxy.sources import complaints, expanded, place_of

MAX_BYTES: Final = 16 * 1024 * 1024
_MODE: Final = 0o600

Keys = tuple[ClientKey, ...]


class KeyFileError(ValueError):
    """The file cannot be used; the message says all that is wrong, a line each."""


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: Keys = ()


def _usable(path: Path) -> Path:
    read(path)
    return path


def read(path: Path) -> Keys:
    """The keys in the file, none where there is no file. Raises `KeyFileError`."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    if len(text) > MAX_BYTES:
        raise KeyFileError(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        return distinct_keys(_Content.model_validate(json.loads(text)).keys)
    except ValidationError as error:
        wrong = complaints(error, lambda _: ClientKey.model_fields, place_of)
        raise KeyFileError("\n".join(f"{path}: {line}" for line in wrong)) from None
    except ValueError as error:  # no JSON, no text, or two of the same
        raise KeyFileError(f"{path}: {error}") from None


def change(path: Path, changed: Callable[[Keys], Sequence[ClientKey]]) -> None:
    """Writes `changed(keys)` in place of the keys that are there. Raises `KeyFileError` or `OSError`.

    The file is readable by its owner alone. Written by root, it belongs to whom it belonged to before, or to
    whom its folder belongs: the server that reads it is somebody else.
    """
    path = path.resolve()  # a link stays one
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path.parent):
        keys = distinct_keys(tuple(changed(read(path))))
        entries = [_entry(key) for key in keys]
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"keys": entries}, file, indent=2, ensure_ascii=False)
                file.write("\n")
                file.flush()
                os.fchmod(file.fileno(), _MODE)
                _give_to_its_owner(file.fileno(), path)
                os.fsync(file.fileno())
            os.replace(draft, path)  # rename(2), by name
        except BaseException:
            os.unlink(draft)
            raise


def _entry(key: ClientKey) -> dict[str, Any]:
    said = key.model_dump(mode="json", exclude_defaults=True, exclude={"key", "key_file"})
    return {"name": key.name, **said, "key_sha256": key.digest}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits for other writers. The lock is on the folder: the file is another one after each change."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)  # the new name, too, is on the disk
    finally:
        os.close(descriptor)


def _give_to_its_owner(descriptor: int, path: Path) -> None:
    if os.geteuid() == 0:
        like = (path if path.exists() else path.parent).stat()
        os.fchown(descriptor, like.st_uid, like.st_gid)


KeysFile = Annotated[Path, AfterValidator(expanded), AfterValidator(_usable)]
"""The path of such a file, which may be missing."""
