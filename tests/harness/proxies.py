"""Small proxies on loopback ports: HTTP (CONNECT, and whole requests), SOCKS4, SOCKS5 with a password.

They pass bytes on and count; `broken` makes them refuse. RFC 9110 section 9.3.6, RFC 1928, RFC 1929, and the
SOCKS4 note. Refuse to know what passes through them.
"""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
import struct
import threading
from typing import Final
from urllib.parse import urlsplit

USER: Final = "proxy-user"
PASSWORD: Final = "proxy p@ss:word canary"
SCHEMES: Final = ("http", "https", "socks4", "socks5", "socks5h")


class Refused(Exception):
    """What came is not what this proxy lets through."""


class TestProxy:
    """Listens on a port of its own; one thread for each connection.

    `targets` are the hosts and ports that were asked for, as they were asked for. `silent` makes it take
    connections and say nothing.
    """

    __test__ = False

    def __init__(self, scheme: str, *, tls: ssl.SSLContext | None = None, auth: bool = False) -> None:
        self.scheme = scheme
        self.tls = tls
        self.auth = auth
        self.broken = False
        self.silent = False
        self.targets: list[str] = []
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        password = "" if self.scheme == "socks4" else ":proxy%20p%40ss%3Aword%20canary"
        userinfo = f"{USER}{password}@" if self.auth else ""
        return f"{self.scheme}://{userinfo}127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def close(self) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        plain = client
        try:
            if self.broken:
                return
            while self.silent:
                if self._stopping.wait(0.02) or _is_at_end(client):
                    return
            if self.tls is not None:
                client = self.tls.wrap_socket(client, server_side=True)
            upstream, first = self._negotiate(client)
            with upstream:
                upstream.sendall(first)
                self._pass_on(client, upstream)
        except (OSError, Refused):
            pass
        finally:
            client.close()
            self._open.discard(plain)

    def _negotiate(self, client: socket.socket) -> tuple[socket.socket, bytes]:
        match self.scheme:
            case "socks4":
                return self._socks4(client), b""
            case "socks5" | "socks5h":
                return self._socks5(client), b""
            case _:
                return self._http(client)

    def _connect(self, host: str, port: int) -> socket.socket:
        self.targets.append(f"{host}:{port}")
        return socket.create_connection((host, port), 5)

    def _http(self, client: socket.socket) -> tuple[socket.socket, bytes]:
        head = b""
        while b"\r\n\r\n" not in head:
            head += _some(client)
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if self.auth:
            expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if headers.get("proxy-authorization") != f"Basic {expected}":
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                raise Refused
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            upstream = self._connect(host, int(port))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            return upstream, b""
        parts = urlsplit(target)
        assert parts.hostname
        upstream = self._connect(parts.hostname, parts.port or 80)
        path = target[len(f"{parts.scheme}://{parts.netloc}") :]
        return upstream, head.replace(target.encode(), path.encode(), 1)

    def _socks4(self, client: socket.socket) -> socket.socket:
        version, command, port, address = struct.unpack("!BBH4s", _exactly(client, 8))
        user = b""
        while not user.endswith(b"\0"):
            user += _exactly(client, 1)
        if (version, command) != (4, 1) or (self.auth and user[:-1].decode() != USER):
            client.sendall(struct.pack("!BBH4s", 0, 0x5D, 0, b"\0" * 4))
            raise Refused
        upstream = self._connect(socket.inet_ntoa(address), port)
        client.sendall(struct.pack("!BBH4s", 0, 0x5A, port, address))
        return upstream

    def _socks5(self, client: socket.socket) -> socket.socket:
        version, methods = struct.unpack("!BB", _exactly(client, 2))
        offered = _exactly(client, methods)
        wanted = 2 if self.auth else 0
        if version != 5 or wanted not in offered:
            client.sendall(b"\x05\xff")
            raise Refused
        client.sendall(bytes((5, wanted)))
        if self.auth:
            _exactly(client, 1)
            user = _exactly(client, _exactly(client, 1)[0])
            password = _exactly(client, _exactly(client, 1)[0])
            known = (user.decode(), password.decode()) == (USER, PASSWORD)
            client.sendall(b"\x01\x00" if known else b"\x01\x01")
            if not known:
                raise Refused
        _, _, _, kind = _exactly(client, 4)
        if kind == 1:
            host = socket.inet_ntoa(_exactly(client, 4))
        else:
            host = _exactly(client, _exactly(client, 1)[0]).decode()
        (port,) = struct.unpack("!H", _exactly(client, 2))
        upstream = self._connect(host, port)
        client.sendall(b"\x05\x00\x00\x01" + b"\0" * 6)
        return upstream

    def _pass_on(self, client: socket.socket, upstream: socket.socket) -> None:
        while not self._stopping.is_set():
            ready = [client] if isinstance(client, ssl.SSLSocket) and client.pending() else []
            if not ready:
                ready, _, _ = select.select([client, upstream], [], [], 0.02)
            for source in ready:
                received = source.recv(65536)
                if not received:
                    return
                (upstream if source is client else client).sendall(received)


def _some(client: socket.socket) -> bytes:
    if not (received := client.recv(65536)):
        raise Refused
    return received


def _exactly(client: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        if not (more := client.recv(size - len(received))):
            raise Refused
        received += more
    return received


def _is_at_end(client: socket.socket) -> bool:
    client.settimeout(0)
    try:
        return not client.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        client.settimeout(None)
