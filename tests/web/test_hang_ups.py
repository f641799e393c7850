"""What a retrieval leaves behind in its process when the client goes, or the server cancels it, at any message."""

import asyncio
import gc
import inspect
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit
from starlette.requests import Request

from hounsfield.archive.admission import StoreRequest
from hounsfield.archive.archive import Archive
from hounsfield.archive.store import store
from hounsfield.database.migrate import upgrade
from hounsfield.database.sqlite import SqliteDatabase
from hounsfield.index.partitions import DEFAULT
from hounsfield.storage.local import LocalStore
from hounsfield.storage.spool import Spool
from hounsfield.web.retrieve import retrieve_routes
from hounsfield.web.versions import ApiVersion
from tests import factories
from tests.acceptance import dicomweb

TIMES = 1000


class Away(Exception):
    """The client is."""


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    upgrade(f"sqlite:///{tmp_path / 'index.db'}")
    archive = Archive(SqliteDatabase(tmp_path / "index.db"), LocalStore(tmp_path / "dicom"), timedelta(0), 1 << 30)
    yield archive
    await archive.files.close()
    await archive.database.close()


async def study(archive: Archive, directory: Path) -> tuple[str, list[str]]:
    """The UID of a study of small, large, many-framed and compressed instances, and paths of its instances."""
    first = factories.dataset(Rows=64, Columns=64, PixelData=bytes(range(256)) * 32)
    large = dicomweb.sibling(first, PixelData=bytes(range(256)) * 20_000)
    frames = dicomweb.sibling(first, NumberOfFrames=40, Rows=128, Columns=128, PixelData=bytes(range(256)) * 128 * 40)
    jpeg = dicomweb.sibling(first, NumberOfFrames=9, PixelData=encapsulate([bytes(range(200)) * 99] * 9))
    jpeg["PixelData"].is_undefined_length = True
    many = [dicomweb.sibling(first, PixelData=None) for _ in range(260)]
    files = [factories.part10(ds) for ds in (first, large, frames, *many)]
    files.append(factories.part10(jpeg, JPEGBaseline8Bit))
    spool = Spool(directory)
    uploads = []
    for file in files:
        uploads.append(spool.receive())
        await uploads[-1].write(file)
        await uploads[-1].finish()
    outcomes = await store(archive, uploads, StoreRequest(DEFAULT, 2, None))
    assert all(outcome.failure is None for outcome in outcomes)
    spool.close()
    return first.StudyInstanceUID, [
        f"/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}" for ds in (first, large, frames, jpeg)
    ]


async def asked(archive: Archive, path: str, query: str, accept: str, cut: int | None, *, cancel: bool) -> int:
    """Sends a request into the routes; after ``cut`` messages the client goes. How many messages it took."""
    for route in retrieve_routes(archive):
        match, child = route.matches({"type": "http", "method": "GET", "path": path, "root_path": ""})
        if match.name == "FULL":
            break
    messages = 0
    task = asyncio.current_task()
    assert task is not None

    async def send(message: Any) -> None:
        nonlocal messages
        if messages == cut:
            if not cancel:
                raise Away
            task.cancel()
        messages += 1
        await asyncio.sleep(0)

    async def receive() -> Any:
        await asyncio.sleep(3600)

    headers = [line.split(": ", 1) for line in f"accept: {accept}".split("\n")]
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in [*headers, ("host", "h")]],
        "hounsfield.partition": DEFAULT,
        "hounsfield.partition_name": None,
        "hounsfield.version": ApiVersion(2, "v2"),
        **child,
    }
    response = await route.handle_request(Request(scope, receive, send))
    await response(scope, receive, send)
    return messages


def left() -> SimpleNamespace:
    """What there is in the process."""
    gc.collect()
    generators = [each.ag_code.co_qualname for each in gc.get_objects() if inspect.isasyncgen(each)]
    files = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            files.append(str(each.readlink()))
    # SQLite has a connection for each of a few threads, some of which start late.
    files = sorted(file for file in files if "index.db" not in file)
    return SimpleNamespace(tasks=len(asyncio.all_tasks()), files=files, generators=sorted(generators))


@pytest.mark.slow
async def test_nothing_is_left(archive: Archive, tmp_path: Path) -> None:
    uid, (first, large, frames, jpeg) = await study(archive, tmp_path / "spool")
    root = f"/studies/{uid}"
    anything = "*/*\naccept-encoding: "
    kinds = [
        (root, "", dicomweb.ORIGINALS),
        (root, "", "application/zip"),
        (f"{root}{large}", "", dicomweb.ORIGINAL),
        (f"{root}{large}", "", dicomweb.ORIGINAL + "\nrange: bytes=100-3000000"),
        (f"{root}{frames}/frames/{','.join(map(str, range(1, 41)))}", "", dicomweb.FRAMES),
        (f"{root}/metadata", "", "*/*"),
        (f"{root}/metadata", "", f"{anything}gzip"),
        (f"{root}/metadata", "", f"{anything}zstd"),
        (f"{root}{first}/metadata", "bulkdata=inline", "*/*"),
        (f"{root}/metadata", "bulkdata=uri", f"{anything}gzip"),
        (f"{root}/bulkdata", "", "*/*"),
        (f"{root}{large}/bulkdata/7FE00010", "", "*/*"),
        (f"{root}{jpeg}/bulkdata/7FE00010", "", "*/*"),
    ]
    lengths = [await asked(archive, *kind, None, cancel=False) for kind in kinds]
    assert min(lengths) > 1
    rng = random.Random(5)

    async def storm(times: int) -> int:
        """How many were interrupted."""
        interrupted = 0
        for number in range(times):
            kind, length = kinds[number % len(kinds)], lengths[number % len(kinds)]
            one = asyncio.create_task(asked(archive, *kind, rng.randrange(length), cancel=rng.random() < 0.5))
            if rng.random() < 0.3:  # not while sending but somewhere in between
                for _ in range(rng.randrange(20)):
                    await asyncio.sleep(0)
                one.cancel()
            try:
                await one
            except (Away, asyncio.CancelledError):
                interrupted += 1
        return interrupted

    await storm(200)  # threads and connections that stay
    await asyncio.sleep(0.2)
    before = left()
    assert await storm(TIMES) > TIMES * 0.9
    for _ in range(50):  # threads end what they have begun
        await asyncio.sleep(0.05)
        if left() == before:
            break
    assert left() == before
    assert [await asked(archive, *kind, None, cancel=False) for kind in kinds] == lengths
