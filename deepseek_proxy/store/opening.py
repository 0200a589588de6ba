"""The store that the settings ask for. Refuses to know what is kept in it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from deepseek_proxy.settings import Settings, SettingsError
from deepseek_proxy.store.base import Backend, Limits, Watcher
from deepseek_proxy.store.memory import MemoryBackend
from deepseek_proxy.store.reasoning import Reasoning, ReasoningCache, Seal, SharedReasoning
from deepseek_proxy.store.sqlite import SqliteBackend
from deepseek_proxy.store.store import Store
from deepseek_proxy.values import IN_MEMORY, NO_STORE, SQLITE

SQLITE_FILE: Final = "store.db"
"""Its name in `state_dir`."""

logger = logging.getLogger(__name__)


def open_store(settings: Settings, watcher: Watcher | None = None) -> Store | None:
    """None where nothing is kept: `store_url` is `off`, or not set and there is no place that lasts.

    Raises `SettingsError` where what `store_url` names cannot be used here. A store that fails is no reason
    not to start: it may come back.
    """
    url = settings.store_url.get_secret_value() if settings.store_url is not None else _default(settings)
    if url == NO_STORE:
        return None
    check_place(settings)
    backend = _backend(url, settings, watcher)
    return Store(
        backend,
        ttl_days=settings.store_ttl_days,
        max_items_bytes=settings.max_body_bytes,
        watcher=watcher,
    )


def check_place(settings: Settings) -> None:
    """Raises `SettingsError` where the file that `store_url` names cannot be made. Opens nothing."""
    url = settings.store_url.get_secret_value() if settings.store_url is not None else ""
    if url.startswith(SQLITE):
        path = _file(url, settings)
        if not _is_writable(path.parent):
            raise SettingsError(f"store_url: {path} cannot be made: {path.parent} cannot be written to")


def open_reasoning(settings: Settings, store: Store | None, sealer: Seal) -> Reasoning:
    """Of this worker, or of all of them by way of the store. Several that share nothing have none: what one
    knows and the next does not would change the bytes of the prompt from turn to turn."""
    alone = settings.workers == 1 and (store is None or store.backend.name != "redis")
    own = ReasoningCache(settings.reasoning_cache_bytes if alone or store is not None else 0)
    if alone or store is None or settings.reasoning_cache_bytes == 0:
        return own
    return SharedReasoning(own, store, sealer)


def _default(settings: Settings) -> str:
    if settings.serverless:
        return NO_STORE
    if not _is_writable(settings.state_dir):
        logger.warning("responses are not stored: %s cannot be written to", settings.state_dir)
        return NO_STORE
    return SQLITE


def _backend(url: str, settings: Settings, watcher: Watcher | None) -> Backend:
    limits = Limits(settings.store_owner_max_bytes, settings.store_max_bytes)
    if url.startswith(SQLITE):
        return SqliteBackend(_file(url, settings), limits, watcher=watcher)
    if url == IN_MEMORY:
        return MemoryBackend(limits)
    from deepseek_proxy.store.redis import RedisBackend  # a large package, where it is used

    try:
        return RedisBackend(url, limits, watcher=watcher)
    except ValueError as error:
        raise SettingsError(f"store_url: {error}") from None


def _file(url: str, settings: Settings) -> Path:
    return Path(url.removeprefix(SQLITE) or settings.state_dir / SQLITE_FILE).expanduser()


def _is_writable(folder: Path) -> bool:
    """Whether files can be made there, the folder itself included."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
