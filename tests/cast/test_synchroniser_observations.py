"""From feed entries of dose reports to observations, against the embedded store."""

from hounsfield.fhir.embedded import EmbeddedTarget
from tests.cast.conftest import Cast
from tests.cast.dose_report import code as concept
from tests.cast.dose_report import dose, node, report
from tests.cast.faulty_target import FaultyTarget
from tests.cast.fhir_content import only, resources
from tests.cast.memory_archive import A, B, C, MemoryArchive, ct


async def test_a_dose_report_becomes_observations(archive: MemoryArchive, target: EmbeddedTarget, cast: Cast) -> None:
    archive.store(A, dose(1, 2))
    archive.store(B, ct())
    await cast(archive, target)
    study, patient = await only(target, "ImagingStudy"), await only(target, "Patient")
    found = await resources(target, "Observation")
    assert len(found) == 3
    assert {one["subject"]["reference"] for one in found} == {f"Patient/{patient['id']}"}
    parts = [one["partOf"] for one in found if "partOf" in one]
    assert parts == [[{"reference": f"ImagingStudy/{study['id']}"}]]


async def test_many_observations_go_in_transactions_of_their_own(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, dose(*range(1, 12)))
    await cast(archive, faulty)
    assert len(await resources(faulty, "Observation")) == 12
    sizes = [len(bundle["entry"]) for bundle in faulty.bundles]
    assert sizes == [3, 5, 5, 2]


async def test_a_report_met_again_changes_nothing(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast) -> None:
    archive.store(A, dose(1))
    archive.store(A, dose(1))
    await cast(archive, faulty, page_size=1)
    assert len(faulty.bundles) == 1
    assert len(await resources(faulty, "Observation")) == 2


async def test_an_updated_report_is_brought_up_to_date(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, dose(1, 2))
    await cast(archive, target)
    archive.update(A, dose(3, PatientID="P2"))
    await cast(archive, target)
    found = await resources(target, "Observation")
    values = [one["component"][0]["valueQuantity"]["value"] for one in found if "component" in one]
    assert values == [3]
    assert len(found) == 2
    study = await only(target, "ImagingStudy")
    assert {one["subject"]["reference"] for one in found} == {study["subject"]["reference"]}


async def test_observations_follow_the_subject_when_another_instance_is_updated(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, dose(1))
    archive.store(B, ct())
    await cast(archive, target)
    archive.update(B, ct(PatientID="P2"))
    await cast(archive, target)
    study = await only(target, "ImagingStudy")
    assert {one["subject"]["reference"] for one in await resources(target, "Observation")} == {
        study["subject"]["reference"]
    }


async def test_only_the_deleted_report_loses_its_observations(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, dose(1))
    archive.store(B, dose(2))
    archive.store(C, ct())
    await cast(archive, target)
    archive.delete(C)
    await cast(archive, target)
    assert len(await resources(target, "Observation")) == 4
    archive.delete(A)
    await cast(archive, target)
    found = await resources(target, "Observation")
    assert [one["identifier"][-1]["value"].partition("#")[0] for one in found] == [B[2], B[2]]


async def test_observations_without_key_go_with_the_study(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, dose(1))
    archive.store(B, ct())
    await cast(archive, target)
    patient, study = await only(target, "Patient"), await only(target, "ImagingStudy")
    written_by_the_reference = {
        "resourceType": "Observation",
        "identifier": [study["identifier"][0]],
        "status": "preliminary",
        "code": {"coding": [{"system": "http://loinc.org", "code": "73569-6"}]},
        "subject": {"reference": f"Patient/{patient['id']}"},
        "partOf": [{"reference": f"ImagingStudy/{study['id']}"}],
    }
    await target._store.create("Observation", written_by_the_reference)
    archive.delete(A)
    await cast(archive, target)
    assert len(await resources(target, "Observation")) == 1
    archive.delete(B)
    await cast(archive, target)
    assert await resources(target, "Observation") == []
    assert await resources(target, "ImagingStudy") == []


async def test_observations_can_be_switched_off(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast) -> None:
    archive.store(A, dose(1))
    await cast(archive, faulty, generate_observations=False)
    assert await resources(faulty, "Observation") == []
    assert faulty.requests.count("GET Observation") == 1  # ours


async def test_a_report_with_nothing_to_measure_is_a_study_only(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, report(node(concept("1")), kind="126000"))
    await cast(archive, target)
    assert await resources(target, "Observation") == []
    await only(target, "ImagingStudy")
