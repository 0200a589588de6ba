"""Ten thousand requests over eight accounts, with everything going wrong that can.

Through real gunicorn with two workers, one of which is killed on the way. Who is over a limit is seen at the
upstream; what is left behind, in the ledger.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest
from harness.accounts import account
from harness.crowd import Crowd, Faults, Upstream
from harness.gateway import Gateway

from deepseek_proxy.store.ledger.sqlite import SqliteLedger

REQUESTS = 10_000
USERS = 120
LIMIT = 3
NAMES = "abcdefgh"
REFUSED = {"g": (150, 401), "h": (250, 402)}
LONGEST_SECONDS = 30


@pytest.mark.timeout(300)
def test_ten_thousand_requests_lose_no_lease_and_pass_no_limit(tmp_path: Path) -> None:
    began = time.monotonic()
    upstream, crowd, gateway = asyncio.run(_play(tmp_path))
    print(f"{time.monotonic() - began:.1f} s, longest {crowd.longest:.1f} s, {dict(crowd.outcomes)}")
    ledger = SqliteLedger(tmp_path / "state" / "ledger.db")
    try:
        holds = [f"account:{name}" for name in NAMES]
        until = time.monotonic() + 25  # the dead worker's come back by themselves
        while any(ledger.held(holds).values()):
            assert time.monotonic() < until, f"leases were lost: {ledger.held(holds)}"
            time.sleep(0.1)
        assert not any(ledger.waiting(holds).values())
    finally:
        ledger.close()
    gateway.stop()

    assert max(upstream.most.values()) == LIMIT, "no account over its limit at any moment, and not below"
    assert crowd.outcomes.total() == REQUESTS
    assert crowd.longest < LONGEST_SECONDS, "nobody starves"
    refusals = crowd.outcomes.total() - sum(
        crowd.outcomes[o] for o in ("answered", "left", "failed", "broken")
    )
    assert crowd.outcomes["answered"] > 0.9 * REQUESTS
    assert refusals < 0.01 * REQUESTS, "another account is tried before the client notices"
    assert crowd.outcomes["broken"] <= 2 * USERS, "what the killed worker had, and no more"
    for name, (answered, _) in REFUSED.items():
        assert upstream.asked[name] <= answered + 10 * LIMIT, (
            "a refused account is soon let be by all workers"
        )
    fair = sum(upstream.answered[name] for name in "abcdef") / 6
    assert all(fair / 2 < upstream.answered[name] < fair * 2 for name in "abcdef")


async def _play(folder: Path) -> tuple[Upstream, Crowd, Gateway]:
    upstream = Upstream(Faults(refused=REFUSED), seconds=(0.01, 0.03))
    await upstream.start()
    accounts = [account(name, max_concurrency=LIMIT) for name in NAMES]
    gateway = await asyncio.to_thread(
        Gateway,
        folder,
        f"http://127.0.0.1:{upstream.port}",
        workers=2,
        settings={"accounts": json.dumps(accounts), "log_level": "error"},
    )
    try:
        crowd = Crowd(gateway.port, REQUESTS, USERS)
        coming = asyncio.create_task(crowd.come())
        while crowd.begun < 0.4 * REQUESTS and not coming.done():
            await asyncio.sleep(0.02)
        os.kill(gateway.worker_pids()[0], signal.SIGKILL)
        await coming
    except BaseException:
        gateway.process.kill()
        gateway.process.wait()
        raise
    finally:
        await upstream.stop()
    return upstream, crowd, gateway
