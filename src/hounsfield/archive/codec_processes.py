"""Processes for work that is heavy or that a hostile file can crash: decoding, encoding, drawing; new files of updates.

Each API process and each worker has a pool of its own. A codec process is started when there is work for it and ends
when there has been none for a while; it is nice to everybody else, and one that crashes, hangs or eats memory takes
nothing with it but the request it was working for.
"""

import asyncio
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from hounsfield.errors import HounsfieldError, InternalError, NotAcceptable, StoreUnavailable
from hounsfield.processors import every_one

MESSAGE = struct.Struct("<BQ")
"""Precedes every message between the processes: its kind, and its length in bytes."""
JOIN_BYTES = 256 * 1024
"""What follows up to this size goes with it: the other process would be woken for it alone."""
PIPE_BYTES = 4 << 20
"""Of an answer read before the process that writes it has to wait."""

_FAILED = "The image cannot be converted: a codec failed."
_STOPPING = "The server is stopping."
_FROM_OUTSIDE = frozenset((-signal.SIGKILL, -signal.SIGTERM))
"""How a process ends that did not end itself."""


class Reply(IntEnum):
    """What a codec process says."""

    ALIVE = 0
    """There will be an answer: the clock starts anew."""
    RESULT = 1
    REFUSED = 2
    """An error of ours, with its text."""
    BROKEN = 3
    """Any other error; the text names its class and place."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the pool of one API process may take."""

    processes: int = os.cpu_count() or 1
    """At a time: the work is all processor."""
    waiting: int = 512
    """Pieces of work that wait for a process: some seconds' worth of thumbnails. Who comes then is asked to retry."""
    waiting_bytes: int = 256 << 20
    """Of the arguments of those."""
    seconds: float = 60.0
    """Without a sign of life. The largest frame allowed (100 MiB) takes JPEG 2000 some twenty on a slow machine."""
    idle_seconds: float = 60.0
    """After which a process without work ends: it holds 60 MB, and takes half a second to start."""
    memory_bytes: int = 3 << 30
    """Of one process: a stream can announce any number of samples. The largest frame allowed, widened and copied a few
    times, stays below a third."""
    niceness: int = 15
    """So that a storm of work leaves processor time to those who only want bytes."""


class CodecFailure(NotAcceptable):
    """The work crashed its process, or took too long: a broken or a hostile file."""


class _Ended(Exception):
    """The process is gone, or about to be."""


class CodecsBusy(StoreUnavailable):
    """More work waits than this server takes on."""


class CodecProcesses:
    """A pool. Must be used from one event loop; starts nothing before the first piece of work."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._free = self.limits.processes
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._waiting_bytes = 0
        self._tasks: set[asyncio.Task[bytes]] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Of the processes there are now."""
        return [process.pid for process in (*self._idle, *self._busy)]

    async def run(self, function: Callable[..., bytes], *arguments: object) -> bytes:
        """What ``function`` gives in a codec process. It is named by its module, and that is imported there.

        It may be run a second time, where its process was killed by somebody else. Raises what it raises of our errors
        (as their nearest class of hounsfield.errors), CodecFailure if its process crashes or is silent for too long,
        CodecsBusy if too much is waiting, InternalError for any other error.
        Work that is begun goes on if the caller is cancelled: its process is of use to others afterwards.
        """
        request = pickle.dumps((function, arguments), protocol=pickle.HIGHEST_PROTOCOL)
        crowded = len(self._waiting) >= self.limits.waiting
        if self._closed or crowded or self._waiting_bytes + len(request) > self.limits.waiting_bytes:
            raise CodecsBusy("The server is busy converting images. Try again in a moment.")
        await self._turn(len(request))
        task = asyncio.create_task(self._work(request))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End all processes; what is under way fails."""
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
        for future in self._waiting:
            if not future.done():
                future.set_exception(CodecsBusy(_STOPPING))
        self._waiting.clear()
        for process in (*self._idle, *self._busy):
            process.kill()
        for task in list(self._tasks):
            await asyncio.wait([task])
        for process in self._idle:
            await process.gone()
        self._idle.clear()

    async def _turn(self, size: int) -> None:
        """Wait until a process is free or may be started."""
        if self._free:
            self._free -= 1
            return
        self._waiting_bytes += size
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future in self._waiting:
                self._waiting.remove(future)
            elif future.done() and not future.cancelled():
                self._next()
            raise
        finally:
            self._waiting_bytes -= size

    def _next(self) -> None:
        """Give a process' turn to whoever has waited longest."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        self._free += 1

    async def _work(self, request: bytes) -> bytes:
        try:
            answer = await self._answer(self._idle.pop() if self._idle else self._started(), request)
            if answer is None:
                answer = await self._answer(self._started(), request)
        finally:
            self._next()
        if answer is None:
            raise CodecFailure(_FAILED)
        return _result(*answer)

    def _started(self) -> "_Process":
        if self._closed:
            raise CodecsBusy(_STOPPING)
        try:
            return _Process(self.limits)
        except OSError as error:
            raise StoreUnavailable("No process for converting images can be started.") from error

    async def _answer(self, process: "_Process", request: bytes) -> tuple[Reply, bytes] | None:
        """What the process says; None if somebody else ended it, before or in the middle of the work.

        That says nothing about the file: the kernel takes codec processes first when memory is short, idle ones too.
        """
        self._busy.add(process)
        whole = False
        try:
            answer = await process.work(request)
            whole = not self._closed
            return answer
        except _Ended:
            process.kill()  # if it only closed its end
            if await process.gone() not in _FROM_OUTSIDE:
                raise CodecFailure(_FAILED) from None
            return None
        finally:
            if whole:
                self._idle.append(process)
                self._expire(process)
            else:
                process.kill()
                await process.gone()
            self._busy.discard(process)

    def _finished(self, task: asyncio.Task[bytes]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever wanted it may be gone

    def _expire(self, process: "_Process") -> None:
        """End processes that have been idle for too long, and look again later."""
        process.idle_since = asyncio.get_running_loop().time()
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(self.limits.idle_seconds, self._end_idle)

    def _end_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._expiry = None
        latest = loop.time() - self.limits.idle_seconds
        # The most recently used is at the end and taken first, so the others may go.
        while self._idle and self._idle[0].idle_since <= latest:
            self._idle.pop(0).end()
        if self._idle:
            self._expiry = loop.call_later(max(self._idle[0].idle_since - latest, 0.01), self._end_idle)


class _Process:
    """One codec process and the socket to it."""

    def __init__(self, limits: Limits) -> None:
        ours, theirs = socket.socketpair()
        try:
            # On this thread: the kernel ends the process when the thread that made it is gone.
            with every_one():
                self._process = subprocess.Popen(
                    [
                        sys.executable, "-m", "hounsfield.archive.codec_process",
                        str(theirs.fileno()), str(os.getpid()), str(limits.memory_bytes), str(limits.niceness),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # some libraries print
                    pass_fds=[theirs.fileno()],
                )  # fmt: skip
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._seconds = limits.seconds
        self.idle_since = 0.0

    @property
    def pid(self) -> int:
        return self._process.pid

    async def work(self, request: bytes) -> tuple[Reply, bytes]:
        """Send a request and wait for its answer. Raises _Ended if the process dies, CodecFailure if it is silent for
        too long."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(sock=self._socket, limit=PIPE_BYTES)
            reader, writer = self._streams
            async with asyncio.timeout(self._seconds) as clock:
                head = MESSAGE.pack(0, len(request))
                if len(request) <= JOIN_BYTES:
                    writer.write(head + request)
                else:
                    writer.write(head)
                    writer.write(request)
                await writer.drain()
                while True:
                    kind, length = MESSAGE.unpack(await reader.readexactly(MESSAGE.size))
                    clock.reschedule(asyncio.get_running_loop().time() + self._seconds)
                    if kind != Reply.ALIVE:
                        return Reply(kind), await reader.readexactly(length)
        except TimeoutError:
            raise CodecFailure("The image takes too long to convert.") from None
        except (asyncio.IncompleteReadError, OSError):
            raise _Ended from None

    def end(self) -> None:
        """Have an idle process end; nobody waits for it."""
        self.kill()
        asyncio.get_running_loop().run_in_executor(None, self._process.wait)

    def kill(self) -> None:
        """Nothing it does is worth waiting for: it keeps nothing."""
        if self._streams is not None:
            self._streams[1].close()
        else:
            self._socket.close()
        self._process.kill()

    async def gone(self) -> int:
        """Wait until a process that dies is gone; minus the number of the signal that ended it, or its exit status."""
        return await asyncio.to_thread(self._process.wait)


def _result(kind: Reply, body: bytes) -> bytes:
    if kind is Reply.RESULT:
        return body
    name, _, text = body.decode().partition(" ")
    if kind is Reply.REFUSED:
        for known in HounsfieldError.__subclasses__():
            if known.__name__ == name:
                raise known(text)
    raise InternalError(f"A codec process failed: {text}")
