"""Trying again what was skipped: through the same pipeline, once, whatever happens in between."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hounsfield.cast import error_tables, replay
from hounsfield.cast.error_tables import RETRYABLE
from hounsfield.cast.failure import Table
from hounsfield.cast.feed import FeedPage, FeedUnreadable
from hounsfield.cast.journal import Journal
from hounsfield.cast.replay import Replay
from hounsfield.cast.state import CastState
from hounsfield.cast.synchroniser import Synchroniser
from hounsfield.cast.worker import CastWorker
from hounsfield.database.engine import Database
from hounsfield.fhir.embedded import EmbeddedTarget
from tests.cast.conftest import OPTIONS, ROOT, Cast
from tests.cast.faulty_target import FaultyTarget, status
from tests.cast.fhir_content import content, instances, only, resources
from tests.cast.filed_errors import counts, rows
from tests.cast.memory_archive import OTHER_STUDY, A, B, C, MemoryArchive, ct
from tests.cast.test_worker import running, until


async def work_off(archive: MemoryArchive, target: Any, database: Database, **changes: Any) -> None:
    """Every request, as the worker does it."""
    state = CastState(database)
    journal = Journal(state, target.endpoint, ROOT)
    await journal.resume()
    options = replace(OPTIONS, **changes)
    replaying = Replay(archive, database, Synchroniser(target, state, journal, options, lambda: None), options)
    while await replaying.page():
        pass


async def test_what_succeeds_leaves_its_table_and_the_position_stays(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, cast: Cast
) -> None:
    for uids in (A, B, OTHER_STUDY):
        archive.store(uids, ct())
    faulty.poison = {f"'{A[2]}'": status(400), f"'{OTHER_STUDY[2]}'": status(422)}
    state = await cast(archive, faulty)
    assert await counts(state) == {"FHIR_FAIL": 2}
    faulty.poison = {}
    assert await error_tables.request_retry(database, RETRYABLE, "") == 2
    assert [request.table for request in (await state.status()).retries] == [Table.FHIR_FAIL]
    await work_off(archive, faulty, database)
    assert await counts(state) == {}
    assert await state.position() == 3
    assert (await state.progress()).finished == frozenset()
    assert (await state.status()).retries == []
    written = {one["identifier"][0]["value"]: sorted(instances(one)) for one in await resources(faulty, "ImagingStudy")}
    assert written == {"urn:oid:1.1": [A[2], B[2]], "urn:oid:1.2": [OTHER_STUDY[2]]}


@pytest.mark.parametrize("ahead", [0, 3_600_000_000])
async def test_what_fails_again_stays_with_a_new_time_and_is_tried_once(
    archive: MemoryArchive,
    faulty: FaultyTarget,
    database: Database,
    cast: Cast,
    monkeypatch: pytest.MonkeyPatch,
    ahead: int,
) -> None:
    archive.store(A, ct())
    faulty.poison = {A[2]: status(400)}
    state = await cast(archive, faulty)
    (before,) = await rows(state, Table.FHIR_FAIL)
    tried = len(faulty.bundles)
    real = error_tables.now
    # Another machine, whose clock may be an hour ahead, asks.
    monkeypatch.setattr(error_tables, "now", lambda: real() + ahead)
    await error_tables.request_retry(database, [Table.FHIR_FAIL], "")
    await work_off(archive, faulty, database)
    (after,) = await rows(state, Table.FHIR_FAIL)
    assert after.timestamp > before.timestamp + ahead
    assert (after.sequence, after.exception) == (before.sequence, before.exception)
    assert len(faulty.bundles) == tried + 1
    assert (await state.status()).retries == []


async def test_an_entry_moves_to_the_table_of_its_new_failure(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, cast: Cast
) -> None:
    archive.store(A, ct(Modality=None))
    state = await cast(archive, faulty)
    assert await counts(state) == {"DICOM_FAIL": 1}
    archive.update(A, ct())  # corrected; the entry reads with the current metadata
    faulty.poison = {A[2]: status(400)}
    await error_tables.request_retry(database, [Table.DICOM_FAIL], "")
    await work_off(archive, faulty, database)
    assert await counts(state) == {"FHIR_FAIL": 1}
    assert [row.sequence for row in await rows(state, Table.FHIR_FAIL)] == [1]


async def test_one_study_or_one_table(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, cast: Cast
) -> None:
    archive.store(A, ct())
    archive.store(OTHER_STUDY, ct(PatientID="P2"))
    archive.store(B, ct(Modality=None, PatientID=None))
    faulty.poison = {A[2]: status(400), OTHER_STUDY[2]: status(400)}
    state = await cast(archive, faulty)
    assert await counts(state) == {"FHIR_FAIL": 2, "DICOM_FAIL": 1}
    faulty.poison = {}
    assert await error_tables.request_retry(database, [Table.FHIR_FAIL], OTHER_STUDY[0]) == 1
    await work_off(archive, faulty, database)
    assert [row.study_uid for row in await rows(state, Table.FHIR_FAIL)] == [A[0]]
    assert await counts(state) == {"FHIR_FAIL": 1, "DICOM_FAIL": 1}
    assert await error_tables.request_retry(database, RETRYABLE, "9.9") == 0
    assert (await state.status()).retries == []


async def test_a_late_delete_does_not_take_what_was_stored_again(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, cast: Cast
) -> None:
    archive.store(A, ct())
    state = await cast(archive, faulty)
    archive.delete(A)
    faulty.failures = [status(400)]
    await cast(archive, faulty)
    assert await counts(state) == {"FHIR_FAIL": 1}
    archive.store(A, ct())
    await cast(archive, faulty)
    before = await content(faulty)
    await error_tables.request_retry(database, RETRYABLE, "")
    await work_off(archive, faulty, database)
    assert await counts(state) == {}
    assert await content(faulty) == before
    assert instances(await only(faulty, "ImagingStudy")) == [A[2]]


async def test_an_entry_the_feed_does_not_give_keeps_its_row_and_stops_nobody(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, cast: Cast
) -> None:
    class Poisoned(MemoryArchive):
        async def page(self, after: int, limit: int) -> FeedPage:
            if after == 0:
                raise FeedUnreadable("not JSON")
            return await archive.page(after, limit)

    archive.store(A, ct())
    archive.store(OTHER_STUDY, ct())
    faulty.poison = {A[2]: status(400), OTHER_STUDY[2]: status(400)}
    state = await cast(archive, faulty)
    faulty.poison = {}
    await error_tables.request_retry(database, RETRYABLE, "")
    await work_off(Poisoned(), faulty, database)
    assert [row.sequence for row in await rows(state, Table.FHIR_FAIL)] == [1]
    assert (await state.status()).retries == []


async def test_many_are_worked_off_page_by_page_and_after_a_crash(
    archive: MemoryArchive,
    faulty: FaultyTarget,
    database: Database,
    cast: Cast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay, "PAGE", 3)
    for number in range(10):
        archive.store((f"1.{number}", f"1.{number}.1", f"1.{number}.1.1"), ct(PatientID=f"P{number}"))
    faulty.poison = {"ImagingStudy": status(400)}
    state = await cast(archive, faulty)
    assert await counts(state) == {"FHIR_FAIL": 10}
    # Those of the first page fail again: they must not keep the others from their turn.
    faulty.poison = {f"urn:oid:1.{number}'": status(400) for number in range(3)}
    await error_tables.request_retry(database, RETRYABLE, "")
    journal = Journal(state, faulty.endpoint, ROOT)
    await journal.resume()
    first = Replay(archive, database, Synchroniser(faulty, state, journal, OPTIONS, lambda: None), OPTIONS)
    assert await first.page() and await first.page()  # and then the process dies
    assert await counts(state) == {"FHIR_FAIL": 7}
    await work_off(archive, faulty, database)
    assert sorted(row.sequence for row in await rows(state, Table.FHIR_FAIL)) == [1, 2, 3]
    assert len(await resources(faulty, "ImagingStudy")) == 7


async def test_the_worker_picks_a_request_up(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hounsfield.cast.worker.BEAT_SECONDS", 0.05)
    archive.store(A, ct())
    faulty.poison = {A[2]: status(400)}
    state = await cast(archive, faulty)
    faulty.poison = {}
    patient = replace(OPTIONS, poll_interval=OPTIONS.poll_interval * 3000)
    async with running(CastWorker(archive, faulty, database, patient)):
        await until(lambda: _is(state, "idle"))
        await error_tables.request_retry(database, RETRYABLE, "")

        async def solved() -> bool:
            return not await counts(state) and not (await state.status()).retries

        await until(solved)
    assert (await only(faulty, "ImagingStudy"))["resourceType"] == "ImagingStudy"


async def test_asking_twice_is_asking_once(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, cast: Cast
) -> None:
    archive.store(A, ct(Modality=None))
    state = await cast(archive, target)
    await asyncio.gather(*(error_tables.request_retry(database, RETRYABLE, "") for _ in range(3)))
    (request,) = (await state.status()).retries
    # One that was repeated while it was worked off stays.
    await error_tables.end_request(database, replace(request, created=request.created - 1))
    assert (await state.status()).retries == [request]


async def _is(state: CastState, name: str) -> bool:
    activity = (await state.status()).activity
    return activity is not None and activity.state == name


@pytest.mark.parametrize("page_size", [2, 1000])
async def test_what_came_later_keeps_the_last_word(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, cast: Cast, page_size: int
) -> None:
    told = {"PatientName": "Old^Name", "PatientSex": "M", "StudyDate": "20200101", "SeriesDescription": "Old"}
    archive.store(A, ct(**told, SeriesNumber=1))
    archive.store(B, ct(PatientName="New^Name", StudyDate="20240202", SeriesDescription="New", SeriesNumber=None))
    archive.store(C, ct(PatientName=None, PatientSex=None, StudyDate="20240303"))
    archive.store(OTHER_STUDY, ct(PatientName="Last^Name", PatientSex=None))
    archive.store(("1.3", "1.3.1", "1.3.1.1"), ct(PatientName="Filed^Too", PatientSex="O"))
    faulty.poison = {f"'{A[2]}'": status(400), "1.3.1.1": status(400)}
    state = await cast(archive, faulty)
    assert await counts(state) == {"FHIR_FAIL": 2}
    faulty.poison = {"1.3.1.1": status(400)}
    await error_tables.request_retry(database, RETRYABLE, A[0])
    await work_off(archive, faulty, database, page_size=page_size)
    (study, _) = await resources(faulty, "ImagingStudy")
    assert sorted(instances(study)) == sorted([A[2], B[2], C[2]])
    assert study["started"] == "2024-03-03T10:11:12+00:00"
    first = next(series for series in study["series"] if series["uid"] == A[1])
    assert (first["description"], first["number"]) == ("New", 1)
    patient = await only(faulty, "Patient")
    assert (patient["name"][0]["family"], patient["gender"]) == ("Last", "female")
    assert [row.sequence for row in await rows(state, Table.FHIR_FAIL)] == [5]
