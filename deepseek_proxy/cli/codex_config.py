"""What Codex's `config.toml` must say to use a gateway, and how an existing file is changed to say it.

Comments, order and everything else in the file stay as they are (tomlkit). Logins (`auth.json`) are never
touched. Source: Codex CLI 0.118 to 0.169, `config.toml`.
"""

from __future__ import annotations

import difflib
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError

PROVIDER: Final = "deepseek"
PROVIDER_NAME: Final = "DeepSeek"  # never "OpenAI": that name makes Codex ask for things of OpenAI's own
KEY_VARIABLE: Final = "DEEPSEEK_API_KEY"
PLACEHOLDER_KEY: Final = "gateway"  # the gateway takes it for "use your own" (api.auth)
EFFORTS: Final = ("none", "low", "high", "max")
BACKUP_SUFFIX: Final = ".before-deepseek-proxy"
CATALOGUE_FILE: Final = "deepseek-proxy-models.json"


class ConfigError(Exception):
    """The file cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration shall say. `base_url` ends in `/v1`."""

    base_url: str
    model: str
    effort: str
    gateway_has_key: bool
    web_search: bool
    gateway_key: str = PLACEHOLDER_KEY
    """What Codex sends where `gateway_has_key`."""
    websockets: bool = False
    catalogue: Path | None = None
    """A file that holds the model list, for a Codex that does not ask for it (`codex_installed`)."""

    @property
    def top_level(self) -> Mapping[str, Any]:
        values = {"model": self.model, "model_provider": PROVIDER, "model_reasoning_effort": self.effort}
        if self.catalogue is not None:
            values["model_catalog_json"] = str(self.catalogue)
        if not self.web_search:
            values["web_search"] = "disabled"  # Codex offers it to every provider unless told not to
        return values

    @property
    def provider(self) -> Mapping[str, Any]:
        values: dict[str, Any] = {
            "name": PROVIDER_NAME,
            "base_url": self.base_url,
            "wire_api": "responses",
            "model_catalog_url": f"{self.base_url}/models",
            "supports_websockets": self.websockets,
        }
        if self.gateway_has_key:
            # Without a key of the provider's, Codex does not ask for the catalogue; a header is none.
            values["experimental_bearer_token"] = self.gateway_key
        else:
            values["env_key"] = KEY_VARIABLE
        return values

    def as_overrides(self) -> list[str]:
        """The same as options of one `codex` command: `-c key=value`, where a value is TOML."""
        pairs = dict(self.top_level) | {
            f"model_providers.{PROVIDER}.{k}": v for k, v in self.provider.items()
        }
        settings = [f"{key}={tomlkit.item(value).as_string()}" for key, value in pairs.items()]
        return [part for setting in settings for part in ("-c", setting)]


def changed(text: str, wanted: Wanted) -> str:
    """`text` with what is `wanted`. Raises `ConfigError` for what is no TOML."""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise ConfigError(f"it is not valid TOML ({error}); mend it first") from None
    for key, value in wanted.top_level.items():
        document[key] = value
    providers = document.setdefault("model_providers", tomlkit.table(is_super_table=True))
    if not isinstance(providers, dict):
        raise ConfigError("'model_providers' is not a table; mend it first")
    provider = tomlkit.table()
    provider.update(wanted.provider)
    providers[PROVIDER] = provider
    return tomlkit.dumps(document)


def diff(path: Path, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), str(path), str(path)
    )
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def read(path: Path) -> str:
    """The file's text, empty where there is none."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def backup_of(path: Path) -> Path:
    return path.with_name(path.name + BACKUP_SUFFIX)


def catalogue_beside(path: Path) -> Path:
    """Where the model list is kept, if it is."""
    return path.absolute().with_name(CATALOGUE_FILE)


def write(path: Path, text: str) -> None:
    """Puts `text` in place in one step, with the mode of the file that was there, 0600 for a new one."""
    path = path.resolve()  # a link stays a link
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(draft, mode)
            os.replace(draft, path)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def keep_backup(path: Path, before: str) -> Path:
    """Keeps what the file said before our first change; later changes leave that backup alone.

    An empty backup stands for a file that was not there.
    """
    backup = backup_of(path)
    if not backup.exists():
        write(backup, before)
    return backup


def restore(path: Path) -> None:
    """Puts the backup back in place, and removes it and the model list."""
    backup = backup_of(path)
    text = read(backup)
    if text:
        write(path, text)
    else:
        path.unlink(missing_ok=True)
    backup.unlink()
    catalogue_beside(path).unlink(missing_ok=True)
