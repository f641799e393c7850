"""What stands in the way of recompression costs no more than the saving."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, HTJ2KLossless

from hounsfield.archive.admission import Outcome, StoreRequest
from hounsfield.archive.archive import Archive, Recompression
from hounsfield.archive.codec_processes import CodecProcesses, Limits
from hounsfield.archive.recompression import recompress_file
from hounsfield.archive.store import store
from hounsfield.archive.transcoding import transcode_file
from hounsfield.database.migrate import upgrade
from hounsfield.database.sqlite import SqliteDatabase
from hounsfield.errors import StoreUnavailable
from hounsfield.index import statistics
from hounsfield.index.partitions import DEFAULT
from hounsfield.storage.local import LocalStore
from hounsfield.storage.object_store import Source
from hounsfield.storage.spool import Spool
from tests import factories


class PickyStore(LocalStore):
    """Refuses keys with a certain ending."""

    refused = "nothing"

    async def put(self, key: str, source: Source, written: Callable[[], None] | None = None) -> None:
        if key.endswith(self.refused):
            raise StoreUnavailable("The object store is full.")
        await super().put(key, source, written)


@dataclass
class Place:
    archive: Archive
    files: PickyStore
    directory: Path

    async def store(self, size: int) -> tuple[list[Outcome], bytes]:
        """One image of so many bytes that compresses well."""
        file = factories.instance(Rows=10, Columns=size // 20, PixelData=bytes(size))
        assert self.archive.spool is not None
        upload = self.archive.spool.receive()
        await upload.write(file)
        await upload.finish()
        return await store(self.archive, [upload], StoreRequest(DEFAULT, 2, None)), file

    def stored(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.directory / "dicom").rglob("*.dcm")]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Place]]:
    upgrade(f"sqlite:///{tmp_path / 'index.db'}")
    database, files = SqliteDatabase(tmp_path / "index.db"), PickyStore(tmp_path / "dicom")
    # Small enough for some uploads to go through files.
    spool = Spool(tmp_path / "spool", memory_limit=50_000)
    options = Recompression(keep_original=True, minimum_bytes=0, turns=asyncio.Semaphore(1))
    archive = Archive(database, files, timedelta(0), 10**8, spool=spool, recompression=options)
    used: list[CodecProcesses] = []

    def made(**limits: float) -> Place:
        used.append(CodecProcesses(Limits(**limits)))  # type: ignore[arg-type]
        return Place(replace(archive, codecs=used[-1]), files, tmp_path)

    yield made
    for codecs in used:
        await codecs.close()
    assert not list((tmp_path / "spool").iterdir())
    spool.close()
    await files.close()
    await database.close()


SIZES = pytest.mark.parametrize("size", [20_000, 200_000])
"""Through memory, and through files."""


@SIZES
async def test_nothing_in_the_way(make: Callable[..., Place], size: int) -> None:
    place = make()
    (outcome,), file = await place.store(size)
    assert outcome.path is not None
    assert len(place.stored()) == 2
    assert file in place.stored()
    assert min(len(content) for content in place.stored()) < len(file) / 2


@SIZES
@pytest.mark.parametrize("limits", [{"seconds": 0.001}, {"waiting": 0}, {"memory_bytes": 1 << 20}])
async def test_codecs_that_do_not_answer(make: Callable[..., Place], size: int, limits: dict[str, float]) -> None:
    place = make(**limits)
    (outcome,), file = await place.store(size)
    assert outcome.path is not None
    assert place.stored() == [file]
    assert (await statistics.count(place.archive.database)).recompressed == 0


@SIZES
@pytest.mark.parametrize(("by", "recompressed"), [(signal.SIGSEGV, 0), (signal.SIGKILL, 1)])
async def test_a_codec_process_that_dies(make: Callable[..., Place], size: int, by: int, recompressed: int) -> None:
    """Of a file it cannot read, or because somebody else ended it: then another does the work."""
    place = make()
    task = asyncio.create_task(place.store(size))
    while not (pids := place.archive.codecs.pids):
        await asyncio.sleep(0.001)
    os.kill(pids[0], by)
    (outcome,), file = await task
    assert outcome.path is not None
    assert file in place.stored()
    assert (await statistics.count(place.archive.database)).recompressed == recompressed


@SIZES
@pytest.mark.parametrize("refused", [".dcm", ".original.dcm"])
async def test_a_file_that_finds_no_room(make: Callable[..., Place], size: int, refused: str) -> None:
    place = make()
    place.files.refused = refused
    with pytest.raises(StoreUnavailable):
        await place.store(size)
    assert place.stored() == []
    assert (await statistics.count(place.archive.database)).instances == 0


@SIZES
async def test_a_client_that_hangs_up(make: Callable[..., Place], size: int) -> None:
    place = make()
    task = asyncio.create_task(place.store(size))
    while not place.archive.codecs.pids:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert place.stored() == []


@pytest.mark.parametrize("recompress", [False, True])
def test_nothing_is_left_of_what_a_killed_codec_process_wrote(tmp_path: Path, recompress: bool) -> None:
    source, clean, dirty = tmp_path / "source", tmp_path / "clean", tmp_path / "dirty"
    source.write_bytes(factories.instance(Rows=10, Columns=1_000, PixelData=bytes(20_000)))
    clean.touch()
    dirty.write_bytes(b"?" * 30_000)
    for out in (clean, dirty):
        if recompress:
            recompress_file(str(source), str(out), ExplicitVRLittleEndian, 10**8)
        else:
            transcode_file(str(source), str(out), ExplicitVRLittleEndian, HTJ2KLossless, 10**8)
    assert 0 < clean.stat().st_size < 20_000
    assert dirty.read_bytes() == clean.read_bytes()
