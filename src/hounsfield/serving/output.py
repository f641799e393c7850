"""What a connection sends: done when the kernel has it, files without passing through Python."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice

from hounsfield.serving.exchange import Bytes, ClientGone, FilePart

FILE_STEP = 1 << 20
"""Bytes of a file the kernel is asked to send at a time."""
TURN_BYTES = 8 << 20
"""Bytes after which other connections get their turn, however fast this client takes them."""
TAKEN_TOGETHER = 8
"""Files opened one after the other, then sent, for a client that takes them at once: opening each between two that are
sent takes twice as long, as sending leaves nothing of this program in the processor's cache."""
WAITED_SECONDS = 0.001
"""A file that took this long to send at once may not have been in memory."""
_PAGES_PROBED = 512 * 1024

_PROBE = [bytearray(1)]
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_MORE: int = getattr(socket, "MSG_MORE", 0)
_CORK: int | None = getattr(socket, "TCP_CORK", None)
_SOON_FOLLOWED = 1024


class Output:
    """Sends on one socket, which must not block. ``lose`` is called when the client turns out to have gone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, lose: Callable[[], None]) -> None:
        self.last_active = loop.time()
        """When the client last took something it had been waited for."""
        self._loop = loop
        self._socket = sock
        self._number = sock.fileno()
        self._lose = lose
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the client has to take something before more can be sent."""
        return self._waiter is not None

    def close(self) -> None:
        """Nothing more can be sent; whoever waits learns of it. To be called before the socket is closed."""
        self._closed = True
        if self._waiter is not None:
            self._loop.remove_writer(self._number)
            self._ready()

    async def write(self, pieces: Sequence[Bytes], *, more: bool = False) -> None:
        """Send; done when the kernel has taken everything. Raises ClientGone."""
        size = sum(map(len, pieces))
        flags = _MORE if more and size <= _SOON_FOLLOWED else 0
        while True:
            if self._closed:
                raise ClientGone
            try:
                sent = (
                    self._socket.send(pieces[0], flags) if len(pieces) == 1 else self._socket.sendmsg(pieces, (), flags)
                )
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._lose()
                raise ClientGone from error
            size -= sent
            if not size:
                return
            pieces = _rest(pieces, sent)
            await self._writable()

    def fill_packets(self, on: bool) -> None:
        """Have packets go out full, also where one write ends and the next begins (tcp(7), TCP_CORK),
        or what waits now.

        For files one behind the other it is a quarter less work for the kernel.
        """
        if _CORK is not None and not self._closed:
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, _CORK, on)

    async def write_files(self, parts: Iterable[tuple[bytes, FilePart]]) -> None:
        """Send parts of files, each behind some bytes; done when the kernel has taken everything. Raises ClientGone.

        Files that follow each other were mostly written together, and are in memory or not together. So behind one
        that went out at once the next is not looked for, which would be a tenth of the work. Where it is not in memory
        after all, other connections wait for one read until they get their turn, and the one behind it is looked for.
        """
        following = iter(parts)
        turn, ahead = TURN_BYTES, 1
        in_memory = False
        while taken := list(islice(following, ahead)):
            ahead = min(2 * ahead, TAKEN_TOGETHER)
            for before, part in taken:
                began = time.perf_counter()
                sent = self._send_at_once(before, part, in_memory)
                left = len(before) + part.length - sent
                waited = time.perf_counter() - began >= WAITED_SECONDS
                in_memory = not left and not waited
                turn -= sent
                if left > part.length:
                    await self.write([before[sent:]], more=True)
                    left = part.length
                if left:
                    await self._send_file(part.file.number, part.offset + part.length - left, left)
                    turn, ahead = TURN_BYTES, 1
                elif turn <= 0 or waited:
                    await asyncio.sleep(0)
                    turn = TURN_BYTES

    def _send_at_once(self, before: bytes, part: FilePart, in_memory: bool) -> int:
        """Send what the kernel takes without waiting for the client, nor, unless the part is said to be ``in_memory``,
        for the disk; how many bytes. Raises ClientGone.
        """
        if self._closed:
            raise ClientGone
        file, offset, length = part.file, part.offset, part.length
        sent = 0
        try:
            if before:
                sent = self._socket.send(before, _MORE)
            if sent == len(before) and length <= FILE_STEP and (in_memory or _in_memory(file.number, offset, length)):
                sent += os.sendfile(self._number, file.number, offset, length)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._lose()
            raise ClientGone from error
        return sent

    async def _send_file(self, file: int, offset: int, count: int) -> None:
        turn = TURN_BYTES
        while count:
            if self._closed:
                raise ClientGone
            step = min(count, FILE_STEP)
            if not _in_memory(file, offset, step):
                await self._loop.run_in_executor(None, _read_ahead, file, offset, step)
                if self._closed:
                    raise ClientGone
            try:
                sent = os.sendfile(self._number, file, offset, step)
            except (BlockingIOError, InterruptedError):
                await self._writable()
                turn = TURN_BYTES
                continue
            except OSError as error:
                self._lose()
                raise ClientGone from error
            if not sent:
                raise RuntimeError("A file is shorter than what was to be sent of it.")
            offset += sent
            count -= sent
            turn -= sent
            if turn <= 0 and count:
                turn = TURN_BYTES
                await asyncio.sleep(0)

    async def _writable(self) -> None:
        """Wait until the kernel takes more. Sending says what is wrong if the client has gone."""
        self._waiter = self._loop.create_future()
        self._loop.add_writer(self._number, self._ready)
        self.last_active = self._loop.time()
        try:
            await self._waiter
        finally:
            self._waiter = None
            if not self._closed:
                self._loop.remove_writer(self._number)
        self.last_active = self._loop.time()

    def _ready(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _rest(pieces: Sequence[Bytes], sent: int) -> list[Bytes]:
    """What is left of ``pieces`` when ``sent`` bytes of them have gone."""
    rest: list[Bytes] = []
    for piece in pieces:
        if sent >= len(piece):
            sent -= len(piece)
        else:
            rest.append(memoryview(piece)[sent:] if sent else piece)
            sent = 0
    return rest


def _in_memory(file: int, offset: int, count: int) -> bool:
    """Whether the kernel can send this without waiting for the disk; as far as samples tell."""
    if _NOWAIT is None:
        return True
    last = offset + count - 1
    try:
        # From the end: the beginning is what others read most.
        for place in range(last, min(offset + _PAGES_PROBED // 2, last) - 1, -_PAGES_PROBED):
            if not os.preadv(file, _PROBE, place, _NOWAIT):
                return False
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True  # not known on this file system


def _read_ahead(file: int, offset: int, count: int) -> None:
    os.pread(file, count, offset)
