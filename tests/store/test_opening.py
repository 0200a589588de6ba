"""The store that the settings ask for."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.sealing import Sealer
from deepseek_proxy.settings import Settings, SettingsError, isolated
from deepseek_proxy.store.opening import open_reasoning, open_store
from deepseek_proxy.store.reasoning import Reasoning, ReasoningCache, SharedReasoning
from deepseek_proxy.store.store import Store


def backend_of(store: Store | None) -> str:
    assert store is not None
    try:
        assert store.usage().responses == 0
        return store.backend.name
    finally:
        store.close()


def test_nothing_is_kept_where_that_is_wanted(tmp_path: Path) -> None:
    assert open_store(isolated(state_dir=tmp_path, store_url="off")) is None
    assert list(tmp_path.iterdir()) == []


def test_by_default_it_is_a_file_in_the_state_folder_for_nobody_else_to_read(tmp_path: Path) -> None:
    assert backend_of(open_store(isolated(state_dir=tmp_path / "state"))) == "sqlite"
    (file,) = (tmp_path / "state").glob("store.db")
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


def test_the_file_may_be_elsewhere(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/other/responses.db"
    assert backend_of(open_store(isolated(state_dir=tmp_path, store_url=url))) == "sqlite"
    assert (tmp_path / "other" / "responses.db").exists()


def test_nothing_is_made_before_it_is_used(tmp_path: Path) -> None:
    store = open_store(isolated(state_dir=tmp_path))
    assert store is not None
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_memory_is_a_store(tmp_path: Path) -> None:
    assert backend_of(open_store(isolated(state_dir=tmp_path, store_url="memory:"))) == "memory"


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A folder that even root cannot make."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "state"


def test_machines_share_a_redis(tmp_path: Path, redis_url: str) -> None:
    assert backend_of(open_store(isolated(state_dir=tmp_path, store_url=redis_url, workers=2))) == "redis"


def test_a_redis_that_is_down_is_no_reason_not_to_start(tmp_path: Path) -> None:
    store = open_store(isolated(state_dir=tmp_path, store_url="redis://:secret@127.0.0.1:9/0"))
    assert store is not None
    with pytest.raises(StoreUnavailable):
        store.usage()
    store.close()


def test_a_wrong_redis_url_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="store_url") as refusal:
        open_store(isolated(state_dir=tmp_path, store_url="redis://user:secret@host?socket_timeout=secret"))
    assert "secret" not in str(refusal.value)


def test_without_a_place_for_it_nothing_is_kept_and_that_is_said(
    nowhere: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert open_store(isolated(state_dir=nowhere)) is None
    assert "not stored" in caplog.text


def test_a_place_that_was_asked_for_has_to_be_there(nowhere: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be written to"):
        open_store(isolated(state_dir=nowhere, store_url="sqlite:"))


def test_a_function_that_comes_and_goes_keeps_nothing_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERCEL", "1")
    assert open_store(Settings(state_dir=tmp_path)) is None


def reasoning_of(tmp_path: Path, **settings: object) -> Reasoning:
    chosen = isolated(state_dir=tmp_path, **settings)
    return open_reasoning(chosen, open_store(chosen), Sealer([bytes(32)]))


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"workers": 1}, ReasoningCache),
        ({"workers": 2}, SharedReasoning),
        ({"workers": 1, "store_url": "redis://127.0.0.1:9/0"}, SharedReasoning),
        ({"workers": 2, "reasoning_cache_bytes": 0}, ReasoningCache),
        ({"workers": 2, "store_url": "off"}, ReasoningCache),
    ],
)
def test_thinking_is_shared_where_there_is_somebody_to_share_it_with(
    tmp_path: Path, settings: dict[str, object], kind: type
) -> None:
    assert type(reasoning_of(tmp_path, **settings)) is kind


def test_several_workers_that_share_nothing_know_nothing(tmp_path: Path) -> None:
    reasoning = reasoning_of(tmp_path, workers=2, store_url="off")
    reasoning.remember("tenant", "call_1", "hm")
    assert reasoning.recall("tenant", "call_1") is None
