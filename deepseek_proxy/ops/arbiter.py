"""What gunicorn's arbiter, the process above the workers, does otherwise here.

1. The first Ctrl-C lets running answers finish, as SIGTERM does; a second one ends at once.
2. A worker that is told to stop can see whether the whole server ends or it alone is replaced.
3. SIGHUP tries the new code and settings in a process of its own first: a mistake changes nothing.
4. SIGHUP takes our own modules anew, here and in the new workers. (Libraries and Python: by a restart.)
5. The old workers are told to leave when the new ones are ready: no request waits for the change.
6. Workers that were replaced may take their time. They count no more, and nobody waits for them.
7. A configuration file that has another content counts as SIGHUP.

gunicorn lets nobody choose the arbiter's class, so methods of the one arbiter are replaced. Refuses to know
the application. gunicorn 25 to 27, `gunicorn.arbiter`.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from functools import partial
from typing import Any, Final

from deepseek_proxy.ops.metrics import MULTIPROCESS_VARIABLE
from deepseek_proxy.ops.watching import Watch

_PACKAGE: Final = __name__.partition(".")[0]


def adapt(server: Any, watch: Watch) -> None:
    """To be called by the hook `on_starting`."""
    server.watch = watch
    server.ending = mmap.mmap(-1, 1)  # one byte, seen by all workers
    server.replaced_age = 0  # workers up to this age were replaced
    _replace_methods(server)


def server_ends(server: Any) -> bool:
    """Whether the whole server was told to stop. For workers, who have the arbiter's memory from before."""
    return bool(server.ending[0])


def prepare_worker(worker: Any) -> None:
    """To be called by the hook `pre_fork`."""
    worker.ready = mmap.mmap(-1, 1)  # one byte, set by the worker
    worker.told_to_leave = False


def declare_ready(worker: Any) -> None:
    """To be called by the hook `post_worker_init`, in the worker."""
    worker.ready[0] = 1


def prepare_replacement(server: Any, watch: Watch) -> None:
    """To be called by the hook `on_reload`: the new settings are in effect, new workers come next."""
    server.watch = watch
    _replace_methods(server)  # by the new code
    server.replaced_age = server.worker_age
    server.graceful_seconds = server.cfg.graceful_timeout
    server.cfg.set("graceful_timeout", 0)  # so long would reload() wait for the old workers


def _replace_methods(server: Any) -> None:
    server.handle_int = server.handle_term
    server.handle_hup = partial(_reload, server)
    server.manage_workers = partial(_manage_workers, server)
    server.stop = partial(_stop, server)


def _stop(server: Any, graceful: bool = True) -> None:
    server.ending[0] = 1
    type(server).stop(server, graceful)


def _reload(server: Any) -> None:
    server.log.info("Reload: trying the new code and settings first")
    if not _is_sound():
        server.log.error("Not reloaded, for the reason above: the old code and settings stay in effect")
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
        del sys.modules[name]
    server.log = None  # made anew with the new settings
    server.reload()
    server.cfg.set("graceful_timeout", server.graceful_seconds)


def _is_sound() -> bool:
    """Whether a new server would start. Its complaints go to stderr, where a start's go."""
    unwanted = {MULTIPROCESS_VARIABLE}  # it would leave files among those of the workers
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    command = [sys.executable, "-m", "gunicorn", "--check-config", *sys.argv[1:]]
    # Not by `subprocess`: gevent's waits for the signal that gunicorn needs for its workers.
    pid = os.posix_spawn(sys.executable, command, environment)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _manage_workers(server: Any) -> None:
    """Gunicorn's own, which would take replaced workers for a full crew, or for a surplus to get rid of.

    Called about once a second.
    """
    if server.watch.changed():
        server.log.info("The configuration has changed")
        os.kill(os.getpid(), signal.SIGHUP)
    workers = list(server.WORKERS.values())
    replaced = [worker for worker in workers if worker.age <= server.replaced_age]
    if sum(worker.ready[0] for worker in workers if worker not in replaced) >= server.num_workers:
        for worker in replaced:
            if not worker.told_to_leave:
                worker.told_to_leave = True
                server.kill_worker(worker.pid, signal.SIGTERM)
    server._num_workers += len(replaced)
    try:
        type(server).manage_workers(server)
    finally:
        server._num_workers -= len(replaced)
