"""Cleanup of deleted files and the sweep of orphans (server.md §12, DESIGN promise 2)."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from hounsfield.archive.admission import StoreRequest
from hounsfield.archive.archive import Archive
from hounsfield.archive.delete import delete
from hounsfield.archive.store import store
from hounsfield.database import migrate
from hounsfield.database.connect import open_database
from hounsfield.errors import StoreUnavailable
from hounsfield.index import deleted_files
from hounsfield.index.instances import InstancePath
from hounsfield.index.partitions import DEFAULT
from hounsfield.operations.cleanup import CleanupOptions, clean_up
from hounsfield.operations.orphans import MAX_ORPHANS, sweep_orphans
from hounsfield.operations.worker import BackgroundWorker
from hounsfield.storage.layout import file_key
from hounsfield.storage.local import LocalStore
from hounsfield.storage.spool import Spool
from tests import factories

NOW = CleanupOptions(
    max_retries=2, retry_back_off=timedelta(0), polling_interval=timedelta(milliseconds=50), batch_size=3
)


class Place:
    """An archive in a folder."""

    def __init__(self, folder: Path, delete_delay: timedelta = timedelta(0)) -> None:
        url = f"sqlite:///{folder / 'index.db'}"
        migrate.upgrade(url)
        self.files = LocalStore(folder / "dicom")
        self.folder = folder / "dicom"
        self.archive = Archive(open_database(url), self.files, delete_delay, 10**8)
        self.spool = Spool(folder / "spool")

    async def store(self, count: int) -> InstancePath:
        """``count`` instances of one new study."""
        study = factories.uid()
        uploads = []
        for _ in range(count):
            upload = self.spool.receive()
            await upload.write(factories.instance(StudyInstanceUID=study))
            await upload.finish()
            uploads.append(upload)
        outcomes = await store(self.archive, uploads, StoreRequest(DEFAULT, 2, None))
        assert all(outcome.path is not None for outcome in outcomes)
        return InstancePath(1, study)

    def on_disk(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    async def queued(self) -> list[tuple[int, ...]]:
        return await self.archive.database.fetch("SELECT retry_count FROM deleted_file")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    yield made
    await made.archive.database.close()
    await made.files.close()
    made.spool.close()


async def test_files_of_deleted_instances_go_and_others_stay(place: Place) -> None:
    gone, kept = await place.store(7), await place.store(2)
    await delete(place.archive, gone)
    assert len(place.on_disk()) == 9
    assert await clean_up(place.archive.database, place.files, NOW) == 7
    left = place.on_disk()
    assert len(left) == 2 and all(kept.study_uid in str(path) for path in left)
    assert await place.queued() == []


async def test_nothing_goes_before_the_delay_is_over(tmp_path: Path) -> None:
    place = Place(tmp_path, delete_delay=timedelta(days=3))
    await delete(place.archive, await place.store(2))
    assert await clean_up(place.archive.database, place.files, NOW) == 0
    assert len(place.on_disk()) == 2
    await place.archive.database.close()
    await place.files.close()
    place.spool.close()


async def test_a_file_that_cannot_be_removed_is_retried_and_then_given_up(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await delete(place.archive, await place.store(1))

    async def refuse(keys: object) -> None:
        raise StoreUnavailable("The object store does not answer.")

    with monkeypatch.context() as broken:
        broken.setattr(place.files, "delete_many", refuse)
        for _ in range(5):
            await clean_up(place.archive.database, place.files, NOW)
    assert await place.queued() == [(3,)]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "CRITICAL"]
    assert len(place.on_disk()) == 1


async def test_a_file_that_could_not_be_removed_rests_for_the_back_off(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await delete(place.archive, await place.store(1))
    options = replace(NOW, retry_back_off=timedelta(hours=1))

    async def refuse(keys: object) -> None:
        raise StoreUnavailable("The object store does not answer.")

    with monkeypatch.context() as broken:
        broken.setattr(place.files, "delete_many", refuse)
        assert await clean_up(place.archive.database, place.files, options) == 0
    assert await clean_up(place.archive.database, place.files, options) == 0
    assert len(place.on_disk()) == 1
    in_an_hour = time.time_ns() // 1000 + 3_600_000_000
    assert await deleted_files.due(place.archive.database, in_an_hour - 60_000_000, 2, 1) == []
    assert len(await deleted_files.due(place.archive.database, in_an_hour, 2, 1)) == 1


async def test_a_failure_nobody_foresaw_keeps_no_other_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await delete(place.archive, await place.store(5))
    real = place.files.delete_many
    (first, *_) = await deleted_files.due(place.archive.database, time.time_ns() // 1000, 5, 1)

    async def stumble(keys: list[str]) -> None:
        if first.file_key in keys:
            raise ValueError("on purpose")
        await real(keys)

    with monkeypatch.context() as broken:
        broken.setattr(place.files, "delete_many", stumble)
        assert await clean_up(place.archive.database, place.files, NOW) == 4
    assert await place.queued() == [(3,)]


async def test_a_database_that_fails_in_between_does_no_harm(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are gone and their rows are not; the next round finds nothing to remove, and is content."""
    await delete(place.archive, await place.store(2))

    async def away(database: object, files: object) -> None:
        raise StoreUnavailable("The database is away.")

    with monkeypatch.context() as broken:
        broken.setattr(deleted_files, "removed", away)
        with pytest.raises(StoreUnavailable):
            await clean_up(place.archive.database, place.files, NOW)
    assert place.on_disk() == []
    assert await place.queued() == [(0,), (0,)]
    assert await clean_up(place.archive.database, place.files, NOW) == 2
    assert await place.queued() == []


async def test_only_old_files_nobody_refers_to_are_orphans(place: Place) -> None:
    await place.store(1)
    await delete(place.archive, await place.store(1))
    for age in (0, 24 * 24 * 3600):
        key = file_key("Microsoft.Default", "1.2", "1.2.3", factories.uid())
        await place.files.put(key, b"left behind")
        os.utime(place.folder / key, (time.time() - age, time.time() - age))
    for path in place.on_disk()[:]:
        if "1.2.3" not in path.parts:
            os.utime(path, (time.time() - 24 * 24 * 3600, time.time() - 24 * 24 * 3600))
    assert await sweep_orphans(place.archive.database, place.files) == 1
    assert await sweep_orphans(place.archive.database, place.files) == 0
    assert await clean_up(place.archive.database, place.files, NOW) == 2
    assert len(place.on_disk()) == 2


async def test_an_index_older_than_its_files_loses_none(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    long_ago = time.time() - 30 * 24 * 3600
    for _ in range(MAX_ORPHANS + 1):
        key = file_key("Microsoft.Default", "1.2", "1.2.3", factories.uid())
        await place.files.put(key, b"stored after the backup")
        os.utime(place.folder / key, (long_ago, long_ago))
    assert await sweep_orphans(place.archive.database, place.files) == 0
    assert await place.queued() == []
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]


async def test_the_worker_survives_a_failing_round_and_one_works_at_a_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []
    stop = asyncio.Event()
    workers = [BackgroundWorker(place.archive.database, place.files, NOW) for _ in range(2)]
    for number, worker in enumerate(workers):

        async def one_round(number: int = number) -> None:
            rounds.append(number)
            raise RuntimeError("on purpose")

        monkeypatch.setattr(worker, "_round", one_round)
    tasks = [asyncio.create_task(worker.run(stop)) for worker in workers]
    while len(rounds) < 4:
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*tasks)
    assert len(set(rounds)) == 1


async def test_the_worker_cleans_up(place: Place) -> None:
    await delete(place.archive, await place.store(4))
    stop = asyncio.Event()
    task = asyncio.create_task(BackgroundWorker(place.archive.database, place.files, NOW).run(stop))
    for _ in range(200):
        if not place.on_disk():
            break
        await asyncio.sleep(0.05)
    stop.set()
    await task
    assert place.on_disk() == []
