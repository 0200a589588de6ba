"""The sockets that systemd hands to a service (sd_listen_fds(3)).

gunicorn takes the sockets over by itself; the settings have to name their real address, so that the guard of
the gateway's own key sees it. Refuses to know what listens behind the sockets.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Final

from deepseek_proxy.settings import variables

_FIRST_DESCRIPTOR: Final = 3


def adopt() -> bool:
    """Makes settings of it, as environment variables; returns whether there are sockets.

    Of several sockets the most exposed one is the address. A Unix socket has none.
    """
    descriptors = _descriptors()
    addresses = [address for fd in descriptors if (address := _address(fd)) is not None]
    if addresses:
        host, port = min(addresses, key=lambda address: ipaddress.ip_address(address[0]).is_loopback)
        os.environ[variables("host")[0]] = host
        os.environ[variables("port")[0]] = str(port)
    return bool(descriptors)


def _descriptors() -> range:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):  # meant for another process
        return range(0)
    return range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(os.environ.get("LISTEN_FDS", "0")))


def _address(descriptor: int) -> tuple[str, int] | None:
    with socket.socket(fileno=os.dup(descriptor)) as listener:
        if listener.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        host, port, *_ = listener.getsockname()
        return host, port
