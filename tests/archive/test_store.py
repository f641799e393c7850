"""Store when the database or the object store fails underneath (store.md §§5, 6)."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from hounsfield.archive import admission
from hounsfield.archive.admission import FailureReason, Outcome, StoreRequest
from hounsfield.archive.archive import Archive
from hounsfield.archive.store import GROUP, store
from hounsfield.database.engine import PendingWrite, Row, Shortcut, Transaction, Unit, Value
from hounsfield.database.migrate import upgrade
from hounsfield.database.sqlite import SqliteDatabase
from hounsfield.dicom import part10
from hounsfield.errors import StoreUnavailable
from hounsfield.index import feed
from hounsfield.index.partitions import DEFAULT
from hounsfield.storage.local import LocalStore
from hounsfield.storage.object_store import Source
from hounsfield.storage.spool import Spool, Upload
from tests import factories

T = TypeVar("T")

FAILED, DUPLICATE = FailureReason.PROCESSING_FAILURE, FailureReason.ALREADY_EXISTS


class FragileStore(LocalStore):
    """Local files that refuse what a test names."""

    refused: frozenset[str] = frozenset()
    """SOP Instance UIDs that cannot be written."""
    deletes = True
    settles = True
    settled = 0
    """How many names are on disk for certain."""
    placed = 0
    """How many files were written."""

    async def put(self, key: str, source: Source, written: Callable[[], None] | None = None) -> None:
        if any(f"/{sop}_" in key for sop in self.refused):
            raise StoreUnavailable("The disk is full.")
        self.placed += 1
        await super().put(key, source, written)
        await asyncio.sleep(0.05)
        if not self.settles:
            raise StoreUnavailable("The disk is broken.")
        self.settled += 1

    async def delete_many(self, keys: Iterable[str]) -> None:
        if not self.deletes:
            raise StoreUnavailable("The object store does not answer.")
        await super().delete_many(keys)


class FragileDatabase(SqliteDatabase):
    """A database that stops writing when told to."""

    writes = True
    undone = False
    """Whether it is certain that a failed write saved nothing."""
    reads = 1_000_000
    """How many statements are answered before reading fails."""
    commits = 1_000_000
    """How many writes succeed before it goes away."""

    async def fetch(self, sql: str, *values: Value, quick: bool = False) -> list[Row]:
        self.reads -= 1
        if self.reads < 0:
            raise StoreUnavailable("The database is away.")
        return await super().fetch(sql, *values, quick=quick)

    def pending(self, unit: Unit[T], shortcut: Shortcut[T] | None = None) -> PendingWrite[T]:
        async def fragile(tx: Transaction) -> T:
            self.commits -= 1
            if not self.writes or self.commits < 0:
                raise StoreUnavailable("The database is away.", undone=self.undone)
            return await unit(tx)

        return super().pending(fragile)


@dataclass
class Fragile:
    """An archive whose parts can be made to fail."""

    archive: Archive
    files: FragileStore
    database: FragileDatabase
    spool: Spool
    directory: Path

    async def store(self, *datasets: Dataset) -> list[Outcome]:
        uploads = [await self.upload(ds) for ds in datasets]
        return await store(self.archive, uploads, StoreRequest(DEFAULT, 2, None))

    async def upload(self, ds: Dataset) -> Upload:
        upload = self.spool.receive()
        await upload.write(factories.part10(ds))
        await upload.finish()
        return upload

    async def visible(self) -> set[str]:
        return {row[0] for row in await self.database.fetch("SELECT sop_uid FROM instance")}

    def stored_files(self) -> list[str]:
        """SOP Instance UIDs of the files there are."""
        return sorted(path.name.rpartition("_")[0] for path in (self.directory / "dicom").rglob("*.dcm"))


@pytest.fixture
async def fragile(tmp_path: Path) -> AsyncIterator[Fragile]:
    upgrade(f"sqlite:///{tmp_path / 'index.db'}")
    database, files = FragileDatabase(tmp_path / "index.db"), FragileStore(tmp_path / "dicom")
    archive = Archive(database, files, delete_delay=timedelta(0), max_transcoded_bytes=10**8)
    # Small enough for some uploads to go through files.
    spool = Spool(tmp_path / "spool", memory_limit=2000)
    yield Fragile(archive, files, database, spool, tmp_path)
    assert not list((tmp_path / "spool").iterdir())
    spool.close()
    await files.close()
    await database.close()


def some(count: int) -> list[Dataset]:
    return [factories.dataset(PixelData=bytes(number % 2 * 4000)) for number in range(count)]


async def test_one_file_that_cannot_be_written_fails_alone(fragile: Fragile) -> None:
    datasets = some(4)
    fragile.files.refused = frozenset({datasets[1].SOPInstanceUID})
    outcomes = await fragile.store(*datasets)
    assert [outcome.failure for outcome in outcomes] == [None, FAILED, None, None]
    assert [outcome.path is None for outcome in outcomes] == [False, True, False, False]
    kept = {ds.SOPInstanceUID for ds in datasets} - fragile.files.refused
    assert await fragile.visible() == kept
    assert set(fragile.stored_files()) == kept
    assert await feed.latest_sequence(fragile.database) == 3
    # The failure is over: the instance can be sent again.
    fragile.files.refused = frozenset()
    assert [outcome.failure for outcome in await fragile.store(*datasets)] == [DUPLICATE, None, DUPLICATE, DUPLICATE]


async def test_if_nothing_can_be_written_the_whole_request_fails(fragile: Fragile) -> None:
    datasets = some(3)
    fragile.files.refused = frozenset(ds.SOPInstanceUID for ds in datasets)
    with pytest.raises(StoreUnavailable):
        await fragile.store(*datasets)
    assert await fragile.visible() == set()
    assert fragile.stored_files() == []


@pytest.mark.parametrize("count", [1, 3])
async def test_nobody_is_told_before_the_names_of_the_files_are_on_disk(fragile: Fragile, count: int) -> None:
    assert [outcome.failure for outcome in await fragile.store(*some(count))] == [None] * count
    assert fragile.files.settled == count
    fragile.files.settles = False
    with pytest.raises(StoreUnavailable, match="disk is broken"):
        await fragile.store(*some(count))


async def test_a_database_that_fails_makes_nothing_visible(fragile: Fragile) -> None:
    datasets = some(3)
    fragile.database.writes = False
    with pytest.raises(StoreUnavailable):
        await fragile.store(*datasets)
    assert await fragile.visible() == set()
    # One of them may be visible yet: the commit may have gone through before the connection broke.
    assert len(fragile.stored_files()) == 3
    fragile.database.writes = True
    # The files of the failed request may lie about; they are not in the way.
    assert [outcome.failure for outcome in await fragile.store(*datasets)] == [None] * 3
    assert await feed.latest_sequence(fragile.database) == 3


@pytest.mark.parametrize("deletes", [True, False])
async def test_a_write_that_is_certainly_undone_leaves_no_files(fragile: Fragile, deletes: bool) -> None:
    """As on a full disk, which would be fuller with every attempt."""
    fragile.database.writes, fragile.database.undone, fragile.files.deletes = False, True, deletes
    with pytest.raises(StoreUnavailable, match="database is away"):
        await fragile.store(*some(3))
    assert len(fragile.stored_files()) == (0 if deletes else 3)


async def test_a_failure_of_one_group_leaves_the_others(fragile: Fragile) -> None:
    datasets = some(GROUP + 2)
    fragile.files.refused = frozenset(ds.SOPInstanceUID for ds in datasets[:GROUP])
    outcomes = await fragile.store(*datasets)
    assert [outcome.failure for outcome in outcomes] == [FAILED] * GROUP + [None] * 2


async def test_a_database_that_goes_away_leaves_what_is_stored(fragile: Fragile) -> None:
    datasets = some(GROUP + 3)
    fragile.database.commits = 1
    outcomes = await fragile.store(*datasets)
    assert [outcome.failure for outcome in outcomes] == [None] * GROUP + [FAILED] * 3
    assert [outcome.sop_instance_uid for outcome in outcomes] == [ds.SOPInstanceUID for ds in datasets]
    assert await fragile.visible() == {ds.SOPInstanceUID for ds in datasets[:GROUP]}
    with pytest.raises(StoreUnavailable):
        await fragile.store(*some(2))


async def test_an_instance_that_cannot_be_looked_for_fails_alone(fragile: Fragile) -> None:
    datasets = some(3)
    fragile.database.reads = 0
    outcomes = await fragile.store(*datasets)
    fragile.database.reads = 1_000_000
    assert [outcome.failure for outcome in outcomes] == [FAILED, None, None]
    assert await fragile.visible() == {ds.SOPInstanceUID for ds in datasets[1:]}


async def test_what_is_sent_again_is_written_in_vain_at_most_once(fragile: Fragile) -> None:
    studies = [[factories.dataset(StudyInstanceUID=uid) for _ in range(4)] for uid in (generate_uid(), generate_uid())]
    for datasets in studies:
        assert [outcome.failure for outcome in await fragile.store(*datasets)] == [None] * 4
    fragile.files.placed = 0
    for ds in studies[0]:
        assert [outcome.failure for outcome in await fragile.store(ds)] == [DUPLICATE]
    assert fragile.files.placed == 1
    # Of several in one request the first is looked for.
    assert [outcome.failure for outcome in await fragile.store(*studies[1])] == [DUPLICATE] * 4
    assert fragile.files.placed == 1
    assert len(fragile.stored_files()) == 8
    assert await feed.latest_sequence(fragile.database) == 8


async def test_a_mistake_of_ours_costs_one_instance(
    fragile: Fragile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    datasets = some(3)
    ds = datasets[1]
    real = part10.read_instance
    unlucky = ds.SOPInstanceUID.encode()

    def stumble(upload: Upload, *, only_short: bool) -> part10.Instance:
        if unlucky in upload.read_at(0, upload.size):
            raise ValueError(str(ds.PatientName))
        return real(upload, only_short=only_short)

    monkeypatch.setattr(admission, "read_instance", stumble)
    outcomes = await fragile.store(*datasets)
    assert [outcome.failure for outcome in outcomes] == [None, FAILED, None]
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "ValueError" in record.getMessage()
    assert "Doe" not in caplog.text


@pytest.mark.parametrize("deletes", [True, False])
async def test_the_file_of_a_duplicate_goes_and_its_neighbours_are_stored_even_if_it_cannot(
    fragile: Fragile, deletes: bool
) -> None:
    first, second = some(2)
    fragile.files.deletes = deletes
    outcomes = await fragile.store(first, first, second)
    assert [outcome.failure for outcome in outcomes] == [None, DUPLICATE, None]
    assert [outcome.path is None for outcome in outcomes] == [False, True, False]
    kept = [first.SOPInstanceUID, second.SOPInstanceUID]
    assert fragile.stored_files() == sorted(kept if deletes else [*kept, first.SOPInstanceUID])
    assert await fragile.visible() == set(kept)


async def test_headers_that_take_long_are_read_beside_the_event_loop(
    fragile: Fragile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else would be answered while one client's file is read."""
    read: list[bool] = []

    def reading(*arguments: Any, **options: Any) -> Any:
        found = original(*arguments, **options)
        read.append(threading.current_thread() is threading.main_thread())
        return found

    original = part10.read_instance
    monkeypatch.setattr(admission, "read_instance", reading)
    long = factories.dataset()
    for number in range(3_000):
        long.add_new(0x00290010 + number, "LO", "")
    for ds, at_once in ((factories.dataset(), True), (long, False)):
        (outcome,) = await fragile.store(ds)
        assert outcome.failure is None
        assert read == [at_once]
        read.clear()
