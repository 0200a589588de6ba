"""Clients from npm: installed by name, once for the checkout, into `.cache/e2e/` (which git ignores).

Several test processes may ask at once; one installs, the others wait. Without npm, or where its registry
cannot be reached, the test is skipped and says so. Refuses to know what the packages are for.
"""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path
from typing import Final

import pytest
from harness.programs import program

CACHE: Final = Path(__file__).parents[2] / ".cache" / "e2e"
INSTALL_SECONDS: Final = 600
OPENAI: Final = ("openai", "7.55.0")


def installed(package: str, version: str) -> Path:
    """The `node_modules` folder that holds this version of the package."""
    program("node")
    program("npm")
    CACHE.mkdir(parents=True, exist_ok=True)
    name = f"{package.rpartition('/')[2]}-{version}"
    done = CACHE / name / ".installed"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _install(f"{package}@{version}", done.parent)
            done.touch()
    return done.parent / "node_modules"


def _install(specification: str, folder: Path) -> None:
    problem = _npm("view", "--fetch-retries=0", specification, "version")
    if problem is not None:
        assert "E404" not in problem, f"the npm registry does not know {specification}"
        pytest.skip(f"the npm registry, which has {specification}, cannot be reached: {problem}")
    options = ["--no-audit", "--no-fund", "--no-save", "--prefix", str(folder)]
    failed = _npm("install", *options, specification)
    assert failed is None, f"npm does not install {specification}: {failed}"


def _npm(*arguments: str) -> str | None:
    """None if npm succeeds, else the beginning of what it says."""
    ended = subprocess.run(
        ["npm", "--loglevel=error", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    return (ended.stderr or ended.stdout)[:300] or "no words" if ended.returncode else None
