"""The store that the settings ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepseek_proxy.settings import SettingsError, isolated
from deepseek_proxy.store.opening import open_store


def test_nothing_is_kept_where_that_is_wanted(tmp_path: Path) -> None:
    assert open_store(isolated(state_dir=tmp_path, store_url="off")) is None
    assert list(tmp_path.iterdir()) == []


def test_memory_is_a_store(tmp_path: Path) -> None:
    store = open_store(isolated(state_dir=tmp_path, store_url="memory:"))
    assert store is not None
    assert store.usage().responses == 0


def test_a_url_that_means_nothing_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="store_url") as refusal:
        open_store(isolated(state_dir=tmp_path, store_url="mysql://user:secret@host"))
    assert "secret" not in str(refusal.value)
