"""Event reports on their way to the subscribers that are connected to this process (PS3.18 §11.13).

Reports are rows (worklist/reports.py). While somebody is connected here, one look at a number tells several times a
second whether there are new ones, whichever process wrote them. A report goes when a pong has confirmed it: who
connects again gets whatever may not have arrived, so a report can come twice but is not lost.
"""

import asyncio
import logging
import secrets
from contextlib import suppress

from hounsfield.database.engine import Database
from hounsfield.errors import HounsfieldError
from hounsfield.web.websocket import GOING_AWAY, NORMAL, REPLACED, WebSocket
from hounsfield.worklist import reports, subscriptions
from hounsfield.worklist.reports import Waiting
from hounsfield.worklist.subscriptions import Subscriber

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.05
"""How often it is looked whether there are new reports: a few microseconds of a database."""
CONFIRM_SECONDS = 0.5
"""How long confirmations are gathered before they are written down together."""
LEASE_SECONDS = 10.0
"""How often it is written down that connections are still there."""
PING_SECONDS = 20.0
"""How often a silent connection is asked whether it is there."""
SILENT_SECONDS = 60.0
"""How long it may not answer that."""
PAGE = 200
"""Reports read at a time."""
MAX_QUEUED = 1_000
"""Reports kept in memory for a slow connection; of more it reads again from the database."""
RETRY_SECONDS = 1.0


class Notifications:
    """The notification connections of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connections: dict[str, _Connection] = {}
        self._confirmed: dict[int, int] = {}
        self._dispatching: asyncio.Task[None] | None = None

    async def admit(self, partition_key: int, ae_title: str) -> tuple[Subscriber, str]:
        """The subscriber of that name, and a token of its new connection. Raises NotFound."""
        token = secrets.token_hex(8)
        return await subscriptions.connect(self._database, partition_key, ae_title, token), token

    async def serve(self, subscriber: Subscriber, token: str, socket: WebSocket) -> None:
        """Send a subscriber its reports until it goes, connects elsewhere, or the server ends."""
        connection = _Connection(self._database, subscriber.id, token, socket)
        self._connections[token] = connection
        if self._dispatching is None or self._dispatching.done():
            self._dispatching = asyncio.create_task(self._dispatch())
        listening = asyncio.create_task(self._listen(connection))
        try:
            # A client that is cut off connects again, and gets what it has not confirmed.
            with suppress(OSError, HounsfieldError):
                await socket.accept()
                await connection.send_reports()
                await connection.say_goodbye()
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await listening
            del self._connections[token]
            with suppress(HounsfieldError):
                await self._confirm()
                await subscriptions.disconnect(self._database, subscriber.id, token)

    async def close(self) -> None:
        """End what goes on in the background."""
        if self._dispatching is not None:
            self._dispatching.cancel()
            with suppress(asyncio.CancelledError):
                await self._dispatching

    async def _listen(self, connection: "_Connection") -> None:
        try:
            async for payload in connection.socket.pongs():
                connection.last_heard = asyncio.get_running_loop().time()
                sequence = int(payload) if payload.isdigit() and len(payload) < 19 else 0
                # Of what was never sent, nothing can be confirmed.
                if 0 < sequence <= connection.sent:
                    known = self._confirmed.get(connection.subscriber_id, 0)
                    self._confirmed[connection.subscriber_id] = max(known, sequence)
        finally:
            # Where the client has not said that it is over, the connection is lost, or the server ends.
            connection.end(GOING_AWAY if connection.socket.is_open else NORMAL)

    async def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        last = -1
        confirm = lease = loop.time()
        while self._connections:
            try:
                if last < 0:
                    # Whoever is connected reads for itself what there is so far.
                    last = await reports.newest(self._database)
                    for connection in self._connections.values():
                        connection.read_again()
                last = await self._hand_over(last)
                if loop.time() - confirm >= CONFIRM_SECONDS:
                    confirm = loop.time()
                    await self._confirm()
                if loop.time() - lease >= LEASE_SECONDS:
                    lease = loop.time()
                    await self._renew()
            except Exception as error:
                # Whatever it is, those who listen must not wait for ever. The class, as texts may quote values.
                logger.warning("Event reports wait: %s", type(error).__name__)
                last = -1
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    async def _hand_over(self, last: int) -> int:
        """Give connections what is new since ``last``; the number of the newest."""
        newest = await reports.newest(self._database)
        while last < newest:
            found = await reports.after(self._database, last, 10 * PAGE)
            by_subscriber: dict[int, list[Waiting]] = {}
            for report in found:
                by_subscriber.setdefault(report.subscriber_id, []).append(report)
            for connection in self._connections.values():
                connection.offer(by_subscriber.get(connection.subscriber_id, ()))
            last = found[-1].sequence if len(found) == 10 * PAGE else max(newest, last)
        return last

    async def _confirm(self) -> None:
        if self._confirmed:
            gathered, self._confirmed = self._confirmed, {}
            try:
                await reports.confirmed(self._database, list(gathered.items()))
            except HounsfieldError:
                self._confirmed = gathered | self._confirmed
                raise

    async def _renew(self) -> None:
        asked = list(self._connections.values())
        there = await subscriptions.still_connected(
            self._database, [(connection.subscriber_id, connection.token) for connection in asked]
        )
        silent = asyncio.get_running_loop().time() - SILENT_SECONDS
        for connection in asked:
            if (connection.subscriber_id, connection.token) not in there:
                connection.end(REPLACED)
            elif connection.last_heard < silent:
                connection.end(NORMAL)


class _Connection:
    """One subscriber's connection."""

    def __init__(self, database: Database, subscriber_id: int, token: str, socket: WebSocket) -> None:
        self.subscriber_id = subscriber_id
        self.token = token
        self.socket = socket
        self.sent = 0
        """The number of the last report that was sent."""
        self.last_heard = asyncio.get_running_loop().time()
        self._database = database
        self._queue: list[Waiting] = []
        self._must_read = True  # there may be reports that nobody offers
        self._code: int | None = None
        self._wake = asyncio.Event()

    def offer(self, found: "tuple[()] | list[Waiting]") -> None:
        """Have new reports sent."""
        if not found:
            return
        if self._must_read or len(self._queue) + len(found) > MAX_QUEUED:
            self.read_again()
        else:
            self._queue += found
            self._wake.set()

    def read_again(self) -> None:
        """Have the reports read from the database."""
        self._must_read = True
        self._queue.clear()
        self._wake.set()

    def end(self, code: int) -> None:
        """Have the connection end for a reason."""
        if self._code is None:
            self._code = code
        self._wake.set()

    async def send_reports(self) -> None:
        """Send what comes, until the connection is to end. Raises OSError when the client has gone."""
        while self._code is None:
            self._wake.clear()
            found = await self._next()
            if found:
                await self._send(found)
                continue
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                await self.socket.send((), b"%d" % self.sent)

    async def say_goodbye(self) -> None:
        """Close it; if the server ends, that is the last report."""
        if self._code == GOING_AWAY:
            await self.socket.send([reports.numbered(reports.going_down(), 0)])
        await self.socket.close(self._code or NORMAL)

    async def _next(self) -> list[Waiting]:
        if not self._must_read:
            found, self._queue = self._queue, []
            return found
        # What is offered meanwhile sets it again.
        self._must_read = False
        try:
            found = await reports.waiting(self._database, self.subscriber_id, self.sent, PAGE)
        except HounsfieldError:
            self._must_read = True
            await asyncio.sleep(RETRY_SECONDS)
            return []
        if len(found) == PAGE:
            self._must_read = True
        return found

    async def _send(self, found: list[Waiting]) -> None:
        states = await reports.current_states(
            self._database, [report.workitem_id for report in found if report.content is None]
        )
        texts = [
            reports.numbered(content, report.sequence)
            for report in found
            if report.sequence > self.sent and (content := report.content or states.get(report.workitem_id))
        ]
        self.sent = max(self.sent, found[-1].sequence)
        await self.socket.send(texts, b"%d" % self.sent)
