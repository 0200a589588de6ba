"""Sockets from systemd become settings."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[1]))
from deepseek_proxy.ops import activation
print(activation.adopt(), os.environ.get("DEEPSEEK_PROXY_HOST"), os.environ.get("DEEPSEEK_PROXY_PORT"))
"""
# The descriptors are those from 3 on, so the listeners are moved there in the new process.
MOVE = """
import os, sys
listeners = [int(fd) for fd in sys.argv[2].split(",") if fd]
high = [os.dup2(fd, 100 + n) for n, fd in enumerate(listeners)]
for n, fd in enumerate(high):
    os.dup2(fd, 3 + n)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[3], sys.argv[1]])
"""


def adopted(*listeners: socket.socket, other_process: bool = False) -> list[str]:
    """What a process says that gets these sockets as systemd passes them."""
    descriptors = ",".join(str(listener.fileno()) for listener in listeners)
    environment = {"PATH": os.environ["PATH"], "LISTEN_FDS": str(len(listeners))}
    done = subprocess.run(
        [sys.executable, "-c", MOVE, str(int(other_process)), descriptors, SCRIPT],
        env=environment,
        pass_fds=[listener.fileno() for listener in listeners],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return done.stdout.split()


def listening(host: str = "127.0.0.1", family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    listener = socket.socket(family)
    listener.bind((host, 0))
    return listener


def test_the_address_of_an_inherited_socket_is_adopted() -> None:
    with listening() as listener:
        assert adopted(listener) == ["True", "127.0.0.1", str(listener.getsockname()[1])]


def test_of_several_sockets_the_most_exposed_one_counts() -> None:
    with listening() as own, listening("0.0.0.0") as public:
        for order in ((own, public), (public, own)):
            assert adopted(*order) == ["True", "0.0.0.0", str(public.getsockname()[1])]


def test_an_ipv6_socket() -> None:
    try:
        listener = listening("::1", socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert adopted(listener) == ["True", "::1", str(listener.getsockname()[1])]


def test_a_unix_socket_has_no_address(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert adopted(listener) == ["True", "None", "None"]


def test_sockets_for_another_process_are_none_of_ours() -> None:
    with listening() as listener:
        assert adopted(listener, other_process=True) == ["False", "None", "None"]


def test_without_sockets_nothing_happens() -> None:
    assert adopted() == ["False", "None", "None"]
