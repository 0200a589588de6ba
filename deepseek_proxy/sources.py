"""Where settings come from besides the environment: configuration files and systemd's credentials.

And how mistakes in them are told. Refuses to know which settings there are.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
"""systemd.exec(5), "Credentials": the folder with the service's own, one file each."""


Location = tuple[int | str, ...]


class SettingsError(Exception):
    """One or more settings are wrong; the message lists them all, a line each."""


def read_file(path: Path) -> dict[str, Any]:
    """The settings in a file: JSON where its name ends so, else TOML. Raises `SettingsError`."""
    try:
        text = path.expanduser().read_text("utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"{path}: the configuration file cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: must hold one object with the settings as its keys")
    return values


def credentials(names: Iterable[str]) -> dict[str, str]:
    """Those of systemd's credentials that have one of these names. Raises `SettingsError`."""
    folder = os.environ.get(CREDENTIALS_VARIABLE)
    if not folder:
        return {}
    found = {}
    for name in names:
        try:
            text = (Path(folder) / name).read_text("utf-8").strip()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SettingsError(f"{name}: systemd's credential cannot be read: {error.strerror}") from None
        except ValueError:
            raise SettingsError(f"{name}: systemd's credential is not text") from None
        if text:
            found[name] = text
    return found


def expanded(path: Path) -> Path:
    """`path` with a leading `~` or `$CREDENTIALS_DIRECTORY` replaced, as far as there is one."""
    folder = os.environ.get(CREDENTIALS_VARIABLE)
    if folder and path.parts[:1] == (f"${CREDENTIALS_VARIABLE}",):
        return Path(folder, *path.parts[1:])
    return path.expanduser()


def complaints(
    error: ValidationError, known: Callable[[Location], Iterable[str]], shown: Callable[[Location], str]
) -> Iterator[str]:
    """What is wrong, a line each, without the values.

    `known` says which names there could be in a place, `shown` how a place is written.
    """
    for detail in error.errors(include_url=False, include_input=False):
        location, text = detail["loc"], detail["msg"]
        if detail["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(location[-1]), known(location), 1)
            text = "no such setting" + (f"; did you mean {near[0]}?" if near else "")
        elif detail["type"] == "value_error":
            text = str(detail["ctx"]["error"])
        place = shown(location)
        for line in text.splitlines():
            # A list as a whole complains of one of its parts.
            yield f"{place}{line}" if line.startswith("[") else f"{place}: {line}" if place else line


def place_of(location: Location) -> str:
    """`keys[0].name`, of pydantic's `loc`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
