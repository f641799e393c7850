"""Rebuild and verify with the extended mapping: Devices and documents as well, and links of others stay."""

import asyncio
from dataclasses import replace

import msgspec
import pytest

from hounsfield.cast import document, rebuild_operation
from hounsfield.cast.rebuild import RebuildJob
from hounsfield.cast.reference import study_identifier
from hounsfield.cast.state import CastState
from hounsfield.cast.verify import Verification
from hounsfield.database.engine import Database
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.operations.job import Operation, Status
from tests.cast.conftest import OPTIONS, Cast
from tests.cast.dose_report import dose
from tests.cast.fhir_content import only, resources, unordered_content
from tests.cast.memory_archive import OTHER_STUDY, A, B, C, MemoryArchive, ct
from tests.cast.test_rebuild import delete, run, write
from tests.cast.test_synchroniser_extended import EQUIPMENT, key_objects, sr

EXTENDED = replace(OPTIONS, extended_mapping=True)


@pytest.fixture
def archive() -> MemoryArchive:
    """Two studies with documents and equipment, one of them deleted in part and updated."""
    archive = MemoryArchive()
    archive.store(A, sr(**EQUIPMENT))
    archive.store(B, key_objects(ReferringPhysicianName="Grey^Meredith", NameOfPhysiciansReadingStudy="House"))
    archive.store(C, ct(BodyPartExamined="CHEST", PerformingPhysicianName="Kildare", StationName="CT02"))
    for number in range(8):
        archive.store(
            (OTHER_STUDY[0], f"1.2.{number}", f"1.2.{number}.1"), sr(PatientID="P2", StationName=f"S{number}")
        )
    archive.store(OTHER_STUDY, dose(1, 2, PatientID="P2"))
    archive.update(A, sr(**EQUIPMENT, AccessionNumber="A9", PatientID="P3"))
    archive.delete((OTHER_STUDY[0], "1.2.3", "1.2.3.1"))
    return archive


async def rebuild(archive: MemoryArchive, target: EmbeddedTarget, database: Database) -> Operation:
    job = RebuildJob(
        *(archive, target, CastState(database), database, EXTENDED),
        guard=lambda: None,
        is_fit=lambda: True,
        turn=asyncio.Lock(),
    )
    found = await run(job, database, await rebuild_operation.start(database, 0))
    assert found.status is Status.SUCCEEDED, found.error
    return found


async def drift(archive: MemoryArchive, target: EmbeddedTarget, database: Database) -> list[tuple[str, str]]:
    verification = Verification(archive, target, database, EXTENDED, patience=0)
    return [(one.resource.partition("/")[0], one.problem) async for one in verification.run()]


async def test_an_empty_server_and_drift_are_mended(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, cast: Cast
) -> None:
    await cast(archive, target, extended_mapping=True)
    wanted = await unordered_content(target)
    assert await drift(archive, target, database) == []
    assert (await rebuild(archive, target, database)).results["written"] == 0  # type: ignore[index]

    report, *_, selection = [*await resources(target, "DiagnosticReport"), await only(target, "DocumentReference")]
    await delete(target, report, selection)
    study = next(one for one in await resources(target, "ImagingStudy") if len(one["series"]) == 2)
    study |= {"numberOfInstances": 70, "description": "drifted"}
    del study["series"][1]["bodySite"], study["series"][0]["performer"]
    await write(target, study)
    found = await drift(archive, target, database)
    assert sorted(found) == [
        *(("DiagnosticReport", "missing"), ("DocumentReference", "missing"), ("ImagingStudy", "different")),
    ]
    await rebuild(archive, target, database)
    assert await unordered_content(target) == wanted
    assert await drift(archive, target, database) == []


async def test_into_an_empty_server(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, cast: Cast
) -> None:
    await rebuild(archive, target, database)
    rebuilt = await unordered_content(target)
    assert await drift(archive, target, database) == []
    await cast(archive, target, extended_mapping=True)
    again = await unordered_content(target)
    assert again.keys() == rebuilt.keys()
    assert sum(name.startswith("Device") for name in rebuilt) == 8


async def test_reports_are_linked_to_their_results(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, cast: Cast
) -> None:
    uids = ("1.3", "1.3.1", "1.3.1.1")
    archive.store(uids, dose(*range(110)))
    await cast(archive, target, extended_mapping=True)
    wanted = await unordered_content(target)
    report = next(one for one in await resources(target, "DiagnosticReport") if document.key(one) == uids[2])
    missing = report["result"].pop(3)["reference"]
    await write(target, report)
    lost = next(one for one in await resources(target, "Observation") if one["id"] == missing.partition("/")[2])
    await delete(target, lost)
    assert sorted(await drift(archive, target, database)) == [
        *(("DiagnosticReport", "different"), ("Observation", "missing")),
    ]
    await rebuild(archive, target, database)
    assert await unordered_content(target) == wanted

    # What should be there is a fraction of what is: more goes than one transaction takes, and the report stays.
    archive.update(uids, dose(1000))
    await rebuild(archive, target, database)
    report = next(one for one in await resources(target, "DiagnosticReport") if document.key(one) == uids[2])
    assert len(report["result"]) == 2
    assert await drift(archive, target, database) == []


async def test_documents_of_studies_that_are_nowhere_any_more_go(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, cast: Cast
) -> None:
    await cast(archive, target, extended_mapping=True)
    wanted = await unordered_content(target)
    kept = await resources(target, "DiagnosticReport") + await resources(target, "DocumentReference")
    for one in kept[:1] + kept[-1:]:
        link = "imagingStudy" if one["resourceType"] == "DiagnosticReport" else "context"
        orphan = {name: value for name, value in one.items() if name not in ("id", "masterIdentifier", link)}
        orphan["identifier"] = [
            study_identifier("9.9"),
            {"system": document.KEY_SYSTEM, "value": "9.9.9"},
        ]
        elsewhere = msgspec.json.decode(msgspec.json.encode(orphan).replace(b"dicom.example.com", b"other.example.com"))
        elsewhere["identifier"] = [study_identifier("9.8"), {"system": document.KEY_SYSTEM, "value": "9.8.9"}]
        await write(target, orphan, elsewhere)
    assert sorted(await drift(archive, target, database)) == [
        *(("DiagnosticReport", "extra"), ("DocumentReference", "extra")),
    ]
    assert (await rebuild(archive, target, database)).results["removed"] == 1  # type: ignore[index]
    held = await unordered_content(target)
    strangers = [name for name in held if name.endswith(" 9.8.9")]
    assert len(strangers) == 2
    assert {name: one for name, one in held.items() if name not in strangers} == wanted


async def test_what_people_linked_stays(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, cast: Cast
) -> None:
    await cast(archive, target, extended_mapping=True)
    study = next(one for one in await resources(target, "ImagingStudy") if len(one["series"]) == 2)
    study["referrer"] = {"reference": "Practitioner/grey"}
    study["interpreter"].append({"reference": "Practitioner/house"})
    study["basedOn"].append({"reference": "CarePlan/1"})
    study["series"][0]["performer"].append({"actor": {"reference": "Organization/1"}})
    await write(target, study)
    await rebuild(archive, target, database)
    kept = next(one for one in await resources(target, "ImagingStudy") if len(one["series"]) == 2)
    assert kept["referrer"] == study["referrer"]
    assert {"reference": "Practitioner/house"} in kept["interpreter"]
    assert {"reference": "CarePlan/1"} in kept["basedOn"]
    assert {"actor": {"reference": "Organization/1"}} in kept["series"][0]["performer"]
    assert await drift(archive, target, database) == []
