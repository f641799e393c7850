"""One connection: reads requests, has them answered one after the other, writes the answers.

The socket is used directly, not through an asyncio transport: bodies are received into the buffer that is handed to
the application, ``send`` is done when the kernel has the bytes, and files are sent by the kernel. So the memory of a
connection is what it has not handed over yet, and no answer waits in a buffer of ours.
"""

import asyncio
import ctypes
import logging
import os
import socket
import struct
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hounsfield.serving.exchange import ClientGone, Exchange
from hounsfield.serving.head import MAX_HEAD_BYTES, MalformedBody, RefusedHead, RequestHead, end_of_head
from hounsfield.serving.output import Output

if TYPE_CHECKING:
    from hounsfield.serving.process import Serving

logger = logging.getLogger(__name__)

HEAD_SECONDS = 30
"""How long a request head may take from its first byte."""
IDLE_SECONDS = 130
"""How long a connection may lie unused; the reference server's default."""
STALL_SECONDS = 60
"""How long a client may send nothing of a body, or take nothing of an answer, that is under way."""
MIN_BODY_RATE = 240
"""Bytes a second, over STALL_SECONDS, below which a body counts as standing still; the reference server's default.
Else one byte a minute would keep a connection for ever."""
LINGER_SECONDS = 5
"""How long what a client still sends is thrown away after an answer that did not wait for it. Closing at once would
reset the connection, and the client might never see the answer."""
LINGER_BYTES = 16 << 20
"""No more than this is thrown away."""
SKIPPED_BYTES = 1 << 20
"""A body that nobody wanted is read to its end if no more than this is left of it; else the connection ends."""

WHOLE_BODY = 1 << 20
"""A body up to this size is handed over in one piece: the usual CT slice arrives as one."""
CHUNK = 256 * 1024
"""Pieces of larger bodies."""
SMALL_CHUNK = 16 * 1024
"""Pieces while too much memory waits for slow clients already."""
READY_CHUNKS = 2
"""Pieces that may wait for the application before reading pauses."""
FLUSH_SECONDS = 0.1
"""When an application waits, a piece that does not fill up is handed over after this time."""

_scratch = memoryview(bytearray(64 * 1024))
"""Where whatever is no body is received; used up before anything else is."""

Address = tuple[str, int]


class Connection:
    """See the module. Made when a client has connected; ends itself."""

    def __init__(self, serving: "Serving", sock: socket.socket, client: Address, server: Address) -> None:
        self.loop = serving.loop
        self.lost = False
        """Whether nothing can be sent or received any more."""
        self._serving = serving
        self._socket = sock
        self._number = sock.fileno()
        self._addresses = {"client": client, "server": server}
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._pending = bytearray()  # received behind the current request
        self._searched = 0
        self._filling: bytearray | None = None  # the piece of the body that is being received
        self._filled = 0
        self._body_left = 0  # bytes of the body that no piece holds yet, those of the one being filled included
        self._flush_timer: asyncio.TimerHandle | None = None
        self._reading = False
        self._closing = False
        self._lingered = 0
        self.output = Output(self.loop, sock, self._lose)
        """Where answers go."""
        self._body_bytes = 0  # received for the current request since ``_rated_since``
        self.last_active = self._head_began = self._rated_since = self.loop.time()
        """When something was received last, or an answer was complete."""
        self._resume()

    # --- what an exchange calls ---

    @property
    def date_line(self) -> bytes:
        """The Date header, made once a second."""
        return self._serving.date_line

    @property
    def is_draining(self) -> bool:
        """Whether the process is about to end."""
        return self._serving.draining

    def can_skip_body(self) -> bool:
        """Whether what is left of the current body is so little that it can be received for nothing."""
        exchange = self._exchange
        assert exchange is not None
        return not exchange.waits_for_continue and exchange.head.length is not None and self._body_left <= SKIPPED_BYTES

    def body_taken(self) -> None:
        """The application has taken a piece."""
        exchange = self._exchange
        if not self._reading and exchange is not None and len(exchange.body) < READY_CHUNKS:
            self._resume()

    def body_wanted(self) -> None:
        """The application waits for what is being received."""
        if self._filled:
            self._flush_soon()

    def upgrade(self) -> None:
        """What comes from now on is no HTTP."""
        exchange = self._exchange
        assert exchange is not None
        if self._pending:
            exchange.body.append(bytes(self._pending))
            self._pending.clear()
        self._resume()

    # --- what the process calls ---

    @property
    def is_unused(self) -> bool:
        """Whether no request is under way; its head may be."""
        return self._exchange is None and not self._closing

    def look_at_clock(self, now: float) -> None:
        """End what takes too long; called every few seconds."""
        exchange = self._exchange
        if exchange is None:
            if self._pending and not self._closing and now - self._head_began > HEAD_SECONDS:
                self._refuse(408, "The request took too long.")
            elif now - self.last_active > (LINGER_SECONDS if self._closing else IDLE_SECONDS):
                self._lose()
        elif self.output.is_waiting:
            if now - self.output.last_active > STALL_SECONDS:
                self._lose()
        elif exchange.body_complete or not exchange.is_waiting:
            self._rated_since, self._body_bytes = now, 0
        elif now - self.last_active > STALL_SECONDS or self._is_slow(now):
            exchange.break_body()

    def _is_slow(self, now: float) -> bool:
        """Whether the client, which is waited for, has sent next to nothing of a body for long."""
        if now - self._rated_since < STALL_SECONDS:
            return False
        is_slow = self._body_bytes < MIN_BODY_RATE * (now - self._rated_since)
        self._rated_since, self._body_bytes = now, 0
        return is_slow

    def drain(self) -> None:
        """Finish what is under way and end."""
        if self.is_unused:
            self._lose()
        elif self._exchange is not None and self._exchange.upgraded:
            self._exchange.break_body()

    def abort(self) -> None:
        """End now."""
        if self._task is not None:
            self._task.cancel()
        self._lose()

    # --- reading ---

    def _resume(self) -> None:
        if not self._reading and not self.lost:
            self._reading = True
            self.loop.add_reader(self._number, self._readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self.loop.remove_reader(self._number)

    def _readable(self) -> None:
        if self._filling is None and self._body_left:
            self._new_piece()
        try:
            if self._filling is not None:
                count = self._socket.recv_into(memoryview(self._filling)[self._filled :])
            else:
                count = self._socket.recv_into(_scratch)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        # A reset behind what was received is told only once: uvloop stops watching a socket with an error.
        if not count or self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._lose()
            return
        self.last_active = self.loop.time()
        self._body_bytes += count
        exchange = self._exchange
        if self._filling is not None:
            self._received(count)
        elif self._closing:
            # Thrown away until the client ends; one that does not mean to has to wait for the connection to end.
            self._lingered += count
            if self._lingered > LINGER_BYTES:
                self._pause()
        elif exchange is not None and not exchange.body_complete:
            self._received_chunks(_scratch[:count])
        elif exchange is not None and exchange.upgraded:
            exchange.body.append(bytes(_scratch[:count]))
            exchange.wake()
            if len(exchange.body) >= READY_CHUNKS:
                self._pause()
        else:
            self._pending += _scratch[:count]
            if exchange is None:
                self._begin()
            elif len(self._pending) > MAX_HEAD_BYTES:
                self._pause()

    def _begin(self) -> None:
        """Begin with the next request if its head is complete."""
        pending = self._pending
        if not self._searched:
            self._head_began = self.last_active
            while pending[:2] == b"\r\n":  # RFC 9112 §2.2
                del pending[:2]
        end = end_of_head(pending, max(0, self._searched - 3))
        if not 0 <= end <= MAX_HEAD_BYTES:
            if len(pending) > MAX_HEAD_BYTES:
                self._refuse(431, f"The head of a request may have {MAX_HEAD_BYTES} bytes.")
            elif pending and not pending[:1].isalpha():
                self._refuse(400, "The request is not valid HTTP.")
            else:
                self._searched = len(pending)
            return
        self._searched = 0
        raw = bytes(pending[:end])
        del pending[:end]
        try:
            head = RequestHead(raw)
        except RefusedHead as refusal:
            self._refuse(refusal.status, refusal.text)
            return
        head.scope.update(self._addresses)
        head.scope["extensions"] = {**_EXTENSIONS, "hounsfield.upgrade": {}} if head.upgrades else _EXTENSIONS
        exchange = self._exchange = Exchange(self, head)
        self._rated_since, self._body_bytes = self.last_active, len(pending)
        if head.length is None:
            self._pending = bytearray()
            if pending:
                self._received_chunks(memoryview(pending))
        elif head.length:
            self._body_left = head.length
            if pending:
                self._begin_body(pending)
        self._task = self.loop.create_task(self._answer(exchange))

    def _begin_body(self, pending: bytearray) -> None:
        """What came with the head is the beginning of the body."""
        self._new_piece()
        assert self._filling is not None
        count = min(len(pending), len(self._filling))
        self._filling[:count] = pending[:count]
        del pending[:count]
        self._received(count)
        if pending and self._body_left:
            self._begin_body(pending)

    def _new_piece(self) -> None:
        room = self._serving.body_room
        size = self._body_left if self._body_left <= WHOLE_BODY else CHUNK
        if size > room:
            size = min(size, SMALL_CHUNK)
        self._serving.body_room -= size
        self._filling, self._filled = _unset(size), 0

    def _received(self, count: int) -> None:
        self._filled += count
        self._body_left -= count
        assert self._filling is not None
        if self._filled == len(self._filling):
            self._hand_over()
        elif self._exchange is not None and self._exchange.is_waiting:
            self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flush_timer is None:
            self._flush_timer = self.loop.call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        if self._filled and self._exchange is not None and self._exchange.is_waiting:
            self._hand_over()

    def _hand_over(self) -> None:
        """The piece is the application's now."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        piece, exchange = self._filling, self._exchange
        assert piece is not None
        self._serving.body_room += len(piece)
        self._filling = None
        if self._filled < len(piece):
            del piece[self._filled :]
        self._filled = 0
        if exchange is None:  # nobody wants it
            if not self._body_left:
                self._next()
            return
        exchange.body_complete = not self._body_left
        if not exchange.complete:
            exchange.body.append(piece)
            if self._body_left and len(exchange.body) >= READY_CHUNKS:
                self._pause()
        exchange.wake()

    def _received_chunks(self, data: memoryview) -> None:
        exchange = self._exchange
        assert exchange is not None
        try:
            body, complete = exchange.head.chunks(data)
        except MalformedBody:
            exchange.break_body()
            self._pause()
            return
        if body and not exchange.complete:
            exchange.body.append(body)
            if not complete and len(exchange.body) >= 4 * READY_CHUNKS:
                self._pause()
        if complete:
            exchange.body_complete = True
            if exchange.head.has_surplus:
                exchange.keep_alive = False
        if body or complete:
            exchange.wake()

    # --- answering ---

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._serving.application(exchange.head.scope, exchange.receive, exchange.send)
        except ClientGone:
            pass
        except Exception as error:
            # Class and place, not the text, which may quote what clients sent.
            place = "".join(traceback.format_tb(error.__traceback__))
            logger.error("Unexpected error while answering: %s\n%s", type(error).__name__, place)
        finally:
            self._task = None
        if not exchange.complete and not self.lost:
            if exchange.started:
                # Announced length or last chunk are missing, so the client cannot take what it has for the whole.
                self._reset() if exchange.ends_with_connection else self._lose()
            else:
                self._exchange = None
                self._refuse(500, "Internal Server Error")
            return
        self._exchange = None
        if self.lost:
            self._serving.forget(self)
        elif not exchange.keep_alive or self._serving.draining:
            self._finish(linger=not exchange.body_complete)
        elif exchange.body_complete:
            self._next()
        else:
            self._resume()  # what is left of the body is thrown away as it comes

    def _next(self) -> None:
        """The connection is ready for another request."""
        if self._serving.draining:
            self._lose()
            return
        self.last_active = self.loop.time()
        self._resume()
        if self._pending:
            self._begin()

    def _refuse(self, status: int, text: str) -> None:
        """Answer without the application, and end."""
        body = text.encode()
        head = (
            f"HTTP/1.1 {status} \r\ncontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        try:
            self._socket.send(head.encode() + body)
        except OSError:
            self._lose()
            return
        self._finish(linger=True)

    def _finish(self, *, linger: bool) -> None:
        """End the connection after an answer."""
        self._drop_body()
        self._pending.clear()
        if not linger:
            self._lose()
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._lose()
            return
        self._closing = True
        self.last_active = self.loop.time()
        self.loop.call_later(LINGER_SECONDS, self._lose)
        self._resume()

    def _drop_body(self) -> None:
        if self._filling is not None:
            self._serving.body_room += len(self._filling)
            self._filling = None
        self._filled = self._body_left = 0
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None

    def _reset(self) -> None:
        """End so that the client sees an error, where an orderly end would mean that the answer is whole."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._lose()

    def _lose(self) -> None:
        if self.lost:
            return
        self.lost = True
        self._pause()
        self._drop_body()
        self.output.close()
        self._socket.close()
        if self._exchange is not None:
            self._exchange.wake()
        if self._task is None:
            self._serving.forget(self)


_resize = ctypes.pythonapi.PyByteArray_Resize
_resize.argtypes = (ctypes.py_object, ctypes.c_ssize_t)


def _unset(size: int) -> bytearray:
    """So many bytes of anything, to be written before they are read.

    Half a megabyte of zeros would pass through the processor's cache only to be overwritten: 50 µs of every store.
    """
    piece = bytearray()
    _resize(piece, size)
    return piece


_EXTENSIONS: dict[str, Any] = {"hounsfield.files": {}} if hasattr(os, "sendfile") else {}
