"""Several DICOM servers cast into one FHIR server: each has its Endpoint, and a deletion in one leaves the others'."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from hounsfield.cast import sources
from hounsfield.cast.journal import Journal
from hounsfield.cast.state import CastState
from hounsfield.cast.synchroniser import Synchroniser
from hounsfield.database.connect import open_database
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.target import FhirTarget, Resource
from tests.cast.conftest import OPTIONS
from tests.cast.dose_report import dose
from tests.cast.faulty_target import FaultyTarget
from tests.cast.fhir_content import content, instances, only, resources
from tests.cast.memory_archive import A, B, C, MemoryArchive, ct
from tests.peers.fhir_server import FhirServer

NORTH, SOUTH, EAST = ("https://north.example/", "https://south.example/dicom", "https://east.example/")


class Source:
    """A DICOM server and the cast process that follows it, with a database of its own."""

    def __init__(self, root: str, state: CastState, target: FhirTarget) -> None:
        self.archive = MemoryArchive()
        options = replace(OPTIONS, root_url=root)
        self._journal = Journal(state, target.endpoint, root)
        self._synchroniser = Synchroniser(target, state, self._journal, options, lambda: None)
        self.state = state

    async def cast(self) -> None:
        position = await self._journal.resume()
        page = await self.archive.page(position, 1000)
        await self._synchroniser.process(page.entries, await self.archive.latest())
        assert sum((await self.state.status()).error_counts.values()) == 0


@pytest.fixture
async def make(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Callable[[str, FhirTarget], Awaitable[Source]]]:
    async with AsyncExitStack() as stack:

        async def made(root: str, target: FhirTarget) -> Source:
            name = f"{root.split('/')[2]}.db"
            shutil.copy(sqlite_template, tmp_path / name)
            database = open_database(f"sqlite:///{tmp_path / name}")
            stack.push_async_callback(database.close)
            return Source(root, CastState(database), target)

        yield made


Make = Callable[[str, FhirTarget], Awaitable[Source]]


@pytest.fixture(params=["embedded", pytest.param("peer", marks=pytest.mark.peer)])
async def fhir(request: pytest.FixtureRequest, target: EmbeddedTarget) -> AsyncIterator[FhirTarget]:
    """One FHIR server for all: ours, or one that nobody here wrote."""
    if request.param == "embedded":
        yield target
        return
    server: FhirServer = request.getfixturevalue("fhir_peer")
    peer = HttpFhirTarget(server.url)
    yield peer
    await peer.close()


async def endpoints(target: FhirTarget, study: Resource) -> list[str]:
    """Roots of the Endpoints a study names."""
    names = {f"Endpoint/{one['id']}": one["address"] for one in await resources(target, "Endpoint")}
    return [names[one["reference"]] for one in study["endpoint"]]


async def test_each_has_its_endpoint_and_its_studies(fhir: FhirTarget, make: Make) -> None:
    north, south = await make(NORTH, fhir), await make(SOUTH, fhir)
    north.archive.store(A, ct())
    south.archive.store(("2.1", "2.1.1", "2.1.1.1"), ct())
    await north.cast()
    await south.cast()
    assert {one["address"] for one in await resources(fhir, "Endpoint")} == {NORTH, SOUTH}
    for study in await resources(fhir, "ImagingStudy"):
        root = NORTH if study["identifier"][0]["value"] == "urn:oid:1.1" else SOUTH
        assert study["meta"]["source"].partition("#")[0] == root
        assert await endpoints(fhir, study) == [root]
        assert "extension" not in str(study)
    assert len(await resources(fhir, "Patient")) == 1


async def test_a_study_in_both_loses_only_what_no_server_has(fhir: FhirTarget, make: Make) -> None:
    north, south = await make(NORTH, fhir), await make(SOUTH, fhir)
    for uids in (A, B):
        north.archive.store(uids, ct())
    await north.cast()
    for uids in (B, C):
        south.archive.store(uids, dose(1) if uids == C else ct())
    await south.cast()
    north.archive.store(B, ct(StudyDescription="Again"))
    await north.cast()
    study = await only(fhir, "ImagingStudy")
    assert await endpoints(fhir, study) == [NORTH, SOUTH]
    assert study["meta"]["source"].partition("#")[0] == NORTH
    assert sorted(instances(study)) == sorted([A[2], B[2], C[2]])

    south.archive.delete(B)
    await south.cast()
    assert sorted(instances(await only(fhir, "ImagingStudy"))) == sorted([A[2], B[2], C[2]])

    south.archive.store(B, ct())
    await south.cast()
    for uids in (A, B):
        north.archive.delete(uids)
    await north.cast()
    study = await only(fhir, "ImagingStudy")
    assert sorted(instances(study)) == sorted([B[2], C[2]])
    # What is left is the other's alone, as if it had never been otherwise.
    assert await endpoints(fhir, study) == [SOUTH]
    assert study["meta"]["source"].partition("#")[0] == SOUTH
    assert "extension" not in str(study)
    assert len(await resources(fhir, "Observation")) == 2

    for uids in (B, C):
        south.archive.delete(uids)
    await south.cast()
    assert not await resources(fhir, "ImagingStudy")
    assert not await resources(fhir, "Observation")
    assert len(await resources(fhir, "Endpoint")) == 2


async def test_observations_stay_while_another_server_has_the_report(target: EmbeddedTarget, make: Make) -> None:
    north, south = await make(NORTH, target), await make(SOUTH, target)
    for source in (north, south):
        source.archive.store(A, dose(1, 2))
        await source.cast()
    before = len(await resources(target, "Observation"))
    assert before == 3
    north.archive.delete(A)
    await north.cast()
    assert len(await resources(target, "Observation")) == before
    south.archive.delete(A)
    await south.cast()
    await content(target)
    assert not await resources(target, "Observation")


async def test_who_never_had_it_cast_removes_nothing(target: EmbeddedTarget, make: Make) -> None:
    """Stored and deleted again before cast came to it, as another server's instance stands in FHIR."""
    north, south = await make(NORTH, target), await make(SOUTH, target)
    for uids in (A, B):
        north.archive.store(uids, ct())
    await north.cast()
    before = await only(target, "ImagingStudy")
    south.archive.store(A, ct())
    south.archive.delete(A)
    await south.cast()
    assert await only(target, "ImagingStudy") == before
    south.archive.store(C, ct())
    await south.cast()
    south.archive.store(A, ct())
    south.archive.delete(A)
    await south.cast()
    assert sorted(instances(await only(target, "ImagingStudy"))) == sorted([A[2], B[2], C[2]])


async def test_both_at_the_same_time(target: EmbeddedTarget, make: Make) -> None:
    """Whoever comes second finds a conflict, and merges."""
    north = await make(NORTH, target)
    south = await make(SOUTH, FaultyTarget(target, before_transaction=[north.cast]))
    for uids in (A, B):
        north.archive.store(uids, ct())
    for uids in (A, C):
        south.archive.store(uids, ct())
    await south._journal.resume()
    await south._synchroniser.process(south.archive.entries(), 2)
    study = await only(target, "ImagingStudy")
    assert sorted(instances(study)) == sorted([A[2], B[2], C[2]])
    assert await endpoints(target, study) == [NORTH, SOUTH]
    north.archive.delete(A)
    north.archive.delete(B)
    await north.cast()
    assert sorted(instances(await only(target, "ImagingStudy"))) == sorted([A[2], C[2]])


def shared(**changes: object) -> Resource:
    """Made for the north, which is Endpoint 1."""
    series = [{"uid": "1", "instance": [{"uid": "1.1"}, {"uid": "1.2"}]}]
    meta = {"source": f"{NORTH}#trace", "versionId": "3"}
    return {"meta": meta, "endpoint": [{"reference": f"Endpoint/{n}"} for n in (1, 2)], "series": series} | changes


def test_a_third_server_inherits() -> None:
    study = shared(endpoint=[{"reference": f"http://fhir.example/Endpoint/{number}"} for number in (1, 2, 3)])
    first, second = study["series"][0]["instance"]
    for instance in (first, second):
        for number, root in ((3, EAST), (2, SOUTH)):
            sources.add(study, instance, root, f"Endpoint/{number}", is_new=False)
    for instance in (first, second):
        assert not sources.withdraw(study, instance, NORTH, "Endpoint/1")
    sources.leave(study, NORTH, "Endpoint/1")
    assert study["meta"]["source"] == EAST
    assert len(study["endpoint"]) == 2
    assert not sources.withdraw(study, first, EAST, "Endpoint/3")
    assert sources.withdraw(study, first, SOUTH, "Endpoint/2")


def test_a_fhir_server_that_keeps_no_source() -> None:
    """Then the study is that of its first Endpoint."""
    study = shared(meta={"versionId": "3"})
    first, second = study["series"][0]["instance"]
    sources.add(study, first, SOUTH, "Endpoint/2", is_new=False)
    assert not sources.withdraw(study, first, SOUTH, "Endpoint/2")
    assert not sources.withdraw(study, second, SOUTH, "Endpoint/2")
    assert sources.withdraw(study, second, NORTH, "Endpoint/1")


def test_other_extensions_of_an_instance_stay() -> None:
    study = shared()
    instance = study["series"][0]["instance"][0]
    other = {"url": "http://hospital.example/x", "valueString": "y"}
    instance["extension"] = [other]
    sources.add(study, instance, SOUTH, "Endpoint/2", is_new=False)
    assert len(instance["extension"]) == 3
    assert not sources.withdraw(study, instance, SOUTH, "Endpoint/2")
    sources.add(study, instance, NORTH, "Endpoint/1", is_new=False)
    assert instance["extension"] == [other]
