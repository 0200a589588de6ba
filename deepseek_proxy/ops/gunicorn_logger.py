"""gunicorn's error and access log in the form, and in the files, of all other lines.

Named as `logger_class` in gunicorn's configuration; gunicorn's own options for logs (`accesslog`,
`errorlog`, formats, `loglevel`) have no effect then. Query strings and headers are left out; the request
id is the response's `X-Request-ID`.

Refuses to know the application; imported only by gunicorn.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from deepseek_proxy import settings as settings_module
from deepseek_proxy.ops import logs

MAX_USER_AGENT_CHARACTERS = 200


class GunicornLogger(Logger):
    """Reads the settings as the application does, from the environment and its configuration file."""

    def setup(self, cfg: Any) -> None:
        """Called by gunicorn at its start and on each reload, before the application is imported."""
        self.cfg = cfg
        try:
            logs.configure(settings_module.load())
        except settings_module.SettingsError as error:
            raise RuntimeError(str(error)) from None  # gunicorn prints these and stops
        self.loglevel = self.error_log.getEffectiveLevel()
        self.error_log.propagate = True  # the handlers are the root logger's

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """A client that stalled (`client_stall_seconds`) is nobody's bug: a line, not a traceback."""
        if isinstance(sys.exception(), TimeoutError):
            self.error_log.warning("A client took nothing for too long and lost its connection.")
        else:
            super().exception(msg, *args, **kwargs)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Called by a worker after each response."""
        headers = {name.lower(): value for name, value in resp.headers}
        method, path = environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", "")
        status = int(str(resp.status).split(None, 1)[0])
        fields = {
            "request_id": headers.get("x-request-id"),
            "client": environ.get("REMOTE_ADDR") or None,
            "method": method,
            "path": path,
            "status": status,
            "sent_bytes": getattr(resp, "sent", None),
            "duration_seconds": round(request_time.total_seconds(), 4),
            "user_agent": environ.get("HTTP_USER_AGENT", "")[:MAX_USER_AGENT_CHARACTERS] or None,
        }
        present = {name: value for name, value in fields.items() if value is not None}
        self.access_log.info("%s %s %s", method, path, status, extra=present)
