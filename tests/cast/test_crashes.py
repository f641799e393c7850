"""Promise 4: whatever kills the worker, and whenever, FHIR ends as one clean pass would have left it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from hounsfield.cast import error_tables, rebuild_operation
from hounsfield.cast.error_tables import RETRYABLE
from hounsfield.cast.failure import Table
from hounsfield.cast.options import RetryTiming
from hounsfield.cast.state import CastState
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database, Transaction
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.target import FhirTarget, Resource
from hounsfield.operations import records
from hounsfield.operations.job import Status
from tests.cast.conftest import Cast
from tests.cast.crash_worker import BASE, archive
from tests.cast.faulty_target import FaultyTarget, status
from tests.cast.fhir_content import content, instances, only, unordered_content
from tests.cast.memory_archive import A, B, MemoryArchive, ct
from tests.peers.fhir_server import FhirServer

ROOT = Path(__file__).parents[2]
Rows = set[tuple[Table, int, str, str]]


async def work_and_be_killed(url: str, target: str, seed: int, length: int, seconds: float, *modality: str) -> int:
    """How many workers it took; see crash_worker."""
    arguments = [url, target, str(seed), str(length), str(seconds), *modality]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cast.crash_worker", *arguments, cwd=ROOT, stdout=subprocess.PIPE
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    assert process.returncode == 0
    return int(output)


async def filed(state: CastState) -> Rows:
    """The rows of everything but retries, each once."""
    found: list[tuple[Table, int, str, str]] = []
    for table in Table:
        if table is not Table.TRANSIENT_RETRY:
            rows, _ = await state.errors(table, 1000, None)
            found += [(table, row.sequence, row.partition_key, row.exception) for row in rows]
    assert len(found) == len(set(found))
    return set(found)


def sorted_by_name(found: dict[str, Resource]) -> dict[str, Resource]:
    return {name: found[name] for name in sorted(found)}


async def clean_pass(seed: int, length: int, target: EmbeddedTarget, cast: Cast) -> tuple[dict[str, Resource], Rows]:
    state = await cast(archive(seed, length), target)
    return sorted_by_name(await content(target)), await filed(state)


@pytest.mark.parametrize("seed", [1, 2, 4])
async def test_kills_with_the_embedded_store(
    seed: int, target: EmbeddedTarget, cast: Cast, sqlite_template: Path, tmp_path: Path
) -> None:
    expected, rows = await clean_pass(seed, 300, target, cast)
    path = tmp_path / "killed.db"
    path.write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{path}"
    assert await work_and_be_killed(url, "embedded", seed, 300, 0.12) > 5
    database = open_database(url)
    killed: FhirTarget = EmbeddedTarget(FhirStore(database, BASE), BASE)
    assert sorted_by_name(await content(killed)) == expected
    assert await filed(CastState(database)) == rows
    await database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def killed_url(request: pytest.FixtureRequest, sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a database of those that will be killed, on either engine."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("cast_postgres_url"))
    path = tmp_path / "killed.db"
    path.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{path}"


async def test_kills_with_the_extended_mapping(target: EmbeddedTarget, cast: Cast, killed_url: str) -> None:
    """Devices, documents, and reports that name their results: none twice, none lost."""
    seed, length = 6, 120
    await cast(archive(seed, length), target, extended_mapping=True)
    expected = await unordered_content(target)
    kinds = {name.partition(" ")[0] for name in expected}
    assert {"Device", "DiagnosticReport", "DocumentReference", "Observation"} < kinds
    assert any("result" in one for one in expected.values())
    longest = 0.4 if killed_url.startswith("postgresql") else 0.15  # a life begins later there
    assert await work_and_be_killed(killed_url, "embedded", seed, length, longest, "", "extended") > 1
    database = open_database(killed_url)
    assert await unordered_content(EmbeddedTarget(FhirStore(database, BASE), BASE)) == expected
    await database.close()


@pytest.mark.peer
async def test_kills_with_another_fhir_server(
    target: EmbeddedTarget, cast: Cast, sqlite_template: Path, tmp_path: Path, fhir_peer: FhirServer
) -> None:
    seed = 3
    expected, rows = await clean_pass(seed, 80, target, cast)
    path = tmp_path / "killed.db"
    path.write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{path}"
    assert await work_and_be_killed(url, fhir_peer.url, seed, 80, 0.5) > 5
    peer = HttpFhirTarget(fhir_peer.url)
    assert sorted_by_name(await content(peer)) == expected
    await peer.close()
    database = open_database(url)
    assert await filed(CastState(database)) == rows
    await database.close()


@pytest.mark.parametrize("seed", [5])
async def test_kills_while_skipped_entries_are_tried_again(
    seed: int, target: EmbeddedTarget, cast: Cast, sqlite_template: Path, tmp_path: Path
) -> None:
    length, modality = 150, "CT"
    feed = archive(seed, length, modality)
    await cast(feed, target)
    expected = await unordered_content(target)
    database, url = opened(sqlite_template, tmp_path)
    store = EmbeddedTarget(FhirStore(database, BASE), BASE)
    # One instance in three is refused at first: the newest of its study often, and often not.
    refused = {entry.sop_uid for entry in feed.entries()[::3]}
    poison = {f"'{sop_uid}'": status(400) for sop_uid in refused}
    await cast(feed, FaultyTarget(store, poison=poison), database=database)
    assert await error_tables.request_retry(database, RETRYABLE, "") > 20
    assert await unordered_content(store) != expected
    await database.close()
    assert await work_and_be_killed(url, "embedded", seed, length, 0.2, modality) > 1
    database = open_database(url)
    assert await unordered_content(EmbeddedTarget(FhirStore(database, BASE), BASE)) == expected
    state = CastState(database)
    assert {row[0] for row in await filed(state)} == {Table.DICOM_FAIL, Table.INVALID_TAG}
    await database.close()


@pytest.mark.parametrize("seed", [7])
async def test_kills_while_a_rebuild_goes_on(
    seed: int, target: EmbeddedTarget, cast: Cast, sqlite_template: Path, tmp_path: Path
) -> None:
    length = 150
    await cast(archive(seed, length), target)
    expected = await unordered_content(target)
    database, url = opened(sqlite_template, tmp_path)
    store = EmbeddedTarget(FhirStore(database, BASE), BASE)
    # What another history left: other studies, other values of the same, nothing of some; and it casts on meanwhile.
    await cast(archive(seed + 100, length), store, database=database)
    await database.write(_forget_position)
    operation_id = await rebuild_operation.start(database)
    await database.close()
    assert await work_and_be_killed(url, "embedded", seed, length, 0.15) > 3
    database = open_database(url)
    found = await records.find(database, operation_id)
    assert found is not None and found.status is Status.SUCCEEDED
    patients = {name: one for name, one in expected.items() if name.startswith("Patient")}
    held = await unordered_content(EmbeddedTarget(FhirStore(database, BASE), BASE))
    # Birth dates stay as they are once they are there.
    assert {name: one for name, one in held.items() if name not in patients} == {
        name: one for name, one in expected.items() if name not in patients
    }
    for name, one in patients.items():
        assert (held[name]["name"], held[name].get("gender")) == (one["name"], one.get("gender"))
    await database.close()


async def _forget_position(tx: Transaction) -> None:
    await tx.execute("DELETE FROM cast_state")
    await tx.execute("DELETE FROM cast_updated_instance")


def opened(template: Path, directory: Path) -> tuple[Database, str]:
    """A database of its own, and its URL."""
    path = directory / "killed.db"
    path.write_bytes(template.read_bytes())
    url = f"sqlite:///{path}"
    return open_database(url), url


async def test_two_cast_processes_by_mistake(
    faulty: FaultyTarget, database: Database, cast: Cast, sqlite_template: Path, tmp_path: Path
) -> None:
    """Each with a database of its own, so no lease keeps them apart: every request of one may meet the other's."""
    # Whether an instance without Modality is refused depends on what its series has by then: here all have one.
    feed = archive(9, 150, "CT")
    other, _ = opened(sqlite_template, tmp_path)
    await asyncio.gather(
        cast(feed, faulty, page_size=7, retry_timing=RetryTiming(0.001, 0.01, 0.01)),
        cast(feed, faulty.inner, page_size=30, database=other, retry_timing=RetryTiming(0.001, 0.01, 0.01)),
    )
    held = await unordered_content(faulty)
    skipped = await filed(CastState(database)), await filed(CastState(other))
    await other.close()
    alone, _ = opened(sqlite_template, tmp_path)
    target = EmbeddedTarget(FhirStore(alone, BASE), BASE)
    state = await cast(feed, target, database=alone)
    assert held == await unordered_content(target)
    assert skipped == (await filed(state),) * 2
    await alone.close()


async def test_numbers_that_are_missing_in_the_feed(target: EmbeddedTarget, cast: Cast, archive: MemoryArchive) -> None:
    """Rolled-back transactions leave gaps, shorter and longer than a window, at the beginning and at the end."""
    archive.skip(25)
    archive.store(A, ct())
    archive.skip(9)
    archive.store(B, ct(PatientName="Newer"))
    archive.skip(10)
    archive.skip(31)
    archive.delete(A)
    archive.skip(40)
    state = await cast(archive, target, page_size=10)
    assert await state.position() == 25 + 1 + 9 + 1 + 41 + 1
    assert instances(await only(target, "ImagingStudy")) == [B[2]]
    assert (await only(target, "Patient"))["name"][0]["family"] == "Newer"
