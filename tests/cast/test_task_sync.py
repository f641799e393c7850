"""Tasks follow workitems: through outages, conflicts, refusals, other processes and crashes, beside the change feed."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hounsfield.cast import error_tables
from hounsfield.cast.creation import Creations
from hounsfield.cast.error_tables import StoredError
from hounsfield.cast.failure import Table, TryAgain
from hounsfield.cast.journal import Journal
from hounsfield.cast.options import CastOptions
from hounsfield.cast.state import CastState
from hounsfield.cast.task_sync import TaskSync
from hounsfield.cast.worker import CastWorker
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.target import FhirTarget, Match, Resource
from hounsfield.fhir.versions import speaking
from hounsfield.index.partitions import DEFAULT_KEY, DEFAULT_NAME, ensure
from hounsfield.worklist import changes, workitems
from tests.cast import full_workitem as full
from tests.cast.conftest import OPTIONS, ROOT, Cast
from tests.cast.faulty_target import FaultyTarget, status, unreachable
from tests.cast.fhir_content import only, resources
from tests.cast.memory_archive import MemoryArchive, ct
from tests.cast.memory_fhir import MemoryFhir
from tests.cast.test_worker import in_state, running, synced, until
from tests.peers.fhir_server import FhirServer
from tests.worklist import make
from tests.worklist.make import Dataset, element, new_uid, to_state

SYNC = replace(OPTIONS, sync_workitems=True)
HERE = [DEFAULT_NAME]
LOCK = "1.2.3"


async def created(database: Database, partition_key: int = DEFAULT_KEY, **changed: Dataset | None) -> str:
    return await workitems.create(database, partition_key, full.scheduled(**changed), new_uid())


async def claim(database: Database, uid: str) -> None:
    await workitems.change_state(database, DEFAULT_KEY, uid, to_state("IN PROGRESS", LOCK))


def sync_of(target: FhirTarget, database: Database, options: CastOptions = SYNC) -> TaskSync:
    state = CastState(database)
    journal = Journal(state, target.endpoint, ROOT)
    return TaskSync(target, database, state, journal, options, lambda: None, Creations())


async def follow(target: FhirTarget, database: Database, **options: Any) -> None:
    """Until nothing waits."""
    sync = sync_of(target, database, replace(SYNC, **options))
    partitions = replace(SYNC, **options).partitions
    async with asyncio.timeout(20):
        while (await changes.backlog(database, partitions))[0]:
            try:
                if not await sync.page():
                    await asyncio.sleep(0.01)
            except TryAgain:
                await asyncio.sleep(0.02)


async def filed(database: Database, table: Table) -> list[StoredError]:
    return (await CastState(database).errors(table, 100, None))[0]


async def test_a_life(database: Database, target: EmbeddedTarget) -> None:
    uid = await created(database)
    await follow(target, database)
    task = await only(target, "Task")
    assert (task["status"], task["identifier"][0]["value"]) == ("ready", f"urn:oid:{uid}")
    patient = await only(target, "Patient")
    assert task["for"] == {"reference": f"Patient/{patient['id']}"}
    assert (patient["name"][0]["family"], patient["birthDate"]) == ("Doe", "1970-01-01")
    await workitems.update(database, DEFAULT_KEY, uid, None, {"00404041": element("CS", "INCOMPLETE")})
    await follow(target, database)
    assert (await only(target, "Task"))["status"] == "requested"
    await claim(database, uid)
    await workitems.update(database, DEFAULT_KEY, uid, LOCK, full.performed())
    await follow(target, database)
    task = await only(target, "Task")
    assert task["businessStatus"]["text"] == "IN PROGRESS, 40 %, Dictating"
    await workitems.change_state(database, DEFAULT_KEY, uid, to_state("COMPLETED", LOCK))
    await follow(target, database)
    task = await only(target, "Task")
    assert (task["status"], task["meta"]["versionId"]) == ("completed", "4")
    canceled = await created(database)
    reason = {
        "00741238": element("LT", "Not needed"),
        "0074100E": full.discontinued()["00741002"]["Value"][0]["0074100E"],
    }
    await workitems.request_cancellation(database, DEFAULT_KEY, canceled, reason)
    await follow(target, database)
    tasks = {one["status"]: one for one in await resources(target, "Task")}
    assert tasks["cancelled"]["statusReason"]["text"] == "Not needed"
    assert len(await resources(target, "Patient")) == 1


@pytest.mark.parametrize("version", ["R4", "R5"])
async def test_what_is_written_is_valid_in_both_versions(database: Database, version: str) -> None:
    """And nothing is written twice, though an R5 server gives it back in another shape."""
    server = MemoryFhir(version)
    uid = await created(database)
    await follow(speaking(server, version), database)
    await claim(database, uid)
    await workitems.update(database, DEFAULT_KEY, uid, LOCK, full.performed() | full.discontinued())
    await workitems.change_state(database, DEFAULT_KEY, uid, to_state("CANCELED", LOCK))
    await follow(speaking(server, version), database)
    task = server.only("Task")
    reason = task["statusReason"] if version == "R4" else task["statusReason"]["concept"]
    assert reason["text"] == "The display broke"
    assert ("requestedPeriod" in task) == (version == "R5") == ("reason" in task)
    written = len(server.bundles)
    await database.write(changes.all_again)
    await follow(speaking(server, version), database)
    assert len(server.bundles) == written == 2


@pytest.mark.peer
async def test_an_independent_server(database: Database, fhir_peer: FhirServer) -> None:
    """Medplum's router, and its validator with the structure definitions of R4."""
    target = HttpFhirTarget(fhir_peer.url, timeout=5.0)
    fhir_peer.fail_next(2, 503, match="POST /fhir/R4")
    uids = [await created(database, t00100020=element("LO", f"P{number % 3}")) for number in range(12)]
    await follow(target, database)
    await claim(database, uids[0])
    await workitems.update(database, DEFAULT_KEY, uids[0], LOCK, full.performed())
    await workitems.change_state(database, DEFAULT_KEY, uids[0], to_state("COMPLETED", LOCK))
    await follow(target, database)
    tasks = await resources(target, "Task")
    assert sorted(one["identifier"][0]["value"] for one in tasks) == sorted(f"urn:oid:{uid}" for uid in uids)
    assert sorted(one["status"] for one in tasks) == ["completed", *["ready"] * 11]
    assert len(await resources(target, "Patient")) == 3
    assert fhir_peer.problems(tasks) == []
    assert len(fhir_peer.problems([{"resourceType": "Task", "intent": "order"}])) == 1
    await target.close()


async def test_studies_and_orders_are_linked_when_they_come_and_go(
    database: Database, faulty: FaultyTarget, cast: Cast, archive: MemoryArchive
) -> None:
    uid = await created(database)
    await follow(faulty, database)
    assert "reference" not in (await only(faulty, "Task"))["focus"]
    archive.store((full.INPUT, "1.2.10.1", "1.2.10.1.1"), ct(PatientID="P1"))
    await cast(archive, faulty)
    study = await only(faulty, "ImagingStudy")
    patient = await only(faulty, "Patient")
    order: Resource = {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "subject": {"reference": f"Patient/{patient['id']}"},
        "identifier": [{"system": "urn:ris", "value": "PL1"}],
    }
    entry = {"resource": order, "request": {"method": "POST", "url": "ServiceRequest"}}
    await faulty.inner.transaction({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    await follow(faulty, database)
    task = await only(faulty, "Task")
    assert task["focus"]["reference"] == f"ImagingStudy/{study['id']}"
    assert task["basedOn"][0]["reference"].startswith("ServiceRequest/")
    # A study others refer to cannot be deleted: the Task lets it go, here even with the setting switched off.
    archive.delete((full.INPUT, "1.2.10.1", "1.2.10.1.1"))
    state = await cast(archive, faulty)
    assert await resources(faulty, "ImagingStudy") == []
    assert set((await state.status()).error_counts.values()) == {0}
    assert (await only(faulty, "Task"))["focus"] == {
        "type": "ImagingStudy",
        "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{full.INPUT}"},
    }
    archive.store((full.INPUT, "1.2.10.1", "1.2.10.1.2"), ct(PatientID="P1"))
    await cast(archive, faulty)
    await follow(faulty, database)
    study = await only(faulty, "ImagingStudy")
    assert (await only(faulty, "Task"))["focus"]["reference"] == f"ImagingStudy/{study['id']}"
    assert uid


async def test_who_casts_no_workitems_is_not_asked_for_tasks(
    faulty: FaultyTarget, cast: Cast, archive: MemoryArchive
) -> None:
    archive.store(("1.1", "1.2", "1.3"), ct())
    archive.delete(("1.1", "1.2", "1.3"))
    await cast(archive, faulty, page_size=1)
    assert "GET Task" not in faulty.requests


async def test_only_listed_partitions(database: Database, target: EmbeddedTarget) -> None:
    other = await ensure(database, "other")
    uid = await created(database, other.key)
    await follow(target, database)
    assert await resources(target, "Task") == []
    await follow(target, database, partitions=frozenset({"other"}))
    assert task_uids(await resources(target, "Task")) == [uid]


def task_uids(tasks: list[Resource]) -> list[str]:
    return [one["identifier"][0]["value"].removeprefix("urn:oid:") for one in tasks]


async def test_without_a_patient(database: Database, target: EmbeddedTarget) -> None:
    await workitems.create(database, DEFAULT_KEY, make.workitem(), new_uid())
    await follow(target, database)
    assert "for" not in await only(target, "Task")
    assert await resources(target, "Patient") == []


@pytest.mark.parametrize("match", ["GET Task", "GET Patient", "GET ImagingStudy", "GET ServiceRequest", "POST"])
async def test_faults_at_every_step(database: Database, faulty: FaultyTarget, match: str) -> None:
    faulty.failures, faulty.match = [unreachable, status(429, 0.01), status(500)], match
    if match == "POST":
        faulty.failures += [status(412), status(409)]
    await created(database)
    await follow(faulty, database, total_retry_duration=timedelta(seconds=20))
    await only(faulty, "Task")
    assert faulty.failures == []
    for table in error_tables.RETRYABLE:
        assert await filed(database, table) == []


async def test_a_lost_answer_writes_nothing_twice(database: Database, faulty: FaultyTarget) -> None:
    faulty.failures, faulty.after = [status(503)], True
    await created(database)
    await follow(faulty, database)
    await only(faulty, "Task")
    (row,) = await filed(database, Table.TRANSIENT_RETRY)
    assert (row.sequence, row.retry_number, row.study_uid) == (0, 1, full.INPUT)


async def test_a_refusal_is_filed_and_stops_nobody(database: Database, faulty: FaultyTarget) -> None:
    bad, good = await created(database), await created(database)
    faulty.poison[bad] = status(422)
    await follow(faulty, database)
    assert task_uids(await resources(faulty, "Task")) == [good]
    (row,) = await filed(database, Table.FHIR_FAIL)
    assert (row.partition_key, row.instance_uid, row.study_uid) == ("TransactionFailedException", bad, full.INPUT)
    # Refused again with its next change: still one row. Then somebody asks, when the cause is gone.
    await claim(database, bad)
    await follow(faulty, database)
    assert len(await filed(database, Table.FHIR_FAIL)) == 1
    faulty.poison.clear()
    assert await error_tables.request_retry(database, [Table.FHIR_FAIL], full.INPUT) == 1
    await follow(faulty, database)
    assert sorted(task_uids(await resources(faulty, "Task"))) == sorted([bad, good])
    assert await filed(database, Table.FHIR_FAIL) == []


async def test_a_refused_search_of_many_is_made_one_by_one(database: Database, faulty: FaultyTarget) -> None:
    uids = [await created(database) for _ in range(3)]
    faulty.failures, faulty.match = [status(400), status(400)], "GET Task"
    await follow(faulty, database)
    assert len(await resources(faulty, "Task")) == 2
    (row,) = await filed(database, Table.FHIR_FAIL)
    assert row.partition_key == "FhirClientException" and row.instance_uid in uids


async def test_two_patients_of_one_identity_are_refused(database: Database, target: EmbeddedTarget) -> None:
    entry = {
        "resource": {"resourceType": "Patient", "identifier": [{"value": "P1"}]},
        "request": {"method": "POST", "url": "Patient"},
    }
    await target.transaction({"resourceType": "Bundle", "type": "transaction", "entry": [entry, entry]})
    await created(database)
    await follow(target, database)
    (row,) = await filed(database, Table.FHIR_FAIL)
    assert row.partition_key == "MultipleMatchingResourcesException"
    assert await resources(target, "Task") == []


async def test_one_that_keeps_failing_is_skipped_once_its_time_is_used_up(
    database: Database, faulty: FaultyTarget
) -> None:
    uid = await created(database)
    faulty.poison[uid] = status(503)
    await follow(faulty, database, total_retry_duration=timedelta(seconds=0.1))
    (row,) = await filed(database, Table.TRANSIENT_FAILURE)
    assert (row.partition_key, row.instance_uid) == ("TimeoutRejectedException", uid)
    assert len(await filed(database, Table.TRANSIENT_RETRY)) > 1


async def test_invalid_values_are_filed_once(database: Database, target: EmbeddedTarget) -> None:
    uid = await created(database, t00100040=element("CS", "X"))
    await follow(target, database)
    await claim(database, uid)
    await follow(target, database)
    (row,) = await filed(database, Table.INVALID_TAG)
    assert (row.instance_uid, row.partition_key) == (uid, "InvalidDicomTagValueException")
    await created(database, t00100040=element("CS", "X"))
    await follow(target, database, enforce_validation=True)
    assert len(await filed(database, Table.DICOM_FAIL)) == 1
    assert len(await resources(target, "Task")) == 1


@pytest.mark.parametrize("moment", ["GET Task", "GET Patient", "GET ServiceRequest", "POST"])
async def test_an_older_state_never_replaces_a_newer_one(
    database: Database, sqlite_url: str, faulty: FaultyTarget, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process casts a later state while this one is on its way with an earlier one."""
    uid = await created(database)
    await follow(faulty, database)
    await workitems.update(database, DEFAULT_KEY, uid, None, {"00404041": element("CS", "INCOMPLETE")})
    other = open_database(sqlite_url)

    async def overtake() -> None:
        await claim(other, uid)
        await follow(faulty.inner, other)
        assert (await only(faulty.inner, "Task"))["status"] == "in-progress"

    async def search(resource_type: str, parameters: Sequence[tuple[str, str]]) -> list[Match]:
        if moment == f"GET {resource_type}" and hooks:
            await hooks.pop()()
        return await faulty.inner.search(resource_type, parameters)

    hooks = [overtake]
    if moment == "POST":
        faulty.before_transaction.append(overtake)
    monkeypatch.setattr(faulty, "search", search)
    await sync_of(faulty, database).page()
    await follow(faulty, database)
    task = await only(faulty.inner, "Task")
    assert (task["status"], task["meta"]["versionId"]) == ("in-progress", "2")
    await other.close()


async def test_a_task_that_somebody_else_makes_meanwhile_is_completed(database: Database, faulty: FaultyTarget) -> None:
    uid = await created(database)
    theirs = {
        "resourceType": "Task",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "status": "draft",
        "intent": "plan",
    }
    entry = {"resource": theirs, "request": {"method": "POST", "url": "Task"}}

    async def make_it() -> None:
        await faulty.inner.transaction({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})

    faulty.before_transaction.append(make_it)
    await follow(faulty, database)
    task = await only(faulty, "Task")
    assert (task["status"], task["intent"]) == ("ready", "plan")
    assert [row.partition_key for row in await filed(database, Table.TRANSIENT_RETRY)] == ["ResourceConflictException"]


async def test_two_casts_at_once_write_one_task_each(
    database: Database, sqlite_url: str, target: EmbeddedTarget
) -> None:
    other = open_database(sqlite_url)
    uids = [await created(database, t00100020=element("LO", f"P{number % 3}")) for number in range(20)]
    quick = {"total_retry_duration": timedelta(seconds=30)}
    await asyncio.gather(follow(target, database, **quick), follow(target, other, **quick))
    for uid in uids[::2]:
        await claim(database, uid)
    await asyncio.gather(follow(target, database, **quick), follow(target, other, **quick))
    tasks = await resources(target, "Task")
    assert sorted(task_uids(tasks)) == sorted(uids)
    assert sorted(one["status"] for one in tasks) == ["in-progress"] * 10 + ["ready"] * 10
    assert len(await resources(target, "Patient")) == 3
    await other.close()


async def test_kills(database: Database, sqlite_url: str, target: EmbeddedTarget) -> None:
    """Whatever kills the worker, and whenever: in the end every Task says what its workitem is."""
    arguments = [sys.executable, "-m", "tests.cast.crash_tasks", sqlite_url, "5"]
    process = await asyncio.create_subprocess_exec(
        *arguments, cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    done = msgspec.json.decode(output)
    assert done["killed"] > 3
    tasks = await resources(target, "Task")
    assert len(tasks) == len(done["states"]) == 27
    assert {uid: one["status"] for one in tasks for uid in task_uids([one])} == done["states"]
    assert len(await resources(target, "Patient")) == 4
    for table in error_tables.RETRYABLE:
        assert await filed(database, table) == []


async def test_the_feed_and_the_worklist_make_one_patient(database: Database) -> None:
    """On a server that lets two conditional creates at the same time both through."""

    class Slow(MemoryFhir):
        async def transaction(self, bundle: Resource) -> Resource:
            makes_patient = any(one["request"]["url"] == "Patient" for one in bundle["entry"])
            is_there = bool(self.all("Patient"))
            await asyncio.sleep(0.05)
            self.creations += makes_patient and not is_there
            return await super().transaction(bundle)

        creations = 0

    server, archive = Slow(), MemoryArchive()
    archive.store(("1.1", "1.2", "1.3"), ct(PatientID="P1"))
    for _ in range(3):
        await created(database)
    state = CastState(database)
    async with running(CastWorker(archive, server, database, SYNC)):
        await until(synced(state, 1))
        await until(caught_up(database))
    assert server.creations == 1
    assert len(server.all("Patient")) == 1


def caught_up(database: Database) -> Callable[[], Any]:
    async def test() -> bool:
        return (await changes.backlog(database, HERE))[0] == 0

    return test


@asynccontextmanager
async def worker(database: Database, target: FhirTarget, options: CastOptions = SYNC) -> AsyncIterator[None]:
    async with running(CastWorker(MemoryArchive(), target, database, options)):
        yield


async def test_the_worker_follows_through_an_outage(database: Database, faulty: FaultyTarget, state: CastState) -> None:
    async with worker(database, faulty):
        uid = await created(database)
        await until(caught_up(database))
        faulty.is_down = True
        await claim(database, uid)
        await until(says(state, "RetryableException"))
        faulty.is_down = False
        await until(caught_up(database))
        await until(says(state, None))
    assert (await only(faulty, "Task"))["status"] == "in-progress"
    assert await filed(database, Table.TRANSIENT_FAILURE) == []


def says(state: CastState, name: str | None) -> Callable[[], Any]:
    async def test() -> bool:
        said = (await state.status()).activity
        error = None if said is None else said.workitem_error
        return said is not None and (None if error is None else error.type) == name

    return test


async def test_a_server_without_tasks_is_told_and_the_feed_goes_on(
    database: Database, faulty: FaultyTarget, state: CastState, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = await faulty.capabilities()
    kept = [one for one in statement["rest"][0]["resource"] if one["type"] != "Task"]

    async def without() -> Resource:
        return statement | {"rest": [statement["rest"][0] | {"resource": kept}]}

    monkeypatch.setattr(faulty, "capabilities", without)
    archive = MemoryArchive()
    archive.store(("1.1", "1.2", "1.3"), ct())
    await created(database)
    async with running(CastWorker(archive, faulty, database, SYNC)):
        await until(says(state, "InvalidFhirServerException"))
        await until(synced(state, 1))
        await until(in_state(state, "idle"))
    assert "GET Task" not in faulty.requests
    assert await filed(database, Table.FHIR_FAIL) == []


async def test_without_the_setting_nothing_is_written(
    database: Database, faulty: FaultyTarget, state: CastState
) -> None:
    await created(database)
    async with worker(database, faulty, OPTIONS):
        await until(in_state(state, "idle"))
        await asyncio.sleep(0.1)
    assert not [line for line in faulty.requests if "Task" in line or "POST" in line]
