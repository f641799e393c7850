"""Uploads in memory and in files."""

import asyncio
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.errors import InternalError, StoreUnavailable
from hounsfield.storage.spool import WRITE_SIZE, Spool, Upload


async def received(spool: Spool, *chunks: bytes) -> Upload:
    upload = spool.receive()
    for chunk in chunks:
        await upload.write(chunk)
    await upload.finish()
    return upload


def spooled_files(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "spool")


async def test_small_uploads_touch_no_disk(spool: Spool, tmp_path: Path) -> None:
    upload = await received(spool, b"a" * 500, b"b" * 500)
    assert upload.size == 1000
    assert upload.path is None
    assert bytes(upload.memory or b"") == b"a" * 500 + b"b" * 500
    assert spooled_files(tmp_path) == []


async def test_large_uploads_go_to_a_file(spool: Spool, tmp_path: Path) -> None:
    upload = await received(spool, b"a" * 500, b"b" * 501, b"c")
    assert upload.size == 1002
    assert upload.memory is None
    assert upload.path is not None
    assert upload.path.read_bytes() == b"a" * 500 + b"b" * 501 + b"c"
    upload.discard()
    assert spooled_files(tmp_path) == []


async def test_memory_of_all_uploads_together_is_bounded(spool: Spool) -> None:
    uploads = [await received(spool, b"x" * 900) for _ in range(7)]
    assert [upload.path is None for upload in uploads] == [True] * 5 + [False] * 2
    for upload in uploads:
        upload.discard()
        upload.discard()
    uploads = [await received(spool, b"x" * 900) for _ in range(6)]
    assert [upload.path is None for upload in uploads] == [True] * 5 + [False]
    for upload in uploads:
        upload.discard()


async def test_memory_is_given_back_when_an_upload_moves_to_a_file(spool: Spool) -> None:
    for _ in range(10):
        assert (await received(spool, b"x" * 900, b"x" * 200)).path is not None
    assert (await received(spool, b"x" * 900)).path is None


@settings(deadline=None, max_examples=40)
@given(
    chunks=st.lists(st.binary(max_size=600), max_size=8),
    ranges=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=5),
    zeroed=st.booleans(),
)
def test_an_upload_reads_like_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], ranges: list[tuple[int, int]], zeroed: bool
) -> None:
    async def check() -> None:
        spool = Spool(tmp_path_factory.getbasetemp() / "hypothesis", memory_limit=1000)
        upload = await received(spool, *chunks)
        data = b"".join(chunks)
        if zeroed:
            upload.zero_preamble()
            data = bytes(min(128, len(data))) + data[128:]
        assert upload.size == len(data)
        for offset, length in [(0, len(data)), *ranges]:
            assert upload.read_at(offset, length) == data[offset : offset + length]
        upload.discard()
        spool.close()

    asyncio.run(check())


async def test_many_writes_arrive_in_order(spool: Spool) -> None:
    pieces = [bytes([number]) * 300_001 for number in range(100)]
    upload = await received(spool, *pieces)
    assert upload.read_at(0, upload.size) == b"".join(pieces)
    upload.discard()


async def test_a_discarded_upload_says_so(spool: Spool) -> None:
    upload = await received(spool, b"x")
    upload.discard()
    with pytest.raises(InternalError):
        _ = upload.memory


async def test_discarding_frees_the_disk_at_once(spool: Spool) -> None:
    """Not only when the last traceback that refers to the file is gone."""
    upload = await received(spool, b"x" * 2000)
    still_held = upload.file
    assert still_held is not None
    upload.discard()
    spool.close()
    assert os.fstat(still_held.number).st_size == 0


async def test_discarding_leaves_alone_what_was_moved_a_moment_ago(spool: Spool, tmp_path: Path) -> None:
    """A cancelled put may rename the file just before the discard, without having said so yet."""
    upload = await received(spool, b"x" * 2000)
    assert upload.path is not None
    upload.path.rename(tmp_path / "moved")
    upload.discard()
    spool.close()
    assert (tmp_path / "moved").read_bytes() == b"x" * 2000


async def test_a_cancelled_write_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    upload = await received(spool, b"x" * 2000)
    gc.collect()  # what earlier tests left open is not to be closed in between
    before = len(os.listdir("/proc/self/fd"))
    writing = asyncio.create_task(upload.write(b"y" * (8 * WRITE_SIZE)))
    await asyncio.sleep(0)
    writing.cancel()
    upload.discard()
    with pytest.raises(asyncio.CancelledError):
        await writing
    spool.close()
    await asyncio.sleep(0)  # the loop hears from the thread
    del upload, writing  # the exception of the task remembers what it was doing
    gc.collect()
    assert spooled_files(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before - 1, "the file is closed once its thread is done"


async def test_a_full_disk_is_told(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device", "/a/path")

    upload = await received(spool, b"x" * 2000)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreUnavailable, match="full"):
        upload.zero_preamble()
    with pytest.raises(StoreUnavailable, match="full"):
        await received(spool, b"x" * 2000)


HOLD = """
import asyncio, sys, time
from pathlib import Path
from hounsfield.storage.spool import Spool

async def main():
    upload = Spool(Path(sys.argv[1]), memory_limit=10).receive()
    await upload.write(b"x" * 100)
    await upload.finish()
    print(upload.path.name, flush=True)
    time.sleep(60)

asyncio.run(main())
"""


def test_files_of_dead_processes_are_swept_and_those_of_living_ones_kept(tmp_path: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "spool")], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    names = [child.stdout.readline().strip() for child in children if child.stdout is not None]
    (tmp_path / "spool" / "not ours").touch()
    children[0].kill()
    children[0].wait()
    assert set(spooled_files(tmp_path)) == {*names, "not ours"}
    Spool(tmp_path / "spool").close()
    assert set(spooled_files(tmp_path)) == {names[1], "not ours"}
    children[1].kill()
    for child in children:
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


async def test_own_files_survive_a_second_spool(spool: Spool, tmp_path: Path) -> None:
    upload = await received(spool, b"x" * 2000)
    Spool(tmp_path / "spool").close()
    assert upload.path is not None
    assert upload.path.exists()
    upload.discard()


RECEIVE_LARGE = """
import asyncio, os, resource, sys
from pathlib import Path
from hounsfield.storage.local import LocalStore
from hounsfield.storage.spool import Spool

async def main():
    spool, store = Spool(Path(sys.argv[1]) / "spool"), LocalStore(Path(sys.argv[1]) / "files")
    chunk, upload = os.urandom(400_000), spool.receive()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(int(sys.argv[2]) // len(chunk)):
        await upload.write(chunk)
    await upload.finish()
    await store.put("a/b", upload)
    upload.discard()
    total = 0
    async for piece in store.get("a/b"):
        total += len(piece)
    print(total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)

asyncio.run(main())
"""


def test_memory_does_not_grow_with_the_upload(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RECEIVE_LARGE, str(tmp_path), "300000000"]
    total, grown = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert total == 300_000_000
    assert grown < 24, "MiB"
