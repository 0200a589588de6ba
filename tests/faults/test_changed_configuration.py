"""A configuration file that changes under a gateway with several workers: nothing is cut, mistakes change
nothing, and a key that was revoked is one no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import OWN_KEY, Gateway
from harness.halves import Halves
from harness.responses import read_stream
from harness.waiting import wait_for

from deepseek_proxy import keyfile
from deepseek_proxy.credentials import ClientKey

pytestmark = pytest.mark.faults

ALICE = "the-key-of-alice-canary"
BOB = "the-key-of-bob-canary-1"
CAROL = "the-key-of-carol-canary"
SECONDS = 60


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    server.serve(deepseek.answers())
    yield server
    server.close()
    assert server.failures == []


class Configured:
    """A gateway of two workers with a configuration file, and a file of keys."""

    def __init__(self, folder: Path, upstream: FakeUpstream) -> None:
        self.config = folder / "config.json"
        self.keys = folder / "keys.json"
        self.write([ALICE])
        settings = {"config": self.config, "keys_file": self.keys}
        self.gateway = Gateway(folder, upstream.url, workers=2, settings=settings)

    def write(self, keys: Any) -> None:
        self.config.write_text(json.dumps({"keys": keys}))

    def status(self, key: str) -> int:
        with self.gateway.ask({"Authorization": f"Bearer {key}"}) as call:
            return call.reply().status

    def statuses(self, key: str) -> set[int]:
        """Of several connections, which more than one worker takes."""
        return {self.status(key) for _ in range(8)}

    def becomes(self, key: str, status: int) -> None:
        wait_for(lambda: self.statuses(key) == {status}, SECONDS, every=0.2)


@pytest.fixture
def configured(tmp_path: Path, upstream: FakeUpstream) -> Iterator[Configured]:
    configured = Configured(tmp_path, upstream)
    yield configured
    configured.gateway.stop()
    for key in (ALICE, BOB, CAROL, OWN_KEY):
        assert key not in configured.gateway.log


def test_a_new_configuration_is_taken_and_no_stream_is_cut(
    configured: Configured, upstream: FakeUpstream
) -> None:
    halves = Halves()
    upstream.serve(halves, deepseek.answers())
    with configured.gateway.ask({"Authorization": f"Bearer {ALICE}"}) as call:
        reply = call.reply()
        assert reply.status == 200
        configured.write([BOB])
        configured.becomes(BOB, 200)
        configured.becomes(ALICE, 401)
        halves.curtain.set()
        told = read_stream(reply)
    assert (told.final["status"], told.text) == ("completed", "Hello")


def test_a_mistake_changes_nothing_and_is_told(configured: Configured) -> None:
    configured.write([{"key": ALICE, "budget": 1}, "short"])
    wait_for(lambda: "Not reloaded" in configured.gateway.log, SECONDS)
    assert "keys[0].budget: no such setting; did you mean budget_per_day?" in configured.gateway.log
    assert "keys[1].key: " in configured.gateway.log
    assert configured.statuses(ALICE) == {200}
    assert configured.gateway.log.count("Not reloaded") == 1
    configured.write([BOB])
    configured.becomes(BOB, 200)


def test_keys_of_the_file_come_and_go_in_every_worker(configured: Configured) -> None:
    workers = set(configured.gateway.worker_pids())
    carol = ClientKey.model_validate({"key": CAROL, "name": "carol"})
    assert configured.statuses(CAROL) == {401}
    keyfile.change(configured.keys, lambda known: [*known, carol])
    configured.becomes(CAROL, 200)
    keyfile.change(configured.keys, lambda known: [])
    configured.becomes(CAROL, 401)
    assert configured.statuses(ALICE) == {200}
    assert set(configured.gateway.worker_pids()) == workers
