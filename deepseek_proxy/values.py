"""Types of single settings: durations, sizes, paths, lists as the environment holds them, origins, stores.

Refuses to know which settings there are, and whether two of them fit together (`consistency`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from deepseek_proxy.sources import expanded

ANY_ORIGIN: Final = "*"

SQLITE: Final = "sqlite:"
REDIS_URLS: Final = ("redis://", "rediss://", "unix://")
IN_MEMORY: Final = "memory:"
NO_STORE: Final = "off"
"""What a `StoreUrl` begins with, or is."""

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d+)?|https?://\[[0-9a-f:.]+\](:\d+)?")  # as browsers write it


def listed(value: Any) -> Any:
    """A list as the environment holds one: JSON, or words with commas between."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith(("[", "{")):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("not JSON") from None


def text_in(path: Any) -> str | None:
    """What a file holds, without the white space around it; None where a `TextFile` would be refused."""
    try:
        return expanded(Path(path)).read_text("utf-8").strip()
    except (OSError, ValueError, TypeError):
        return None


def readable(path: Path) -> Path:
    """`path`. Raises `ValueError` where there is no text file that can be read."""
    try:
        path.read_text("utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{path} is not a text file") from None
    return path


def _are_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if origin != ANY_ORIGIN and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin} is no origin, such as https://app.example, and not {ANY_ORIGIN}")
    return origins


def _is_a_store(url: SecretStr) -> SecretStr:
    """`url`, which may hold a password and is not shown."""
    text = url.get_secret_value()
    if text not in (IN_MEMORY, NO_STORE) and not text.startswith((SQLITE, *REDIS_URLS)):
        known = ", ".join((SQLITE, *REDIS_URLS, IN_MEMORY, NO_STORE))
        raise ValueError(f"begins with none of {known}")
    try:
        urlsplit(text).port  # noqa: B018  # raises where there is a port that is none
    except ValueError:
        raise ValueError("this is no URL of a Redis") from None
    return url


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0)]
Host = Annotated[str, AfterValidator(lambda host: host.strip("[]"))]
"""Without the brackets with which URLs write addresses."""
FilePath = Annotated[Path, AfterValidator(expanded)]
TextFile = Annotated[FilePath, AfterValidator(readable)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed), AfterValidator(_are_origins)]
StoreUrl = Annotated[SecretStr, AfterValidator(_is_a_store)]
