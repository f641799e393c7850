"""What a connection sends: done when the kernel has it, files without passing through Python."""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

from hounsfield.serving.exchange import Bytes, ClientGone

FILE_STEP = 1 << 20
"""Bytes of a file the kernel is asked to send at a time."""
TURN_BYTES = 4 << 20
"""Bytes after which other connections get their turn, however fast this client takes them."""
_PAGES_PROBED = 512 * 1024

_PROBE = [bytearray(1)]
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_MORE: int = getattr(socket, "MSG_MORE", 0)
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

    async def write_file(self, file: int, offset: int, count: int) -> None:
        """Send a part of a file; done when the kernel has taken it. Raises ClientGone."""
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
        found = os.preadv(file, _PROBE, offset, _NOWAIT) and os.preadv(file, _PROBE, last, _NOWAIT)
        for place in range(offset + _PAGES_PROBED, last - _PAGES_PROBED // 2, _PAGES_PROBED):
            found = found and os.preadv(file, _PROBE, place, _NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True  # not known on this file system
    return found == 1


def _read_ahead(file: int, offset: int, count: int) -> None:
    os.pread(file, count, offset)
