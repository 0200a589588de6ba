"""Which ledger the settings ask for, and that none is opened before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deepseek_proxy.settings import isolated
from deepseek_proxy.store.ledger.base import Hold, Ledger, LedgerUnavailable
from deepseek_proxy.store.ledger.memory import MemoryLedger
from deepseek_proxy.store.ledger.opening import Books, open_ledger
from deepseek_proxy.store.ledger.redis import RedisLedger
from deepseek_proxy.store.ledger.sqlite import SqliteLedger


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, SqliteLedger),
        ({"store_url": "off"}, SqliteLedger),
        ({"store_url": "memory:"}, MemoryLedger),
        ({"store_url": "redis://127.0.0.1:9/0"}, RedisLedger),
        ({"store_url": "unix:///nowhere/redis.sock"}, RedisLedger),
    ],
)
def test_the_ledger_is_where_the_settings_say(
    tmp_path: Path, settings: dict[str, Any], kind: type[Ledger]
) -> None:
    ledger = open_ledger(isolated(state_dir=tmp_path, **settings))
    assert isinstance(ledger, kind)
    ledger.close()


def test_it_is_opened_when_it_is_needed_once(tmp_path: Path) -> None:
    books = Books(isolated(state_dir=tmp_path))
    assert not list(tmp_path.iterdir())
    assert books.ledger is books.ledger
    assert books.holdings is books.holdings
    assert (tmp_path / "ledger.db").exists()
    books.close()


def test_what_is_held_is_given_back_at_the_end(tmp_path: Path) -> None:
    settings = isolated(state_dir=tmp_path)
    books, others = Books(settings), Books(settings)
    assert books.holdings.acquire([[Hold("one", 1)]]) is not None
    assert others.holdings.acquire([[Hold("one", 1)]]) is None
    books.close()
    assert others.ledger.held(["one"]) == {"one": 0}
    others.close()


def test_a_folder_that_cannot_be_written_is_said_when_it_matters(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    books = Books(isolated(state_dir=tmp_path / "file"))
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db\) cannot be used: ") as refusal:
        _ = books.ledger
    assert str(tmp_path) not in str(refusal.value), "a client is told where the gateway's files are"
    books.close()
