"""Several serving processes on one socket, and one process beside them: started, watched, replaced, ended."""

import multiprocessing
import multiprocessing.connection
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from hounsfield.serving import process
from hounsfield.serving.process import Application

RESTART_SECONDS = 1.0
"""Pause before something that died is started again."""
BACKLOG = 2048
"""Connections the kernel holds for us."""
_NOBODY = 1 << 30  # connections of a process that is not there: nobody waits for it
_NAP_SECONDS = 0.5


def listen(host: str, port: int) -> socket.socket:
    """The socket all processes accept from. Raises OSError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in host:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class Supervisor:
    """Keeps ``workers`` serving processes and one ``companion`` running until SIGTERM or SIGINT comes."""

    def __init__(
        self,
        create: Callable[[], Application],
        host: str,
        port: int,
        workers: int,
        *,
        companion: Callable[[], None] | None,
        drain_seconds: float,
        report: Callable[[str], None],
    ) -> None:
        """``create`` makes the application, in each process; ``companion`` is what another one does until SIGTERM.

        The processes listen on ``host`` and ``port``, as :func:`listen` has them.
        ``report`` tells a person of what died.
        """
        # Forked where that is safe: what is loaded already is shared.
        self._context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._create = create
        self._address = (host, port)
        self._listener: socket.socket | None = None
        self._counts: Any = self._context.RawArray("i", [_NOBODY] * workers)
        self._drain_seconds = drain_seconds
        self._report = report
        self._workers: list[BaseProcess] = []
        self._companion_work = companion
        self._companion: BaseProcess | None = None
        self._stopping = False

    def run(self, ready: Callable[[], None]) -> None:
        """Start everything, call ``ready``, and return when all has ended. Raises OSError where nobody can listen."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        # Written to by the interpreter when a signal comes, as its handler alone would not end a wait.
        signalled, wake = socket.socketpair()
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        # Not before: whoever can connect can also stop us in good order.
        self._listener = listen(*self._address)
        self._companion = self._accompany()
        self._workers = [self._start(slot) for slot in range(len(self._counts))]
        ready()
        while not self._stopping:
            sentinels = [each.sentinel for each in self._all()]
            if signalled in multiprocessing.connection.wait([signalled, *sentinels]):
                signalled.recv(16)
            if not self._stopping:
                self._replace_dead()
        signal.set_wakeup_fd(-1)
        self._listener.close()
        self._end()

    def _all(self) -> list[BaseProcess]:
        return [*self._workers, *([] if self._companion is None else [self._companion])]

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self, slot: int) -> BaseProcess:
        arguments = (self._create, self._listener, self._counts, slot, self._drain_seconds)
        worker: BaseProcess = self._context.Process(target=process.serve, args=arguments, name=f"api-{slot}")
        return _begun(worker)

    def _accompany(self) -> BaseProcess | None:
        if self._companion_work is None:
            return None
        return _begun(
            self._context.Process(target=_accompany, args=(self._companion_work, self._listener), name="companion")
        )

    def _replace_dead(self) -> None:
        dead = [slot for slot, worker in enumerate(self._workers) if not worker.is_alive()]
        companion_died = self._companion is not None and not self._companion.is_alive()
        if not dead and not companion_died:
            return
        for slot in dead:
            self._counts[slot] = _NOBODY
            self._report("an API process ended unexpectedly and is started again.")
        if companion_died:
            self._report("the background process ended unexpectedly and is started again.")
        self._pause(RESTART_SECONDS)
        if self._stopping:
            return
        for slot in dead:
            self._workers[slot] = self._start(slot)
        if companion_died:
            self._companion = self._accompany()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _NAP_SECONDS))

    def _end(self) -> None:
        """End everything, by force what does not go in time."""
        processes = self._all()
        for each in processes:
            each.terminate()
        deadline = time.monotonic() + self._drain_seconds + 1
        for each in processes:
            each.join(max(0.0, deadline - time.monotonic()))
            if each.is_alive():
                each.kill()
                each.join()


def _begun(new: BaseProcess) -> BaseProcess:
    # The new process has our handler for a moment, which would do nothing there.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    new.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    return new


def _accompany(work: Callable[[], None], listener: socket.socket) -> None:
    """The whole life of a companion. SIGTERM ends it until it takes that itself; SIGINT does not."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    # Whoever accepts nothing is not to keep the port taken.
    listener.close()
    work()
