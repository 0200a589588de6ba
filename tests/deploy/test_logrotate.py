"""The logrotate file of deploy/, used by a real logrotate on the logs of a running gateway."""

from __future__ import annotations

import gzip
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson
import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import ROOT, Gateway
from harness.programs import program

SHIPPED: Final = ROOT / "deploy" / "logrotate" / "deepseek-proxy"
REQUESTS: Final = 10


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """As the file's comment says to set it."""
    upstream = FakeUpstream()
    upstream.serve(deepseek.answers())
    settings = {"log_dir": tmp_path / "log", "log_max_bytes": 1_000_000_000_000}
    runner = Gateway(tmp_path, upstream.url, workers=2, settings=settings)
    yield runner
    runner.stop()
    upstream.close()


def rotate(folder: Path) -> None:
    """Runs logrotate on the logs in `folder` as if a day had passed, where it is a second in truth."""
    shipped = SHIPPED.read_text()
    assert shipped.count("/var/log/deepseek-proxy/*.log {") == 1
    configuration = shipped.replace("/var/log/deepseek-proxy/*.log {", f"{folder}/log/*.log {{")
    configuration = configuration.replace("    dateext\n", "    dateext\n    dateformat -%s\n")
    (folder / "logrotate.conf").write_text(configuration)
    (folder / "logrotate.conf").chmod(0o644)
    command = [
        program("logrotate"),
        "--force",
        "--state",
        str(folder / "logrotate.state"),
        str(folder / "logrotate.conf"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def request_ids(path: Path) -> list[str]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = [orjson.loads(line) for line in text.splitlines()]
    return [line["request_id"] for line in lines if line["logger"] == "deepseek_proxy.requests"]


def wait_for_lines(path: Path) -> None:
    """The line of a request is written after its last byte."""
    deadline = time.monotonic() + 5
    while (not path.exists() or len(request_ids(path)) < REQUESTS) and time.monotonic() < deadline:
        time.sleep(0.02)


def test_no_line_is_lost_and_every_worker_goes_on_in_the_new_file(gateway: Gateway, tmp_path: Path) -> None:
    logs = tmp_path / "log"
    new = logs / "gateway.log"
    for batch in range(3):
        for number in range(REQUESTS):
            with gateway.ask(headers={"X-Request-ID": f"{batch}-{number}"}) as call:
                assert call.reply().body
        wait_for_lines(new)
        if batch < 2:
            rotate(tmp_path)
            time.sleep(1.1)

    older, old = sorted(logs.glob("gateway.log-*"))
    assert older.suffix == ".gz"
    for batch, path in enumerate((older, old, new)):
        assert sorted(request_ids(path)) == [f"{batch}-{number}" for number in range(REQUESTS)]
    assert new.stat().st_mode & 0o777 == 0o640
