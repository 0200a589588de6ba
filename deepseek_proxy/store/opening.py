"""The store that the settings ask for. Refuses to know what is kept in it."""

from __future__ import annotations

from deepseek_proxy.settings import Settings, SettingsError
from deepseek_proxy.store.base import Backend, Limits
from deepseek_proxy.store.memory import MemoryBackend
from deepseek_proxy.store.store import Store


def open_store(settings: Settings) -> Store | None:
    """None where nothing shall be kept. Raises `SettingsError` where `store_url` names nothing usable."""
    url = settings.store_url.get_secret_value() if settings.store_url is not None else "memory:"
    if url == "off":
        return None
    limits = Limits(settings.store_owner_max_bytes, settings.store_max_bytes)
    return Store(_backend(url, settings, limits), ttl_days=settings.store_ttl_days)


def _backend(url: str, settings: Settings, limits: Limits) -> Backend:
    if url == "memory:":
        return MemoryBackend(limits)
    raise SettingsError("store_url: begins with none of memory:, off")
