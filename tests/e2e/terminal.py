"""A program in a terminal of its own: what its user types and sees.

pyte keeps the screen and answers what a program asks of a terminal, but for the colours, which are answered
here. Refuses to know which program it is.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import pyte

COLUMNS: Final = 100
LINES: Final = 40
SECONDS: Final = 20
ENTER: Final = "\r"
ESCAPE: Final = "\x1b"

# OSC 10 and 11: "which colour is the text, which is the background?"
_COLOUR_QUERY: Final = re.compile(rb"\x1b\](10|11);\?(?:\x07|\x1b\\)")
_COLOURS: Final = {b"10": b"ffff/ffff/ffff", b"11": b"0000/0000/0000"}


class Terminal:
    """Runs `command` until the block ends. Whoever looks at the screen has read what came so far."""

    def __init__(self, command: Sequence[str | Path], folder: Path, variables: Mapping[str, str]) -> None:
        self._keyboard, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._screen.write_process_input = lambda data: self._send(data.encode())
        self._stream = pyte.ByteStream(self._screen)
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**variables, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self._keyboard)

    @property
    def screen(self) -> str:
        """What the user sees, without the blanks at the ends of lines."""
        self._read()
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def title(self) -> str:
        """What the program wrote into the window's title, without the wheel that turns in front of it."""
        self._read()
        return self._screen.title.lstrip("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")

    def type(self, text: str) -> None:
        self._send(text.encode())

    def wait(self, condition: Callable[[str], Any]) -> str:
        """The screen, once it is as it should be."""
        deadline = time.monotonic() + SECONDS
        while not condition(screen := self.screen):
            assert time.monotonic() < deadline, f"it stays like this:\n{screen}"
            assert self.process.poll() is None, f"it ended like this:\n{screen}"
            select.select([self._keyboard], [], [], 0.05)
        return screen

    def wait_for(self, *texts: str) -> str:
        """The screen, once all of it is there: a program may draw it in several strokes."""
        return self.wait(lambda screen: all(text in screen for text in texts))

    def wait_for_end(self) -> int:
        """The exit code, once there is one."""
        deadline = time.monotonic() + SECONDS
        while (code := self.process.poll()) is None:
            assert time.monotonic() < deadline, f"it goes on like this:\n{self.screen}"
            self._read()
            time.sleep(0.05)
        return code

    def _send(self, data: bytes) -> None:
        os.write(self._keyboard, data)

    def _read(self) -> None:
        """Takes all that the program has written."""
        while select.select([self._keyboard], [], [], 0)[0]:
            try:
                data = os.read(self._keyboard, 65536)
            except OSError:  # nobody is at the other end any more
                return
            for name in _COLOUR_QUERY.findall(data):
                self._send(b"\x1b]%b;rgb:%b\x1b\\" % (name, _COLOURS[name]))
            self._stream.feed(data)
