"""What a process and its children use: CPU time, memory, context switches. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu_seconds` is user and system time together; `system_share` is known to a hundredth of a second."""

    cpu_seconds: float
    system_share: float
    switches: int
    idle_kb: int
    peak_kb: int


class Meter:
    """Follows a tree of processes until `result()`; `sample()` notes the memory in between."""

    def __init__(self, root: int) -> None:
        self._pids = tuple(_tree(root))
        self._cpu = self._cpu_ns()
        self._ticks = self._user_and_system()
        self._switches = self._switched()
        self._idle_kb = self._peak_kb = self._memory_kb()

    def sample(self) -> None:
        self._peak_kb = max(self._peak_kb, self._memory_kb())

    def result(self) -> Usage:
        self.sample()
        user, system = (
            after - before for before, after in zip(self._ticks, self._user_and_system(), strict=True)
        )
        return Usage(
            cpu_seconds=(self._cpu_ns() - self._cpu) / 1e9,
            system_share=system / (user + system) if user + system else 0,
            switches=self._switched() - self._switches,
            idle_kb=self._idle_kb,
            peak_kb=self._peak_kb,
        )

    def _cpu_ns(self) -> int:
        return sum(map(cpu_ns, self._pids))

    def _user_and_system(self) -> tuple[int, int]:
        columns = [_read(pid, "stat").rpartition(")")[2].split() for pid in self._pids]
        return sum(int(fields[11]) for fields in columns), sum(int(fields[12]) for fields in columns)

    def _switched(self) -> int:
        return sum(
            int(line.split()[1])
            for pid in self._pids
            for line in _read(pid, "status").splitlines()
            if "ctxt_switches" in line
        )

    def _memory_kb(self) -> int:
        """Resident memory; what processes of the tree share counts for each."""
        lines = (line for pid in self._pids for line in _read(pid, "status").splitlines())
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def cpu_ns(pid: int) -> int:
    """The CPU time of a process, ended threads included, from the kernel's own clock of it."""
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        raise ProcessLookupError(f"process {pid} has ended")
    return time.clock_gettime_ns(clock.value)


def _tree(root: int) -> Iterator[int]:
    yield root
    with contextlib.suppress(FileNotFoundError):
        for child in Path(f"/proc/{root}/task/{root}/children").read_text().split():
            yield from _tree(int(child))


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
