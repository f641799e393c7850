"""Threads for jobs that wait for a disk, cheaper a job than ``concurrent.futures``.

Every stored instance passes here twice. Python's own pool makes two futures, a condition and a chain of callbacks for
each job: measured, a tenth of the processor time of storing a 512 KB instance.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[..., Any], tuple[object, ...]]


class Threads:
    """Up to ``count`` threads, started when needed, that take jobs in the order given.

    ``for_readers``: a job that nobody waits for any more when its turn comes is passed over.
    """

    def __init__(self, count: int, name: str, *, for_readers: bool = False) -> None:
        self._count = count
        self._name = name
        self._for_readers = for_readers
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._under_way = 0
        self._closed = False

    def run(self, job: Callable[..., Result], *arguments: object) -> "asyncio.Future[Result]":
        """Have ``job`` done. It goes on even if nobody waits for what is returned; but see ``for_readers``."""
        if self._closed:
            raise RuntimeError(f"The threads '{self._name}' have been stopped.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._under_way += 1
        if len(self._threads) < min(self._under_way, self._count):
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put((loop, future, job, arguments))
        return future

    def close(self) -> None:
        """Wait for all jobs given so far and stop the threads."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            loop, future, job, arguments = item
            result, error = None, None
            try:
                if not (self._for_readers and future.cancelled()):
                    result = job(*arguments)
            except BaseException as raised:
                error = raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._resolve, future, result, error)
            # Nothing of a job may outlive it here while the thread waits for the next.
            del item, loop, future, job, arguments, result, error

    def _resolve(self, future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
        self._under_way -= 1
        if future.done():
            return  # cancelled
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
