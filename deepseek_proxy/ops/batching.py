"""Log lines written several at a time.

The line of one request costs a lock, two looks at the file and a write, and would be waited for by the next
request on the same connection. Lines that nobody waits for are kept for a moment and written together.

Refuses to know what a line says.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Set
from typing import Final

DELAY_SECONDS: Final = 0.1
MAX_WAITING: Final = 50


class BatchingHandler(logging.Handler):
    """Writes through `target`, one line a record, formatted by this handler's own formatter.

    Records of the `patient` loggers wait for others, for `DELAY_SECONDS` at most. Any other record, and a
    warning of theirs, is written at once, with all that waits: what is bad must not be lost with the process.
    The filters of `target` see every record, when it is written.
    """

    def __init__(self, target: logging.Handler, patient: Set[str]) -> None:
        super().__init__()
        self._target = target
        self._target.setFormatter(logging.Formatter("%(message)s"))
        self._patient = patient
        self._waiting: list[logging.LogRecord] = []
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self._waiting.append(record)
        waits = record.name in self._patient and record.levelno < logging.WARNING
        if not waits or len(self._waiting) >= MAX_WAITING:
            self.flush()
        elif self._timer is None:
            self._timer = threading.Timer(DELAY_SECONDS, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def flush(self) -> None:
        """Writes what waits."""
        self.acquire()
        try:
            records, self._waiting = self._waiting, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if lines := [line for record in records if (line := self._line(record)) is not None]:
                self._target.emit(logging.makeLogRecord({"msg": "\n".join(lines)}))
        finally:
            self.release()

    def close(self) -> None:
        self.flush()
        self._target.close()
        super().close()

    def _line(self, record: logging.LogRecord) -> str | None:
        try:
            return self.format(record) if self._target.filter(record) else None
        except Exception:
            self.handleError(record)
            return None
