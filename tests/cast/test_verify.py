"""A comparison finds what has drifted apart, names it without values, and changes nothing."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hounsfield.cast.verify import Drift, Verification, differences
from hounsfield.database.engine import Database
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.target import FhirTarget
from tests.cast.conftest import OPTIONS, Cast
from tests.cast.dose_report import dose
from tests.cast.faulty_target import FaultyTarget, status
from tests.cast.fhir_content import only, resources, unordered_content
from tests.cast.memory_archive import OTHER_STUDY, A, B, MemoryArchive, ct
from tests.cast.test_rebuild import delete, write

Verify = Callable[..., Awaitable[tuple[list[Drift], Verification]]]


@pytest.fixture
def verify(database: Database) -> Verify:
    """``await verify(archive, target, patience=0)``: all drift, and the counts."""

    async def one(archive: MemoryArchive, target: FhirTarget, patience: float = 0) -> tuple[list[Drift], Verification]:
        done = Verification(archive, target, database, OPTIONS, patience)
        return [drift async for drift in done.run()], done

    return one


async def test_nothing_to_report(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, verify: Verify) -> None:
    archive.store(A, ct(PatientSex="X"))
    archive.store(B, dose(5))
    archive.store(OTHER_STUDY, ct(PatientID=None))
    archive.store(("1.3", "1.3.1", "1.3.1.1"), ct())
    archive.delete(("1.3", "1.3.1", "1.3.1.1"))
    await cast(archive, faulty)
    sent = len(faulty.bundles)
    found, done = await verify(archive, faulty)
    assert (found, done.studies, done.refused, done.behind) == ([], 3, 1, 0)
    assert len(faulty.bundles) == sent


async def test_each_kind_of_drift(archive: MemoryArchive, target: EmbeddedTarget, cast: Cast, verify: Verify) -> None:
    former = MemoryArchive()
    former.store(("1.9", "1.9.1", "1.9.1.1"), ct())
    await cast(former, target)
    archive.store(("1.0", "1.0.1", "1.0.1.1"), ct())  # passed over: the position is there already
    for uids in (A, B, OTHER_STUDY):
        archive.store(uids, ct())
    await cast(archive, target)
    study = next(
        one for one in await resources(target, "ImagingStudy") if one["identifier"][0]["value"] == "urn:oid:1.1"
    )
    series = study["series"][0]
    series["instance"][0]["uid"] = "1.1.1.7"
    series["description"] = "Somebody^Else"
    del series["number"]
    patient = await only(target, "Patient")
    patient["name"][0]["family"] = "Other"
    await write(target, study, patient)
    before = await unordered_content(target)
    found, _ = await verify(archive, target)
    assert [(each.study_uid, each.resource, each.problem) for each in found] == [
        ("1.0", "Patient", "different"),
        ("1.0", "ImagingStudy", "missing"),
        ("1.1", "Patient", "different"),
        ("1.1", "ImagingStudy", "different"),
        ("1.2", "Patient", "different"),
        ("1.9", "ImagingStudy", "extra"),
    ]
    paths = {field.path for field in found[3].fields}
    assert paths == {
        "series[1.1.1].description",
        "series[1.1.1].number",
        "series[1.1.1].instance[1.1.1.1]",
        "series[1.1.1].instance[1.1.1.7]",
    }
    assert [field.path for field in found[0].fields] == ["name"]
    assert await unordered_content(target) == before


async def test_skipped_entries_and_what_cannot_be_compared(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, verify: Verify
) -> None:
    archive.store(A, ct())
    archive.store(OTHER_STUDY, ct(PatientID="P2"))
    faulty.poison = {f"'{A[2]}'": status(400)}
    await cast(archive, faulty)
    twice = (await only(faulty, "Patient")) | {"id": "twice"}
    await write(faulty.inner, twice)
    found, _ = await verify(archive, faulty)
    assert [(each.study_uid, each.resource, each.problem, each.skipped) for each in found] == [
        ("1.1", "Patient", "missing", 1),
        ("1.1", "ImagingStudy", "missing", 1),
        ("1.2", "ImagingStudy", "unreadable", 0),
    ]
    assert found[2].reason == "Multiple 'Patient' matching the search criteria found."


async def test_casting_is_waited_for(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast, verify: Verify
) -> None:
    archive.store(A, ct())
    await cast(archive, target)
    archive.store(B, ct())
    archive.delete(A)
    found, done = await verify(archive, target)
    assert [(each.study_uid, each.problem) for each in found] == [("1.1", "different")]
    assert done.behind == 2
    late = asyncio.create_task(_later(cast, archive, target))
    found, done = await verify(archive, target, 10)
    await late
    assert (found, done.behind) == ([], 0)


async def _later(cast: Cast, archive: MemoryArchive, target: FhirTarget) -> None:
    await asyncio.sleep(0.3)
    await cast(archive, target)


async def test_orphaned_observations_are_found(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast, verify: Verify
) -> None:
    former = MemoryArchive()
    former.store(OTHER_STUDY, dose(5))
    await cast(former, target)
    for one in await resources(target, "Observation"):
        await write(target, {key: value for key, value in one.items() if key != "partOf"})
    await delete(target, await only(target, "ImagingStudy"))
    found, _ = await verify(archive, target)
    assert {(each.study_uid, each.resource, each.problem) for each in found} == {("1.2", "Observation", "extra")}


def test_order_means_nothing_and_doubles_are_told() -> None:
    wanted = {"note": [{"text": "a"}, {"text": "b"}], "series": [{"uid": "1"}, {"uid": "2"}]}
    assert list(differences(wanted, {"note": wanted["note"][::-1], "series": wanted["series"][::-1]})) == []
    doubled = wanted | {"series": [*wanted["series"], {"uid": "2"}]}
    assert [each.path for each in differences(wanted, doubled)] == ["series"]
