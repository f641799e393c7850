"""Against a FHIR server nobody here wrote: contents, outages and faults at every step, over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from hounsfield.cast.failure import Table
from hounsfield.cast.state import CastState
from hounsfield.cast.worker import CastWorker
from hounsfield.database.engine import Database, Transaction
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.embedded import EmbeddedTarget
from tests.cast.conftest import OPTIONS, Cast
from tests.cast.dose_report import event, num, report
from tests.cast.fhir_content import content, only, resources
from tests.cast.memory_archive import MemoryArchive, ct
from tests.cast.test_worker import in_state, running, synced, until
from tests.peers.fhir_server import FhirServer

pytestmark = pytest.mark.peer
STEPS = ["GET /fhir/R4/Patient", "GET /fhir/R4/Endpoint", "GET /fhir/R4/ImagingStudy", "POST /fhir/R4"]


@pytest.fixture
async def peer(fhir_peer: FhirServer) -> AsyncIterator[HttpFhirTarget]:
    target = HttpFhirTarget(fhir_peer.url, timeout=1.0)
    yield target
    await target.close()


@pytest.fixture
def archive() -> MemoryArchive:
    """Several studies and patients, a dose report, an update, deletes."""
    archive = MemoryArchive()
    for number in range(12):
        study = number % 3
        archive.store(
            (f"1.{study}", f"1.{study}.{number % 2}", f"1.{study}.1.{number}"),
            ct(PatientID=f"P{study % 2}", PatientName=f"Name^{number}", InstanceNumber=number),
        )
    events = [event(num("113838", value), num("113830", value, "mGy"), uid=f"1.{value}") for value in range(1, 8)]
    archive.store(("1.0", "1.0.9", "1.0.9.1"), report(*events, PatientID="P0"))
    archive.store(("1.4", "1.4.1", "1.4.1.1"), ct(PatientID="P4"))
    archive.update(("1.4", "1.4.1", "1.4.1.1"), ct(PatientID="P5", StudyDescription="Corrected"))
    archive.store(("1.5", "1.5.1", "1.5.1.1"), report(event(num("113838", 3)), PatientID="P5"))
    archive.delete(("1.5", "1.5.1", "1.5.1.1"))
    archive.delete(("1.1", "1.1.1", "1.1.1.1"))
    return archive


async def test_the_same_content_as_in_the_embedded_store(
    archive: MemoryArchive, peer: HttpFhirTarget, target: EmbeddedTarget, cast: Cast
) -> None:
    state: CastState = await cast(archive, peer, page_size=10)
    assert sum((await state.status()).error_counts.values()) == 0
    found = await content(peer)
    assert sum(name.startswith("ImagingStudy") for name in found) == 4
    assert sum(name.startswith("Observation") for name in found) == 8
    await reset(state)
    await cast(archive, target)
    assert await content(target) == found


async def reset(state: CastState) -> None:
    """As if nothing was ever cast."""

    async def unit(tx: Transaction) -> None:
        for table in ("cast_state", "cast_updated_instance"):
            await tx.execute(f"DELETE FROM {table}")

    await state._database.write(unit)


async def test_a_second_pass_writes_nothing(
    archive: MemoryArchive, peer: HttpFhirTarget, fhir_peer: FhirServer, cast: Cast
) -> None:
    """Deletes and re-creations apart, a feed met again finds everything as it should be."""
    quiet = MemoryArchive()
    for entry in archive.entries():
        if entry.action.value == "Create" and entry.metadata:
            quiet.store((entry.study_uid, entry.series_uid, entry.sop_uid), entry.metadata)
    state = await cast(quiet, peer)
    before = await content(peer)
    posts = sum(one["request"].startswith("POST") for one in fhir_peer.requests())
    await reset(state)
    await cast(quiet, peer)
    again = [one for one in fhir_peer.requests() if one["request"].startswith("POST")][posts:]
    assert await content(peer) == before
    # The subject's name goes through all values of the feed again; studies stay as they are.
    assert len(again) <= 12


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("status", [0, 408, 429, 500, 503])
async def test_faults_at_every_step_change_nothing_in_the_end(
    archive: MemoryArchive, peer: HttpFhirTarget, fhir_peer: FhirServer, cast: Cast, step: str, status: int
) -> None:
    fhir_peer.fail_next(3, status, match=step)
    state = await cast(archive, peer, total_retry_duration=timedelta(seconds=20))
    counts = (await state.status()).error_counts
    assert counts.pop(Table.TRANSIENT_RETRY) >= 1
    assert set(counts.values()) == {0}
    studies = await resources(peer, "ImagingStudy")
    assert len(studies) == 4
    assert sum(len(series["instance"]) for study in studies for series in study["series"]) == 13


@pytest.mark.parametrize("status", [0, 500, 503])
async def test_lost_answers_of_transactions(
    archive: MemoryArchive,
    peer: HttpFhirTarget,
    target: EmbeddedTarget,
    fhir_peer: FhirServer,
    cast: Cast,
    status: int,
) -> None:
    state = await cast(archive, target)
    await reset(state)
    fhir_peer.fail_next(4, status, match="POST /fhir/R4", after=True)
    await cast(archive, peer)
    assert await content(peer) == await content(target)


@pytest.mark.parametrize("status", [409, 412])
async def test_conflicts(
    archive: MemoryArchive, peer: HttpFhirTarget, fhir_peer: FhirServer, cast: Cast, status: int
) -> None:
    fhir_peer.fail_next(2, status, match="POST /fhir/R4")
    state = await cast(archive, peer)
    names = {row.partition_key for row in (await state.errors(Table.TRANSIENT_RETRY, 100, None))[0]}
    assert names == {"ResourceConflictException"}
    assert len(await resources(peer, "ImagingStudy")) == 4


async def test_time_outs(peer: HttpFhirTarget, fhir_peer: FhirServer, cast: Cast) -> None:
    archive = MemoryArchive()
    archive.store(("1.1", "1.2", "1.3"), ct())
    fhir_peer.pause()
    working = asyncio.create_task(cast(archive, peer))
    await asyncio.sleep(2.5)
    fhir_peer.resume()
    state = await asyncio.wait_for(working, 10)
    await only(peer, "ImagingStudy")
    assert (await state.status()).error_counts[Table.TRANSIENT_RETRY] >= 1


async def test_an_outage_longer_than_the_budget_loses_nothing(
    archive: MemoryArchive,
    peer: HttpFhirTarget,
    fhir_peer: FhirServer,
    database: Database,
    state: CastState,
) -> None:
    fhir_peer.fail_next(10**6, 0)
    async with running(CastWorker(archive, peer, database, OPTIONS)):
        await until(in_state(state, "retrying"))
        fhir_peer.fail_next(0)
        await until(in_state(state, "running"))
        fhir_peer.fail_next(10**6, 503)
        await asyncio.sleep(1.5)
        fhir_peer.fail_next(0)
        await until(synced(state, 18), 20)
    assert (await state.status()).error_counts[Table.TRANSIENT_FAILURE] == 0
    assert len(await resources(peer, "ImagingStudy")) == 4


async def test_a_refusal_of_one_entry_does_not_stop_its_neighbours(peer: HttpFhirTarget, cast: Cast) -> None:
    archive = MemoryArchive()
    for number in range(6):
        # What no UID can hold no id can (R4): the server refuses the resource.
        series = "1.1_3" if number == 3 else f"1.1.{number}"
        archive.store(("1.1", series, f"1.1.1.{number}"), ct())
    state = await cast(archive, peer)
    ((row,), _) = await state.errors(Table.FHIR_FAIL, 10, None)
    assert (row.sequence, row.partition_key) == (4, "TransactionFailedException")
    study = await only(peer, "ImagingStudy")
    assert [series["uid"] for series in study["series"]] == [f"1.1.{number}" for number in (0, 1, 2, 4, 5)]


async def test_worker_end_to_end(
    archive: MemoryArchive, peer: HttpFhirTarget, database: Database, state: CastState
) -> None:
    async with running(CastWorker(archive, peer, database, replace(OPTIONS, page_size=4))):
        await until(synced(state, 18), 20)
    assert len(await resources(peer, "ImagingStudy")) == 4
