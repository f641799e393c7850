"""A rebuild leaves in FHIR what one clean pass over the feed would, touches nobody else's, and doubles nothing."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hounsfield.cast import rebuild_operation
from hounsfield.cast.rebuild import RebuildJob
from hounsfield.cast.state import CastState
from hounsfield.cast.verify import Verification
from hounsfield.cast.worker import CastWorker
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.target import FhirTarget, Resource
from hounsfield.operations import records
from hounsfield.operations.job import Operation, Retry, Status
from hounsfield.operations.runner import OperationRunner, Pace
from tests.cast import crash_worker
from tests.cast.conftest import OPTIONS, Cast
from tests.cast.dose_report import dose
from tests.cast.faulty_target import FaultyTarget, status, unreachable
from tests.cast.fhir_content import instances, keys, only, resources, unordered_content
from tests.cast.filed_errors import counts
from tests.cast.memory_archive import OTHER_STUDY, A, B, MemoryArchive, ct
from tests.cast.test_worker import running, until

HASTY = Pace(slots=1, look=0.01)
BASE = "http://hospital.example/fhir"
Rebuild = Callable[..., Awaitable[Operation]]
Clean = Callable[[MemoryArchive], Awaitable[Any]]


async def run(job: RebuildJob, database: Database, operation_id: str) -> Operation:
    """Until the operation has ended."""
    stop = asyncio.Event()
    working = asyncio.create_task(OperationRunner(database, [job.job()], HASTY).run(stop))
    try:
        await until(lambda: has_ended(database, operation_id))
    finally:
        stop.set()
        await working
    found = await records.find(database, operation_id)
    assert found is not None
    return found


@pytest.fixture
def rebuild(database: Database) -> Rebuild:
    """``await rebuild(archive, target, from_sequence=0)``: start one and see it through."""

    async def one(
        archive: MemoryArchive, target: FhirTarget, from_sequence: int = 0, ends: Status = Status.SUCCEEDED
    ) -> Operation:
        job = RebuildJob(
            archive,
            target,
            CastState(database),
            database,
            OPTIONS,
            guard=lambda: None,
            is_fit=lambda: True,
            turn=asyncio.Lock(),
        )
        found = await run(job, database, await rebuild_operation.start(database, from_sequence))
        assert found.status is ends, found.error
        return found

    return one


@pytest.fixture
async def clean(cast: Cast, sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Clean]:
    """What a clean pass over an archive writes into an empty store."""
    numbers = itertools.count()
    opened: list[Database] = []

    async def one(archive: MemoryArchive) -> Any:
        path = tmp_path / f"clean{next(numbers)}.db"
        path.write_bytes(sqlite_template.read_bytes())
        database = open_database(f"sqlite:///{path}")
        opened.append(database)
        target = EmbeddedTarget(FhirStore(database, BASE), BASE)
        await cast(archive, target, database=database)
        return await unordered_content(target)

    yield one
    for database in opened:
        await database.close()


async def write(target: FhirTarget, *written: Resource) -> None:
    """As another system does it."""
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        if "id" in one
        else {"resource": one, "request": {"method": "POST", "url": one["resourceType"]}}
        for one in written
    ]
    await target.transaction({"resourceType": "Bundle", "type": "transaction", "entry": entries})


async def delete(target: FhirTarget, *found: Resource) -> None:
    entries = [{"request": {"method": "DELETE", "url": f"{one['resourceType']}/{one['id']}"}} for one in found]
    await target.transaction({"resourceType": "Bundle", "type": "transaction", "entry": entries})


async def is_at(database: Database, sequence: int) -> bool:
    return await CastState(database).position() == sequence


async def has_ended(database: Database, operation_id: str) -> bool:
    found = await records.find(database, operation_id)
    return found is not None and not found.status.is_active


@pytest.mark.parametrize("seed", [11, 13])
async def test_into_an_empty_server(seed: int, faulty: FaultyTarget, rebuild: Rebuild, clean: Clean) -> None:
    archive = crash_worker.archive(seed, 150)
    done = await rebuild(archive, faulty)
    assert await unordered_content(faulty) == await clean(archive)
    results = dict(done.results or {})
    assert results["studies"] == results["written"] == 8 and not results["failed"]
    before = len(faulty.bundles)
    again = await rebuild(archive, faulty)
    assert len(faulty.bundles) == before
    assert dict(again.results or {}) == results | {"written": 0}


async def test_drift_is_mended_and_nothing_of_others_is_touched(
    archive: MemoryArchive, target: EmbeddedTarget, rebuild: Rebuild, clean: Clean, cast: Cast
) -> None:
    archive.store(A, ct())
    archive.store(B, dose(5, StudyDescription="Chest"))
    archive.store(OTHER_STUDY, ct())
    archive.store(("1.3", "1.3.1", "1.3.1.1"), ct(PatientID="P3"))
    await cast(archive, target)
    expected = await clean(archive)
    one, two, three = await resources(target, "ImagingStudy")
    observation, *_ = await resources(target, "Observation")
    patient, _ = await resources(target, "Patient")
    # Values changed and lost, an instance of nobody, another's note, description and identifier, a dose made up.
    one["series"][0] |= {"description": "Wrong", "instance": [{"uid": "9.9", "sopClass": {"code": "1.2"}}]}
    one["note"] = [{"text": "Stale"}, {"text": "Reported", "authorString": "Dr. Who"}]
    one["identifier"].append({"system": "urn:other", "value": "X1"})
    one["description"] = "Added by others"
    three["modality"] = [{"system": "DCM", "code": "MR"}]
    observation["component"] = [{"code": {"text": "x"}, "valueInteger": 9}]
    patient["name"] = [{"use": "usual", "family": "Else"}, {"use": "maiden", "family": "Kept"}]
    theirs = {"resourceType": "Patient", "id": "theirs", "identifier": [{"value": "theirs"}]}
    foreign = {"resourceType": "ImagingStudy", "status": "available", "subject": {"reference": "Patient/theirs"}}
    await write(target, theirs, one, three, observation, patient)
    await write(target, foreign)
    await delete(target, two)
    done = await rebuild(archive, target)
    assert dict(done.results or {})["written"] == 3
    studies = await resources(target, "ImagingStudy")
    (kept,) = [study for study in studies if study["subject"]["reference"] == "Patient/theirs"]
    assert "series" not in kept
    mended = next(study for study in studies if study["id"] == one["id"])
    assert mended.pop("description") == "Added by others"
    assert mended["note"].pop() == {"text": "Reported", "authorString": "Dr. Who"}
    assert mended["identifier"].pop() == {"system": "urn:other", "value": "X1"}
    named = next(each for each in await resources(target, "Patient") if each["id"] == patient["id"])
    assert named["name"].pop() == {"use": "maiden", "family": "Kept"}
    await write(target, mended, named)
    await delete(target, kept)
    await delete(target, theirs)
    assert await unordered_content(target) == expected


async def test_what_the_archive_does_not_have_goes_if_it_is_ours(
    archive: MemoryArchive, target: EmbeddedTarget, rebuild: Rebuild, cast: Cast
) -> None:
    former = MemoryArchive()
    former.store(OTHER_STUDY, dose(5))
    former.store(("1.3", "1.3.1", "1.3.1.1"), ct())
    former.store(("1.4", "1.4.1", "1.4.1.1"), ct())
    await cast(former, target)
    archive.store(A, ct())
    archive.store(("1.5", "1.5.1", "1.5.1.1"), ct())
    archive.delete(("1.5", "1.5.1", "1.5.1.1"))
    # One is in another archive as well, and one was never ours.
    studies = {study["identifier"][0]["value"]: study for study in await resources(target, "ImagingStudy")}
    shared, other = studies["urn:oid:1.3"], studies["urn:oid:1.4"]
    ours = await only(target, "Endpoint")
    await write(target, ours | {"id": "elsewhere", "name": "Other", "address": "https://other.example"})
    shared["endpoint"].append({"reference": "Endpoint/elsewhere"})
    other["meta"] = {"source": "https://other.example"}
    await write(target, shared, other)
    done = await rebuild(archive, target)
    assert (done.results or {})["removed"] == 1
    left = [one["identifier"][0]["value"] for one in await resources(target, "ImagingStudy")]
    assert sorted(left) == ["urn:oid:1.1", "urn:oid:1.3", "urn:oid:1.4"]
    assert await keys(target) == []


async def test_what_is_there_twice_is_made_one(
    archive: MemoryArchive, target: EmbeddedTarget, rebuild: Rebuild, clean: Clean, cast: Cast
) -> None:
    archive.store(A, dose(5))
    await cast(archive, target)
    for one in (await only(target, "ImagingStudy"), *await resources(target, "Observation")):
        await write(target, {key: value for key, value in one.items() if key != "id"})
    await rebuild(archive, target)
    assert await unordered_content(target) == await clean(archive)


async def test_only_studies_from_a_sequence(archive: MemoryArchive, target: EmbeddedTarget, rebuild: Rebuild) -> None:
    for uids in (A, OTHER_STUDY, B):
        archive.store(uids, ct())
    done = await rebuild(archive, target, from_sequence=3)
    assert (done.results or {})["studies"] == 1
    # All of its entries count, not only those from there on.
    assert instances(await only(target, "ImagingStudy")) == [A[2], B[2]]


async def test_what_was_skipped_is_cast_if_it_can_be_and_stands_in_nobodys_way(
    archive: MemoryArchive, faulty: FaultyTarget, rebuild: Rebuild, cast: Cast
) -> None:
    for uids in (A, B, OTHER_STUDY):
        archive.store(uids, ct())
    faulty.poison = {f"'{A[2]}'": status(400), OTHER_STUDY[2]: status(422)}
    state = await cast(archive, faulty)
    assert await counts(state) == {"FHIR_FAIL": 2}
    del faulty.poison[OTHER_STUDY[2]]
    await delete(faulty, await only(faulty, "ImagingStudy"))
    await rebuild(archive, faulty)
    written = {one["identifier"][0]["value"]: instances(one) for one in await resources(faulty, "ImagingStudy")}
    assert written == {"urn:oid:1.1": [B[2]], "urn:oid:1.2": [OTHER_STUDY[2]]}
    assert await counts(state) == {"FHIR_FAIL": 1}


async def test_what_was_refused_depending_on_order_is_judged_as_in_a_clean_pass(
    archive: MemoryArchive,
    target: EmbeddedTarget,
    database: Database,
    cast: Cast,
    rebuild: Rebuild,
    clean: Clean,
    sqlite_template: Path,
    tmp_path: Path,
) -> None:
    """Of two casts by mistake one finds the series with the Modality that the other gave it, and takes the instance."""
    archive.store(A, ct(Modality=None))
    archive.store(B, ct())
    path = tmp_path / "other.db"
    path.write_bytes(sqlite_template.read_bytes())
    other = open_database(f"sqlite:///{path}")
    await cast(archive, target, database=other)
    assert instances(await only(target, "ImagingStudy")) == [B[2]]
    await other.close()
    state = await cast(archive, target)
    assert len(instances(await only(target, "ImagingStudy"))) == 2 and await counts(state) == {}

    verification = Verification(archive, target, database, OPTIONS, patience=0)
    assert [(one.resource, one.problem) async for one in verification.run()] == [("ImagingStudy", "different")]
    done = await rebuild(archive, target)
    assert (done.results or {})["refused"] == 1
    assert await unordered_content(target) == await clean(archive)
    # What is not in FHIR is in an error table, once, whoever found out.
    await rebuild(archive, target)
    assert await counts(state) == {"DICOM_FAIL": 1}
    assert [one async for one in Verification(archive, target, database, OPTIONS, patience=0).run()] == []


async def test_a_study_that_cannot_be_written_is_named_and_the_others_are_written(
    archive: MemoryArchive, faulty: FaultyTarget, rebuild: Rebuild
) -> None:
    archive.store(A, ct())
    archive.store(OTHER_STUDY, ct())
    faulty.poison = {f"'{A[2]}'": status(422)}
    done = await rebuild(archive, faulty, ends=Status.FAILED)
    assert done.error == "1 study could not be written; the results say which and why."
    assert (done.results or {})["failures"] == [
        "1.1: TransactionFailedException: The FHIR server refused the transaction with status 422."
    ]
    assert instances(await only(faulty, "ImagingStudy")) == [OTHER_STUDY[2]]


async def test_casting_goes_on_meanwhile(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, clean: Clean, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes while a rebuild is under way, for studies it has written and for others, is in FHIR in the end."""
    monkeypatch.setattr("hounsfield.cast.rebuild.STUDIES_AT_ONCE", 1)
    monkeypatch.setattr("hounsfield.cast.worker.ONE_AT_A_TIME", HASTY)
    for number in range(4):
        for image in range(2):
            archive.store((f"1.{number}", f"1.{number}.1", f"1.{number}.1.{image}"), ct(PatientID=f"P{number}"))
    news = [
        lambda: archive.store(("1.0", "1.0.2", "1.0.2.1"), ct(PatientID="P0", PatientName="Newer")),
        lambda: archive.update(("1.3", "1.3.1", "1.3.1.0"), ct(PatientID="P3", StudyDescription="Corrected")),
        lambda: archive.delete(("1.2", "1.2.1", "1.2.1.1")),
        lambda: archive.store(("1.7", "1.7.1", "1.7.1.1"), ct(PatientID="P0")),
    ]

    async def meanwhile() -> None:
        if news:
            news.pop(0)()

    async with running(CastWorker(archive, faulty, database, OPTIONS)):
        await until(lambda: is_at(database, 8))
        await delete(faulty, *await resources(faulty, "ImagingStudy"))
        faulty.before_transaction = [meanwhile for _ in news]
        operation_id = await rebuild_operation.start(database)
        await until(lambda: has_ended(database, operation_id))
        await until(lambda: is_at(database, 12))
    assert not news
    assert await unordered_content(faulty) == await clean(archive)


async def test_outages_are_waited_for(
    archive: MemoryArchive, faulty: FaultyTarget, rebuild: Rebuild, clean: Clean, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hounsfield.cast.rebuild.RETRY", Retry(attempts=50, first_seconds=0.01, factor=1.0))
    archive.store(A, dose(*range(1, 9)))
    archive.store(OTHER_STUDY, ct())
    faulty.match = ""
    faulty.failures = [status(500), unreachable, status(503), status(429), status(408)] * 2
    await rebuild(archive, faulty)
    await delete(faulty.inner, *await resources(faulty, "Observation"))
    faulty.match, faulty.failures = "POST", [status(409), status(412), status(429, 0.01), status(409)]
    await rebuild(archive, faulty)
    # A proxy answers in the server's place.
    await delete(faulty.inner, *await resources(faulty, "Observation"))
    clock = asyncio.get_running_loop().time
    end = clock() + 0.1

    def instead(line: str) -> Exception | None:
        return status(404)() if clock() < end + 0.1 * (line == "GET metadata") else None

    monkeypatch.setattr(faulty, "_next", instead)
    await rebuild(archive, faulty)
    monkeypatch.delattr(faulty, "_next")
    # The answer is lost, the work was done.
    await delete(faulty.inner, *await resources(faulty, "Observation"))
    faulty.failures, faulty.after = [unreachable, status(500)], True
    await rebuild(archive, faulty)
    assert not faulty.failures
    assert await unordered_content(faulty) == await clean(archive)
