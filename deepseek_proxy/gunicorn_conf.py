"""gunicorn's configuration: gevent workers that hold thousands of slow streams each.

Its first act is gevent's monkey patch: ssl and everything built on it must not be imported before. Settings
and sealing key are read before a port is open, so that a mistake ends the server there. Refuses to know the
application beyond its name. Settings and hooks: gunicorn 25 to 27, "Settings".
"""
# ruff: noqa: E402

from gevent import monkey

monkey.patch_all()

import gc
import math
import os
import resource
import shutil
import signal
import sys
import textwrap
from functools import partial
from typing import Any, NoReturn

from deepseek_proxy.ops import activation, arbiter, metrics, watching
from deepseek_proxy.ops.lifecycle import LAST_WORDS_SECONDS
from deepseek_proxy.sealing import load_or_create_keys
from deepseek_proxy.settings import SettingsError, load
from deepseek_proxy.store import opening


def _refuse(error: SettingsError) -> NoReturn:
    sys.stderr.write(f"Error: these settings cannot be used:\n{textwrap.indent(str(error), '  ')}\n")
    sys.exit(2)


activation.adopt()
try:
    _settings = load()
except SettingsError as _error:
    _refuse(_error)


def application() -> Any:
    """In a worker: the application with the settings that the arbiter has read, and found good.

    A worker may begin at any time, in place of one that died: what the file says then is for a reload.
    """
    from deepseek_proxy.app import create_app  # not before: it belongs to the worker

    return create_app(_settings)


wsgi_app = f"{application.__module__}:{application.__name__}()"
proc_name = "deepseek-proxy"
bind = (
    f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
)
backlog = 2048

worker_class = "deepseek_proxy.ops.gunicorn_worker.Worker"
workers = _settings.workers
worker_connections = 20_000  # streams of one worker; one waits for minutes and costs next to nothing
preload_app = False  # pools, caches and greenlets belong to one process
# A gevent worker beats every second: this much silence is a hang, however long the answers are.
timeout = 60
# max_requests stays off: a recycled worker takes nothing new until its last stream has ended.

# Streams end by themselves after drain_seconds; a worker cuts what is left a little later, and the arbiter
# kills the worker that has not ended by then: one that was killed runs no `finally`, and logs no request.
_WORKER_GRACE_SECONDS = _settings.drain_seconds + LAST_WORDS_SECONDS
_KILL_AFTER_SECONDS = 5
graceful_timeout = _WORKER_GRACE_SECONDS + _KILL_AFTER_SECONDS
# Longer than the pools of the usual clients keep an idle connection (5 s), so that the client closes it first
# and never sends a request into a closed one.
keepalive = 10

limit_request_line = 8190
limit_request_field_size = 32_768  # bearer tokens and Codex's metadata headers are long

control_socket_disable = True  # no second way in
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108  # the beat must not wait for a disk

logger_class = "deepseek_proxy.ops.gunicorn_logger.GunicornLogger"
loglevel = _settings.log_level


def on_starting(server: Any) -> None:
    """Prepares what workers share: sealing key, limit of open files, a folder in which metrics add up."""
    try:
        load_or_create_keys(_settings)
        opening.check_place(_settings)  # else each worker finds out, with the port open
    except SettingsError as error:
        _refuse(error)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * worker_connections  # two for each stream, and room
    lifted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lifted, most))
    server.metrics_folder = metrics.prepare_folder(worker_tmp_dir)
    arbiter.adapt(server, watching.Watch(watching.files_of(_settings)))


def when_ready(server: Any) -> None:
    # The arbiter has its handlers now; `deepseek-proxy serve` has kept Ctrl-C back until then.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def on_reload(server: Any) -> None:
    arbiter.prepare_replacement(server, watching.Watch(watching.files_of(_settings)))


def pre_fork(server: Any, worker: Any) -> None:
    arbiter.prepare_worker(worker)


def post_fork(server: Any, worker: Any) -> None:
    worker.cfg.set("graceful_timeout", _WORKER_GRACE_SECONDS)
    worker.server_ends = partial(arbiter.server_ends, server)
    worker.replaced_seconds = math.ceil(_settings.total_seconds)  # by then each answer has ended by itself


def post_worker_init(worker: Any) -> None:
    arbiter.declare_ready(worker)
    # A terminal sends Ctrl-C to the workers too; only the arbiter's word counts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What exists now lives as long as the worker: leave it out of every later collection.
    gc.collect()
    gc.freeze()


def child_exit(server: Any, worker: Any) -> None:
    metrics.mark_dead(worker.pid)


def on_exit(server: Any) -> None:
    if server.metrics_folder is not None:
        shutil.rmtree(server.metrics_folder, ignore_errors=True)
