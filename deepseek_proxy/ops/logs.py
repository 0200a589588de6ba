"""Structured logs: one JSON object a line, in rotating files, on stderr, or both.

`gateway.log` holds the application's lines, one for each request at its end and gunicorn's error log;
`access.log` holds gunicorn's access log. All workers write to the same files: a file lock is held for
each write and each rotation, so that none is lost. A terminal gets the same records as plain sentences.
The fields are listed in `docs/logs.md`.

Refuses to know Flask, gunicorn and what a request means.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from concurrent_log_handler import ConcurrentRotatingFileHandler
from pythonjsonlogger.orjson import OrjsonFormatter

from deepseek_proxy.ops.batching import BatchingHandler
from deepseek_proxy.ops.record import RequestRecord
from deepseek_proxy.ops.redaction import Redactor, secrets_of
from deepseek_proxy.settings import Settings, SettingsError
from deepseek_proxy.translate import jsontext

GATEWAY_FILE: Final = "gateway.log"
ACCESS_FILE: Final = "access.log"
PACKAGE_LOGGER: Final = "deepseek_proxy"
REQUEST_LOGGER: Final = "deepseek_proxy.requests"
ACCESS_LOGGER: Final = "gunicorn.access"
ERROR_LOGGER: Final = "gunicorn.error"
BODY_LOGGER: Final = "deepseek_proxy.bodies"
MAX_BODY_BYTES: Final = 64 * 1024
"""So much of a body is logged; of a long conversation that is its beginning."""

_HANDLER_PREFIX: Final = "deepseek_proxy:"  # by this name `close` knows the handlers that are ours
_FILE_MODE: Final = 0o640
_NEVER: Final = logging.CRITICAL + 1
_request_log = logging.getLogger(REQUEST_LOGGER)
_body_log = logging.getLogger(BODY_LOGGER)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def configure(settings: Settings, secrets: Iterable[str] = ()) -> None:
    """Sends this process's logs where `settings` say; a second call replaces the first.

    `secrets` are exact values to mask besides those in the settings (a key read from a file). Raises
    `SettingsError` when `log_dir` cannot be written.
    """
    close()
    _displace_vercel()
    redactor = Redactor({*secrets_of(settings), *secrets}, exception_messages=settings.log_bodies)
    shared: list[logging.Handler] = []
    if _wants_stderr(settings, sys.stderr):
        shared.append(_stderr_handler(sys.stderr))
    application, access = [*shared], [*shared]
    if settings.log_dir is not None:
        _check_folder(settings.log_dir)
        application.append(_file_handler(settings, settings.log_dir / GATEWAY_FILE, redactor))
        access.append(_file_handler(settings, settings.log_dir / ACCESS_FILE, redactor))
    for handler in shared:
        handler.addFilter(redactor)

    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    # Libraries below us speak up only when something is wrong.
    _install(logging.getLogger(), max(level, logging.WARNING), application)
    _install(logging.getLogger(ACCESS_LOGGER), logging.INFO, access)
    logging.getLogger(ACCESS_LOGGER).propagate = False
    logging.getLogger(PACKAGE_LOGGER).setLevel(level)
    logging.getLogger(ERROR_LOGGER).setLevel(level)
    # Whoever asks for bodies gets them at any `log_level`; nobody else gets one at any.
    _body_log.setLevel(logging.DEBUG if settings.log_bodies else _NEVER)


def _displace_vercel() -> None:
    """Takes the handler away that Vercel's runtime puts on the root logger (vercel-runtime 0.24).

    It would write every record a second time, unmasked. What ours write to stderr, Vercel collects as well.
    """
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if type(handler).__name__ == "VCLogHandler"]:
        root.removeHandler(handler)


def close() -> None:
    """Takes away what `configure` installed, and closes the files."""
    for log in (logging.getLogger(), logging.getLogger(ACCESS_LOGGER)):
        for handler in [h for h in log.handlers if (h.name or "").startswith(_HANDLER_PREFIX)]:
            log.removeHandler(handler)
            handler.close()


def log_request(record: RequestRecord) -> None:
    """Writes the one line of a request that has ended."""
    level = logging.WARNING if record.failed else logging.INFO
    # The sentence is a value, not a format: a path may hold a percent sign.
    _request_log.log(level, "%s", record.summary(), extra=record.line())


def log_body(request_id: str, kind: Literal["upstream_request", "response"], body: bytes | Any) -> None:
    """Writes one body, as JSON text or as the value that it stands for: only where `log_bodies` is set.

    A body holds a prompt or an answer. Keys in it are masked as everywhere; the rest is as it is.
    """
    if not _body_log.isEnabledFor(logging.DEBUG):
        return
    text = body if isinstance(body, bytes) else jsontext.dumps(body)
    fields = {
        "request_id": request_id,
        "body_bytes": len(text),
        "body": text[:MAX_BODY_BYTES].decode("utf-8", "replace"),
    }
    _body_log.debug("%s body", kind, extra=fields)


class JsonFormatter(OrjsonFormatter):
    """One record as one line of JSON: time, level, logger, pid, message, then the record's own fields."""

    def __init__(self) -> None:
        super().__init__(
            ["asctime", "levelname", "name", "process", "message"],
            rename_fields={
                "asctime": "time",
                "levelname": "level",
                "name": "logger",
                "process": "pid",
                "exc_info": "exception",
                "stack_info": "stack",
            },
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """RFC 3339 in UTC with milliseconds."""
        moment = datetime.fromtimestamp(record.created, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        log_data["level"] = log_data["level"].lower()
        log_data["message"] = _COLOURS.sub("", log_data["message"])
        return log_data

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        try:
            return super().jsonify_log_record(log_data)
        except TypeError:  # a lone surrogate, or an integer beyond 64 bits: the line is kept, escaped
            return json.dumps(log_data, default=str, separators=(",", ":"))


class TerminalFormatter(logging.Formatter):
    """One record as one line for a person: local time, level, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone()
        line = f"{moment:%H:%M:%S} {record.levelname.lower():<7} {_printable(record.getMessage())}"
        fields = _fields(record)
        if record.name == REQUEST_LOGGER:  # its sentence says what its fields say
            names = {"request_id"} if record.levelno >= logging.WARNING else set()
            fields = [(name, value) for name, value in fields if name in names]
        line += "".join(f" {name}={_printable(str(value))}" for name, value in fields)
        for more in (record.exc_text, record.stack_info):
            if more:
                line += "".join(f"\n    {_printable(part)}" for part in more.splitlines())
        return line


_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def _fields(record: logging.LogRecord) -> list[tuple[str, Any]]:
    return [(k, v) for k, v in record.__dict__.items() if k not in _STANDARD and not k.startswith("_")]


def _printable(text: str) -> str:
    """`text` without anything that could move a terminal's cursor or fake a line."""
    plain = _COLOURS.sub("", text)
    return plain if plain.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in plain)


def _wants_stderr(settings: Settings, stream: TextIO | None) -> bool:
    if stream is None or settings.log_stderr == "never":
        return False
    if settings.log_stderr == "always" or settings.log_dir is None:
        return True
    return stream.isatty() or _is_journal(stream)


def _is_journal(stream: TextIO) -> bool:
    """systemd.exec(5): JOURNAL_STREAM holds device and inode of the stream, and outlives redirections."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _stderr_handler(stream: TextIO) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.name = _HANDLER_PREFIX + "stderr"
    handler.setFormatter(TerminalFormatter() if stream.isatty() else JsonFormatter())
    return handler


def _file_handler(settings: Settings, path: Path, redactor: Redactor) -> logging.Handler:
    file = ConcurrentRotatingFileHandler(
        path,
        maxBytes=settings.log_max_bytes,
        backupCount=settings.log_backups,
        encoding="utf-8",
        chmod=_FILE_MODE,
    )
    file.addFilter(redactor)
    handler = BatchingHandler(file, patient={REQUEST_LOGGER, ACCESS_LOGGER})
    handler.name = _HANDLER_PREFIX + path.name
    handler.setFormatter(JsonFormatter())
    return handler


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"log_dir: {folder} cannot be created ({error.strerror})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(f"log_dir: {folder} cannot be written by this user")


def _install(log: logging.Logger, level: int, handlers: list[logging.Handler]) -> None:
    log.setLevel(level)
    if not handlers:  # else Python would print warnings by itself, unmasked
        handlers = [logging.NullHandler()]
        handlers[0].name = _HANDLER_PREFIX + "null"
    for handler in handlers:
        log.addHandler(handler)
