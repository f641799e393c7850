"""Failures that pass, conflicts, and how far cast is then: nothing is lost, and nothing done twice."""

import asyncio
import warnings
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydicom import dcmread

from hounsfield.cast.failure import Table
from hounsfield.cast.feed import FeedEntry
from hounsfield.cast.journal import Journal
from hounsfield.cast.state import CastState
from hounsfield.cast.synchroniser import LeaseLost, Synchroniser
from hounsfield.dicom.uid import is_valid
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.target import FhirTarget
from tests.cast.conftest import OPTIONS, QUICK, ROOT, Cast
from tests.cast.dose_report import dose
from tests.cast.faulty_target import FaultyTarget, status, unreachable
from tests.cast.fhir_content import content, instances, only, resources
from tests.cast.filed_errors import counts, rows
from tests.cast.memory_archive import CT_IMAGE, OTHER_STUDY, A, B, MemoryArchive, ct
from tests.dicom.samples import LARGE, WITHOUT_LARGE

# --- retries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        (status(408), "RetryableException"),
        (status(425), "RetryableException"),
        (status(429), "ServerTooBusyException"),
        (status(500), "RetryableException"),
        (status(503), "RetryableException"),
        (unreachable, "RetryableException"),
    ],
)
@pytest.mark.parametrize("match", ["POST", "GET Patient", "GET Endpoint", "GET ImagingStudy"])
async def test_transient_failures_of_every_request_are_retried(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, failure: Any, name: str, match: str
) -> None:
    archive.store(A, ct())
    archive.store(B, ct())
    faulty.failures, faulty.match = [failure, failure], match
    state = await cast(archive, faulty)
    assert instances(await only(faulty, "ImagingStudy")) == [A[2], B[2]]
    found = await rows(state, Table.TRANSIENT_RETRY)
    assert [(row.sequence, row.partition_key, row.retry_number) for row in found] == [(1, name, 2), (1, name, 1)]
    assert await counts(state) == {"TRANSIENT_RETRY": 2}
    activity = (await state.status()).activity
    assert activity is not None
    assert activity.last_error is None


@pytest.mark.parametrize("code", [409, 412])
async def test_a_conflict_is_rebuilt_from_fresh_searches(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, code: int
) -> None:
    archive.store(A, ct())
    faulty.failures = [status(code)]
    state = await cast(archive, faulty)
    assert faulty.requests.count("GET ImagingStudy") == 2
    (row,) = await rows(state, Table.TRANSIENT_RETRY)
    assert row.partition_key == "ResourceConflictException"


@pytest.mark.parametrize("code", [404, 410])
async def test_what_was_to_be_changed_and_is_gone_is_made_anew(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, code: int
) -> None:
    archive.store(A, ct())
    await cast(archive, faulty)
    archive.store(B, ct())
    faulty.failures = [status(code)]
    state = await cast(archive, faulty)
    (row,) = await rows(state, Table.TRANSIENT_RETRY)
    assert row.partition_key == "ResourceConflictException"
    assert instances(await only(faulty, "ImagingStudy")) == [A[2], B[2]]
    # Where nothing was to be changed, it says that the request is wrong.
    archive.store(OTHER_STUDY, ct(PatientID="P2"))
    faulty.failures = [status(code)]
    assert (await counts(await cast(archive, faulty)))["FHIR_FAIL"] == 1


@pytest.mark.parametrize("code", [200, 302, 404, 405])
@pytest.mark.parametrize("match", ["POST", "GET ImagingStudy"])
async def test_a_proxy_that_answers_for_a_server_that_is_away_skips_no_entry(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, code: int, match: str
) -> None:
    """404 of an ingress, or a page that speaks of maintenance, for longer than the budget."""
    archive.store(A, ct())
    archive.store(OTHER_STUDY, ct(PatientID="P2"))
    refused = 0

    def instead(line: str) -> Exception | None:
        nonlocal refused
        faulty.requests.append(line)
        if line == "GET metadata":
            # Who has been refused finds it away a little longer.
            refused += 1
            return status(code)() if refused <= 9 else None
        return status(code)() if refused < 7 and line.startswith(match) else None

    faulty._next = instead  # type: ignore[method-assign]
    state = await cast(archive, faulty, total_retry_duration=timedelta(seconds=0.1))
    assert len(await resources(faulty, "ImagingStudy")) == 2
    assert (await counts(state)).keys() == {"TRANSIENT_RETRY"}


async def test_a_change_by_somebody_else_is_kept(
    archive: MemoryArchive, faulty: FaultyTarget, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    await cast(archive, faulty)

    async def meanwhile() -> None:
        known = await only(target, "ImagingStudy")
        await target._store.update("ImagingStudy", known["id"], known | {"description": "by hand"})

    faulty.before_transaction = [meanwhile]
    archive.store(B, ct())
    state = await cast(archive, faulty)
    study = await only(target, "ImagingStudy")
    assert study["description"] == "by hand"
    assert instances(study) == [A[2], B[2]]
    (row,) = await rows(state, Table.TRANSIENT_RETRY)
    assert row.partition_key == "ResourceConflictException"


@pytest.mark.parametrize("resource_type", ["Patient", "ImagingStudy"])
async def test_a_create_that_meets_another_is_a_conflict(
    archive: MemoryArchive, faulty: FaultyTarget, target: EmbeddedTarget, cast: Cast, resource_type: str
) -> None:
    other = {"resourceType": "Patient", "identifier": [{"value": "P1"}], "active": True}

    async def meanwhile() -> None:
        written = await target._store.create(
            "Patient", other if resource_type == "Patient" else {"resourceType": "Patient"}
        )
        if resource_type == "ImagingStudy":
            study = {
                "resourceType": "ImagingStudy",
                "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.1"}],
                "status": "registered",
                "subject": {"reference": written.name},
                "description": "from the RIS",
            }
            await target._store.create("ImagingStudy", study)

    faulty.before_transaction = [meanwhile]
    archive.store(A, ct())
    state = await cast(archive, faulty)
    (row,) = await rows(state, Table.TRANSIENT_RETRY)
    assert row.partition_key == "ResourceConflictException"
    study = await only(target, "ImagingStudy")
    assert instances(study) == [A[2]]
    if resource_type == "ImagingStudy":
        assert study["description"] == "from the RIS"
    else:
        patient = await only(target, "Patient")
        assert patient["active"] is True
        assert patient["name"]


async def test_a_lost_answer_is_found_to_be_done(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast) -> None:
    archive.store(A, dose(1, 2))
    faulty.failures, faulty.after = [unreachable], True
    await cast(archive, faulty)
    assert len(faulty.bundles) == 1
    await content(faulty)


async def test_an_entry_that_alone_keeps_failing_is_skipped_when_its_budget_is_used_up(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    for number in range(6):
        archive.store(("1.1", "1.1.1", f"1.1.1.{number}"), ct(SeriesDescription=None))
    archive.store(OTHER_STUDY, ct(PatientID="P2"))
    faulty.poison = {"'1.1.1.4'": status(500)}
    state = await cast(archive, faulty)
    written = [instances(study) for study in await resources(faulty, "ImagingStudy")]
    assert sorted(written, key=len) == [[OTHER_STUDY[2]], [f"1.1.1.{number}" for number in (0, 1, 2, 3, 5)]]
    (row,) = await rows(state, Table.TRANSIENT_FAILURE)
    assert (row.sequence, row.partition_key) == (5, "TimeoutRejectedException")
    assert await state.position() == 7


@pytest.mark.parametrize("code", [429, 500])
async def test_a_server_that_serves_nobody_but_tells_what_it_can_do_skips_no_entry(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, code: int
) -> None:
    """Its database is away, or it is busy for everybody, for longer than the budget; metadata are answered."""
    archive.store(A, ct())
    archive.store(OTHER_STUDY, ct(PatientID="P2"))
    clock = asyncio.get_running_loop().time
    end: float | None = None

    def busy(line: str) -> Exception | None:
        nonlocal end
        if line == "GET metadata":
            return None
        end = end or clock() + 0.4
        return status(code)() if clock() < end else None

    faulty._next = busy  # type: ignore[method-assign]
    state = await cast(archive, faulty, total_retry_duration=timedelta(seconds=0.05))
    assert len(await resources(faulty, "ImagingStudy")) == 2
    assert (await counts(state)).keys() == {"TRANSIENT_RETRY"}


async def test_conflicts_without_end_use_up_the_budget(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    faulty.poison = {"1.1": status(412)}
    state = await cast(archive, faulty)
    assert (await counts(state))["TRANSIENT_FAILURE"] == 1


async def test_an_outage_never_skips_an_entry_and_ends_soon_after_recovery(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    archive.store(OTHER_STUDY, ct(PatientID="P2"))
    faulty.is_down = True
    working = asyncio.create_task(cast(archive, faulty))
    await asyncio.sleep(1.5)  # three budgets
    state = CastState(faulty.inner._store._database)  # type: ignore[attr-defined]
    status_now = await state.status()
    assert status_now.activity is not None
    assert status_now.activity.state == "retrying"
    assert status_now.activity.current is not None
    assert status_now.activity.current.number > 1
    assert await state.position() == 0
    faulty.is_down = False
    await asyncio.wait_for(working, 5)
    assert len(await resources(faulty, "ImagingStudy")) == 2
    assert "TRANSIENT_FAILURE" not in await counts(state)
    assert await state.position() == 2


async def test_retry_after_is_honoured(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast) -> None:
    archive.store(A, ct())
    faulty.failures = [status(429, retry_after=0.08)]
    clock = asyncio.get_running_loop().time
    began = clock()
    await cast(archive, faulty)
    assert clock() - began >= 0.08


async def test_retry_after_holds_for_all_studies(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast) -> None:
    """One at a time, so that the second would come while the first waits."""
    archive.store(A, ct())
    archive.store(OTHER_STUDY, ct(PatientID="P2"))
    timing = replace(QUICK, longest=0.3)
    faulty.failures = [status(429, retry_after=3600)]
    clock = asyncio.get_running_loop().time
    began = clock()
    first: list[float] = []

    async def note() -> None:
        first.append(clock() - began)

    faulty.before_transaction = [note]
    await cast(archive, faulty, concurrency=1, retry_timing=timing, total_retry_duration=timedelta(seconds=5))
    assert first[0] >= timing.longest
    assert len(await resources(faulty, "ImagingStudy")) == 2


# --- position and lease ----------------------------------------------------------------------------------------------


async def test_the_position_never_passes_an_unfinished_entry(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    blocked = archive.store(OTHER_STUDY, ct(PatientID="P2"))
    for number in range(5):
        archive.store((f"1.3.{number}", "1.3.1", f"1.3.1.{number}"), ct(PatientID=f"P{number + 3}"))
    faulty.poison = {"urn:oid:1.2'": unreachable}
    working = asyncio.create_task(cast(archive, faulty, total_retry_duration=OPTIONS.total_retry_duration * 100))
    state = CastState(faulty.inner._store._database)  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        while len(await resources(faulty, "ImagingStudy")) < 6 or len((await state.progress()).finished) < 5:
            await asyncio.sleep(0.02)
    assert await state.position() == blocked - 1
    faulty.poison.clear()
    await working
    assert await state.position() == 7


@pytest.mark.parametrize("searched", [False, True], ids=["before searching", "while searching"])
async def test_nothing_is_written_after_the_lease_is_lost(
    archive: MemoryArchive, faulty: FaultyTarget, state: CastState, searched: bool
) -> None:
    def guard() -> None:
        if not searched or faulty.requests:
            raise LeaseLost

    archive.store(A, ct())
    synchroniser = Synchroniser(faulty, state, Journal(state, "", ROOT), OPTIONS, guard)
    with pytest.raises(LeaseLost):
        await synchroniser.process(archive.entries(), 1)
    assert bool(faulty.requests) == searched
    assert faulty.bundles == []
    assert await state.position() == 0


async def test_two_workers_by_mistake_end_in_the_same_content(
    archive: MemoryArchive, target: EmbeddedTarget, sqlite_url: str
) -> None:
    for number in range(40):
        uids = (f"1.{number % 5}", f"1.{number % 5}.1", f"1.1.{number}")
        archive.store(uids, ct(PatientID=f"P{number % 2}", PatientName=f"Name{number}", InstanceNumber=number))
        if number % 9 == 8:
            archive.delete(uids)
    database = target._store._database

    async def work(target: FhirTarget, width: int) -> None:
        state = CastState(database)
        synchroniser = Synchroniser(target, state, Journal(state, "", ROOT), OPTIONS, lambda: None)
        feed = archive.entries()
        for start in range(0, len(feed), width):
            page: list[FeedEntry] = feed[start : start + width]
            await synchroniser.process(page, page[-1].sequence)
            await asyncio.sleep(0)

    await asyncio.gather(work(target, 3), work(target, 7))
    both = await content(target)
    await work(target, 50)
    assert await content(target) == both
    assert len(await resources(target, "ImagingStudy")) == 5
    assert sum(len(instances(study)) for study in await resources(target, "ImagingStudy")) == 36


async def test_sop_class_is_written(archive: MemoryArchive, target: EmbeddedTarget, cast: Cast) -> None:
    archive.store(A, ct())
    await cast(archive, target)
    assert (await only(target, "ImagingStudy"))["series"][0]["instance"][0]["sopClass"] == {"code": CT_IMAGE}


@pytest.mark.skipif(not LARGE.is_dir(), reason=WITHOUT_LARGE)
async def test_real_files_become_valid_resources(archive: MemoryArchive, target: EmbeddedTarget, cast: Cast) -> None:
    stored: set[str] = set()
    for path in sorted(LARGE.glob("**/*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                dataset = dcmread(path, stop_before_pixels=True)
                metadata = dataset.to_json_dict(suppress_invalid_tags=True)
                uids = (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))
            except Exception:
                continue  # what is broken is not stored
        if (
            all(uids)
            and all(map(is_valid, uids))
            and dataset.get("PatientID")
            and dataset.get("Modality")
            and uids[2] not in stored
        ):
            stored.add(uids[2])
            archive.store(uids, metadata)
    state = await cast(archive, target)
    assert (await state.status()).error_counts[Table.FHIR_FAIL] == 0
    studies = await resources(target, "ImagingStudy")
    assert {uid for study in studies for uid in instances(study)} == stored
    assert len(stored) > 50
    for resource_type in ("Patient", "Observation"):
        await resources(target, resource_type)
