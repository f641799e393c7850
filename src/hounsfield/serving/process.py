"""One process that serves: accepts connections, keeps the clock, and ends when told to."""

import asyncio
import logging
import math
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, MutableSequence
from contextlib import suppress
from email.utils import formatdate
from heapq import nsmallest
from operator import attrgetter
from typing import Any

from hounsfield.processors import keep_to_one
from hounsfield.serving.connection import Connection
from hounsfield.serving.exchange import Message

logger = logging.getLogger(__name__)

CLOCK_SECONDS = 5
"""How often connections are looked at for what takes too long."""
YIELD_SECONDS = 0.001
YIELDS = 5
"""How often, and for how long each time, a process leaves a new connection to one that has fewer, for each one fewer:
on a busy machine that one may not come to it at once, and connections stay where they are."""
MOST_YIELDS = 20
"""More than this the other process is not waited for; it may be busy for long."""
BODY_BYTES = 64 << 20
"""Memory of a process for bodies that are being received, in large pieces; beyond it pieces are small."""
FILES_LEFT = 512
"""Descriptors kept for files and databases; half of them where fewer than twice as many are allowed."""
MAX_DESCRIPTORS = 65_536
NO_ROOM_SECONDS = 0.5
"""Pause before accepting again when there is no room, descriptor or memory for another connection."""
ENDED_AT_A_TIME = 16
"""One in so many unused connections is ended when there is no room: looking for them costs more than ending them."""
SAID_SECONDS = 60
"""How often the log says that there is no room."""

UNPACED = b"reno"
"""Congestion control of connections that do not leave this machine, such as a proxy's. BBR, which many systems are set
to, paces what is sent by timers, for the sake of a network that is not there: a study took half as long again."""
_CONGESTION: int | None = getattr(socket, "TCP_CONGESTION", None)

Application = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application: scope, receive, send."""


class Serving:
    """What the connections of one process share."""

    def __init__(
        self,
        application: Application,
        listener: socket.socket,
        counts: MutableSequence[int],
        slot: int,
        max_descriptors: int = MAX_DESCRIPTORS,
    ) -> None:
        """``counts`` are the connections of every process, shared by all; ours is at ``slot``."""
        self.application = application
        self.loop = asyncio.get_running_loop()
        self.draining = False
        self.body_room = BODY_BYTES
        """Bytes of BODY_BYTES that are free."""
        self.date_line = b""
        self._listener = listener
        self._counts = counts
        self._slot = slot
        self.connections: set[Connection] = set()
        """Those that are open."""
        descriptors = _raise_descriptor_limit(max_descriptors)
        if descriptors < 2 * FILES_LEFT:
            logger.warning("Only %d open files are allowed (ulimit -n): too few for many clients.", descriptors)
        self._max_connections = descriptors - min(FILES_LEFT, descriptors // 2)
        self._accepting = False
        self._has_no_room = False
        self._said = -math.inf
        self._emptied = asyncio.Event()

    async def run(self, stop: asyncio.Event, drain_seconds: float) -> None:
        """Serve until ``stop`` is set; then finish what is under way, for ``drain_seconds`` at most."""
        self._counts[self._slot] = 0
        self._listener.setblocking(False)
        lifespan = _Lifespan(self.application)
        await lifespan.start()
        clock = asyncio.create_task(self._clock())
        self._accept_on()
        await stop.wait()
        self.draining = True
        self._accept_off()
        self._listener.close()
        for connection in list(self.connections):
            connection.drain()
        if self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), drain_seconds)
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)
        clock.cancel()
        await lifespan.stop()

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self._counts[self._slot] = len(self.connections)
        if self.draining and not self.connections:
            self._emptied.set()
        else:
            self._accept_on()

    def _accept_on(self) -> None:
        if not self._accepting and not self._has_no_room and not self.draining:
            self._accepting = True
            self.loop.add_reader(self._listener.fileno(), self._acceptable)

    def _accept_off(self) -> None:
        if self._accepting:
            self._accepting = False
            self.loop.remove_reader(self._listener.fileno())

    def _acceptable(self) -> None:
        """A client has connected. One that another process has more time for is left to it, for a moment."""
        surplus = len(self.connections) - min(self._counts)
        if surplus > 0:
            self._accept_off()
            yields = min(YIELDS * surplus, MOST_YIELDS)
            self.loop.call_later(YIELD_SECONDS, self._accept_what_is_left, yields - 1)
        else:
            self._accept()

    def _accept_what_is_left(self, yields: int) -> None:
        if yields and len(self.connections) > min(self._counts):
            self.loop.call_later(YIELD_SECONDS, self._accept_what_is_left, yields - 1)
            return
        self._accept()
        self._accept_on()

    def _accept(self) -> None:
        if self.draining:
            return
        if len(self.connections) >= self._max_connections and not self._make_room("their limit is reached"):
            return
        try:
            sock, client = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._make_room(error.strerror or type(error).__name__)
            self._wait_for_room()
            return
        server = sock.getsockname()
        prepare(sock, is_local=client[0] == server[0])
        self.connections.add(Connection(self, sock, client[:2], server[:2]))
        self._counts[self._slot] = len(self.connections)

    def _make_room(self, reason: str) -> bool:
        """End connections on which nothing is under way, those first that were used longest ago; else wait for some.

        Without this, whoever opens connections and leaves them there shuts everybody else out for minutes.
        """
        count = len(self.connections)
        unused = [connection for connection in self.connections if connection.is_unused]
        ended = nsmallest(-(-len(unused) // ENDED_AT_A_TIME), unused, key=attrgetter("last_active"))
        for connection in ended:
            connection.drain()
        if (now := self.loop.time()) - self._said >= SAID_SECONDS:
            self._said = now
            logger.warning(
                "No room for another connection: %s. Of %d, %d are unused, and the oldest %d of these are ended.",
                reason, count, len(unused), len(ended),
            )  # fmt: skip
        if not ended:
            self._wait_for_room()
        return bool(ended)

    def _wait_for_room(self) -> None:
        if not self._has_no_room:
            self._has_no_room = True
            self._accept_off()
            self.loop.call_later(NO_ROOM_SECONDS, self._look_for_room)

    def _look_for_room(self) -> None:
        self._has_no_room = False
        self._accept_on()

    async def _clock(self) -> None:
        elapsed = 0
        while True:
            self.date_line = f"date: {formatdate(usegmt=True)}\r\n".encode()
            await asyncio.sleep(1)
            elapsed += 1
            if elapsed % CLOCK_SECONDS == 0:
                now = self.loop.time()
                for connection in list(self.connections):
                    connection.look_at_clock(now)


def prepare(sock: socket.socket, *, is_local: bool) -> None:
    """Set an accepted socket up for requests and answers; ``is_local``: its client is on this machine."""
    sock.setblocking(False)
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if is_local and _CONGESTION is not None:
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, _CONGESTION, UNPACED)


class _Lifespan:
    """Tells the application when serving begins and ends (ASGI lifespan specification)."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._heard: asyncio.Queue[str] = asyncio.Queue()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        await self._tell("startup")

    async def stop(self) -> None:
        await self._tell("shutdown")
        await self._task

    async def _run(self) -> None:
        async def send(message: Message) -> None:
            self._heard.put_nowait(message["type"])

        await self._application({"type": "lifespan", "asgi": {"version": "3.0"}}, self._said.get, send)

    async def _tell(self, event: str) -> None:
        self._said.put_nowait({"type": f"lifespan.{event}"})
        heard = asyncio.create_task(self._heard.get())
        await asyncio.wait({heard, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not heard.done():
            heard.cancel()
            self._task.result()
            return
        if heard.result() != f"lifespan.{event}.complete":
            raise RuntimeError(f"The application's {event} failed.")


def serve(
    create: Callable[[], Application],
    listener: socket.socket,
    counts: MutableSequence[int],
    slot: int,
    drain_seconds: float,
) -> None:
    """The whole life of a serving process. SIGTERM ends it; SIGINT, which a terminal sends to all, does not."""
    import uvloop

    # Until the loop runs there is nothing to finish. The supervisor blocked the signal so that none is lost.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    keep_to_one(slot, len(counts))
    application = create()

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await Serving(application, listener, counts, slot).run(stop, drain_seconds)

    uvloop.run(run())


def _raise_descriptor_limit(wanted: int) -> int:
    """Allow as many descriptors as the system lets us, up to ``wanted``; every connection and open file takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return wanted if soft == resource.RLIM_INFINITY else min(soft, wanted)
