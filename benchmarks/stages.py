"""Where the processor time of storing goes: the stages of one store, each run by itself with the server's own code.

Processor time is that of all threads of this process, the kernel's work for them included; waiting is not in it. What a
running server needs beyond the stages is HTTP, the event loop, handing work from thread to thread, and DICOM Cast.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.studies import CT, LARGE, SMALL, Instance, Kind, Series
from hounsfield.archive.index_values import series_values, study_values
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database, Transaction
from hounsfield.database.migrate import ensure
from hounsfield.dicom.json_model import metadata_json
from hounsfield.dicom.part10 import read_instance
from hounsfield.dicom.validation import validate_for_store
from hounsfield.index import new_instances, next_instance
from hounsfield.index.fragments import pack
from hounsfield.index.instances import InstancePath
from hounsfield.index.new_instances import NewInstance
from hounsfield.storage.spool import Spool, Upload
from hounsfield.web.multipart import MultipartReader, PartData

CHUNK_BYTES = 64 * 1024
"""Bytes of a body that arrive together, about as the HTTP server gives them."""
KINDS = (("8 KB", SMALL, 300), ("512 KB", CT, 300), ("30 MB", LARGE, 20))
"""Title, kind, and how many instances are stored."""
STAGES = ("multipart", "parse and validate", "write and rename", "fsync", "commit")


@dataclass(frozen=True)
class Cost:
    """Medians of one stage in milliseconds an instance."""

    processor: float
    elapsed: float


@dataclass(frozen=True)
class Stages:
    """The stages of one kind of instance, in their order."""

    title: str
    costs: dict[str, Cost]


class _Clock:
    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[float, float]]] = {stage: [] for stage in STAGES}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        processor, elapsed = time.process_time(), time.perf_counter()
        yield
        self._samples[name].append((time.process_time() - processor, time.perf_counter() - elapsed))

    def costs(self) -> dict[str, Cost]:
        return {
            name: Cost(*(1e3 * statistics.median(values) for values in zip(*samples, strict=True)))
            for name, samples in self._samples.items()
        }


def measure(directory: Path, seed: int, *, large: bool) -> list[Stages]:
    """The stages by kind of instance, ``large`` ones too, with files and database below ``directory``."""
    directory.mkdir(parents=True)
    url = f"sqlite:///{directory / 'index.db'}"
    ensure(url)
    return [
        Stages(title, asyncio.run(_measure(directory, url, kind, seed, count)))
        for title, kind, count in KINDS
        if large or kind is not LARGE
    ]


async def _measure(directory: Path, url: str, kind: Kind, seed: int, count: int) -> dict[str, Cost]:
    spool = Spool(directory / "spool")
    database = open_database(url)
    series = Series(kind, seed, 70_000_000)
    clock = _Clock()
    try:
        for number in range(count):
            await _store(directory, spool, database, series.instance(number), clock)
    finally:
        spool.close()
        await database.close()
    return clock.costs()


async def _store(directory: Path, spool: Spool, database: Database, instance: Instance, clock: _Clock) -> None:
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n%s\r\n--b--\r\n" % instance.file()
    chunks = [body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES)]
    upload = spool.receive()
    with clock.stage("multipart"):
        await _receive(chunks, upload)
    with clock.stage("parse and validate"):
        new = _prepare(upload)
    with clock.stage("write and rename"):
        descriptor = os.open(directory / "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.writev(descriptor, [instance.head, instance.pixels])
        os.rename(directory / "new", directory / f"{instance.sop}.dcm")
    with clock.stage("fsync"):
        os.fsync(descriptor)
    os.close(descriptor)

    async def unit(tx: Transaction) -> list[bool]:
        return [version is not None for version in await new_instances.add(tx, [new], time.time_ns() // 1000)]

    with clock.stage("commit"):
        commit = database.pending(unit, next_instance.adding(new, 0))
        commit.begin()
        await commit.result()
    upload.discard()


async def _receive(chunks: Sequence[bytes], upload: Upload) -> None:
    reader = MultipartReader(b"b")
    for chunk in chunks:
        for event in reader.feed(chunk):
            if isinstance(event, PartData):
                await upload.write(event.data)
    await upload.finish()


def _prepare(upload: Upload) -> NewInstance:
    """What the server knows of an instance before it stores it."""
    found = read_instance(upload)
    verdict = validate_for_store(found, api_version=2, expected_study=None, full=False)
    uids = [found.first(key) or "" for key in ("0020000D", "0020000E", "00080018")]
    return NewInstance(
        path=InstancePath(1, *uids),
        transfer_syntax=found.transfer_syntax,
        file_key="/".join(uids),
        file_size=upload.size,
        study=study_values(verdict.dataset),
        series=series_values(verdict.dataset),
        metadata=pack(metadata_json(verdict.dataset)),
        frames=None if found.frames is None else found.frames.to_bytes(),
    )
