"""What a search costs those who ask for something else."""

import threading
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from hounsfield.archive import search
from hounsfield.archive.admission import StoreRequest
from hounsfield.archive.archive import Archive
from hounsfield.archive.search import SearchRequest
from hounsfield.archive.store import store
from hounsfield.database.migrate import upgrade
from hounsfield.database.sqlite import SqliteDatabase
from hounsfield.index.fragments import unpack
from hounsfield.index.instances import Level
from hounsfield.index.partitions import DEFAULT
from hounsfield.storage.local import LocalStore
from hounsfield.storage.spool import Spool
from tests import factories

NUMBER_OF_FRAMES = "00280008"


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    upgrade(f"sqlite:///{tmp_path / 'index.db'}")
    database, files = SqliteDatabase(tmp_path / "index.db"), LocalStore(tmp_path / "dicom")
    yield Archive(database, files, delete_delay=timedelta(0), max_transcoded_bytes=10**8)
    await files.close()
    await database.close()


@pytest.mark.parametrize(("characters", "at_once"), [(1_000, True), (5_000_000, False)])
async def test_large_metadata_are_looked_through_beside_the_event_loop(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, characters: int, at_once: bool
) -> None:
    """However little room they take compressed."""
    ds = factories.dataset(NumberOfFrames=1)
    ds.add_new("TextValue", "UT", "x" * characters)
    spool = Spool(tmp_path / "spool")
    upload = spool.receive()
    await upload.write(factories.part10(ds))
    await upload.finish()
    (outcome,) = await store(archive, [upload], StoreRequest(DEFAULT, 2, None))
    assert outcome.failure is None
    spool.close()
    on_loop: list[bool] = []

    def unpacking(fragments: Iterable[bytes]) -> bytes:
        on_loop.append(threading.current_thread() is threading.main_thread())
        return unpack(fragments)

    monkeypatch.setattr(search, "unpack", unpacking)
    request = SearchRequest(
        level=Level.INSTANCE, api_version=2, partition_key=DEFAULT.key, study_uid=ds.StudyInstanceUID, series_uid=None,
        conditions=(), filtered=frozenset(), include=frozenset({NUMBER_OF_FRAMES}), include_all=False, limit=10,
        offset=0, before=None, service_root="",
    )  # fmt: skip
    page = await search.find(archive, request)
    assert [NUMBER_OF_FRAMES in dataset for dataset in page.datasets] == [True]
    assert on_loop == [at_once]
