"""What is looked for in memory before it is sent, and what goes out where it is not."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hounsfield.serving import output
from hounsfield.serving.output import WAITED_SECONDS, Output
from hounsfield.storage.descriptor import Descriptor, FileRange

SIZE = 5000
BEFORE = b"--head"


class Disk:
    """Stands between Output and the kernel: which files are in memory, which were looked for, which were slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cold: set[int] = set()
        self.slow: set[int] = set()
        self.looked_for: list[int] = []
        self.read_ahead: list[int] = []
        self.turns = 0
        """How often others got their turn meanwhile."""
        self._number_of: dict[int, int] = {}
        sendfile = os.sendfile

        def look(file: int, offset: int, count: int) -> bool:
            self.looked_for.append(self._number_of[file])
            return self._number_of[file] not in self.cold

        def read_ahead(file: int, offset: int, count: int) -> None:
            self.read_ahead.append(self._number_of[file])

        def send(to: int, file: int, offset: int, count: int) -> int:
            if self._number_of[file] in self.slow:
                time.sleep(2 * WAITED_SECONDS)
            return sendfile(to, file, offset, count)

        monkeypatch.setattr(output, "_in_memory", look)
        monkeypatch.setattr(output, "_read_ahead", read_ahead)
        monkeypatch.setattr(os, "sendfile", send)

    def parts(self, folder: Path, count: int) -> Iterator[tuple[bytes, FileRange]]:
        """Files of which each byte is its number."""
        for number in range(count):
            path = folder / str(number)
            path.write_bytes(bytes([number]) * SIZE)
            file = Descriptor(os.open(path, os.O_RDONLY))
            self._number_of[file.number] = number
            yield BEFORE, FileRange(file, 0, SIZE)


async def received(disk: Disk, folder: Path, count: int) -> bytes:
    """What a client gets that takes everything at once."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

        async def count_turns() -> None:
            while True:
                await asyncio.sleep(0)
                disk.turns += 1

        counting = asyncio.create_task(count_turns())
        await Output(asyncio.get_running_loop(), ours, lambda: None).write_files(disk.parts(folder, count))
        counting.cancel()
        ours.shutdown(socket.SHUT_WR)
        whole = b""
        while piece := theirs.recv(1 << 20):
            whole += piece
    return whole


def files(count: int) -> bytes:
    return b"".join(BEFORE + bytes([number]) * SIZE for number in range(count))


async def test_behind_a_file_that_goes_out_at_once_the_next_is_not_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(output, "WAITED_SECONDS", 60)
    disk = Disk(monkeypatch)
    assert await received(disk, tmp_path, 20) == files(20)
    assert disk.looked_for == [0]
    assert not disk.turns


async def test_others_get_their_turn_however_fast_a_client_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(output, "WAITED_SECONDS", 60)
    monkeypatch.setattr(output, "TURN_BYTES", 4 * (len(BEFORE) + SIZE))
    disk = Disk(monkeypatch)
    assert await received(disk, tmp_path, 20) == files(20)
    assert 4 <= disk.turns <= 5


async def test_behind_one_that_was_waited_for_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disk = Disk(monkeypatch)
    disk.slow = {3, 4, 11}
    assert await received(disk, tmp_path, 20) == files(20)
    assert {0, 4, 5, 12} <= set(disk.looked_for)
    assert disk.turns >= len(disk.slow) - 1  # the first of them only begins to count


async def test_files_that_are_not_in_memory_are_read_by_a_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(output, "WAITED_SECONDS", 60)
    disk = Disk(monkeypatch)
    disk.cold = {0, 1, 2, 5}
    assert await received(disk, tmp_path, 8) == files(8)
    assert disk.read_ahead == [0, 1, 2]  # 5 follows one that was in memory
    assert set(disk.looked_for) == {0, 1, 2, 3}
