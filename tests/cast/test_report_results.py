"""DiagnosticReports of dose reports name their Observations, whatever is made, changed or deleted around them."""

import pytest

from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.target import FhirTarget
from hounsfield.fhir.versions import speaking
from tests.cast.conftest import Cast
from tests.cast.dose_report import dose
from tests.cast.faulty_target import FaultyTarget
from tests.cast.fhir_content import only, resources
from tests.cast.memory_archive import A, B, MemoryArchive, ct
from tests.cast.memory_fhir import MemoryFhir
from tests.cast.test_rebuild import write
from tests.cast.test_synchroniser_extended import sr


async def results(target: FhirTarget) -> list[str]:
    """The keys of the Observations that the one report names, in its order."""
    found = [one for one in await resources(target, "Observation") if "identifier" in one]
    keys = {f"Observation/{one['id']}": one["identifier"][-1]["value"] for one in found}
    report = await only(target, "DiagnosticReport")
    return [keys.get(one["reference"], one["reference"]) for one in report.get("result", [])]


def of(uids: tuple[str, str, str], number: int) -> list[str]:
    """A summary and so many events."""
    return [f"{uids[2]}#{place}" for place in range(number + 1)]


@pytest.mark.parametrize("events", [1, 3, 4, 5, 23])
async def test_a_report_names_its_observations_in_document_order(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, events: int
) -> None:
    archive.store(A, dose(*range(events)))
    await cast(archive, faulty, extended_mapping=True)
    assert await results(faulty) == of(A, events)
    sent = len(faulty.bundles)
    archive.update(A, dose(*range(events)))
    await cast(archive, faulty, extended_mapping=True)
    assert len(faulty.bundles) == sent, "what is right is not written again"


async def test_in_r5(archive: MemoryArchive, cast: Cast) -> None:
    server = MemoryFhir("R5")
    archive.store(A, dose(1, 2))
    await cast(archive, speaking(server, "R5"), extended_mapping=True)
    observations = [f"Observation/{one['id']}" for one in server.all("Observation")]
    assert sorted(one["reference"] for one in server.only("DiagnosticReport")["result"]) == sorted(observations)


async def test_other_reports_of_the_study_have_their_own(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, dose(1))
    archive.store(B, dose(1, 2))
    archive.store((*A[:2], "1.1.1.9"), sr())
    await cast(archive, target, extended_mapping=True, page_size=1)
    found = {
        one["identifier"][-1]["value"]: len(one.get("result", []))
        for one in await resources(target, "DiagnosticReport")
    }
    assert found == {A[2]: 2, B[2]: 3, "1.1.1.9": 0}


async def test_an_update_takes_results_away_and_leaves_those_of_others(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, dose(*range(30)))
    archive.store(B, ct())
    await cast(archive, target, extended_mapping=True)
    own = {"resourceType": "Observation", "status": "final", "code": {"text": "read by a person"}}
    await write(target, own)
    stranger = next(one for one in await resources(target, "Observation") if one["status"] == "final")
    report = await only(target, "DiagnosticReport")
    report["result"].insert(0, {"reference": f"Observation/{stranger['id']}"})
    await write(target, report)
    # Every value changes, the study as well, and most events go: more than one transaction.
    archive.update(A, dose(*range(100, 110), StudyDescription="New"))
    await cast(archive, target, extended_mapping=True)
    assert await results(target) == [f"Observation/{stranger['id']}", *of(A, 10)]


@pytest.mark.parametrize("is_update", [True, False])
async def test_more_than_a_server_deletes_at_once(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, *, is_update: bool
) -> None:
    archive.store(A, dose(*range(120)))
    await cast(archive, faulty, extended_mapping=True)
    del faulty.bundles[:]
    if is_update:
        archive.update(A, dose(1000))
    else:
        archive.delete(A)
    state = await cast(archive, faulty, extended_mapping=True)
    assert not sum((await state.status()).error_counts.values())
    deletions = [sum(one["request"]["method"] == "DELETE" for one in bundle["entry"]) for bundle in faulty.bundles]
    assert sum(deletions) >= 119 and max(deletions) <= 102
    if is_update:
        assert await results(faulty) == of(A, 1)
    else:
        assert not await resources(faulty, "Observation") + await resources(faulty, "ImagingStudy")


async def test_a_report_of_a_study_that_fhir_lost_goes_with_its_instance(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, dose(1))
    await cast(archive, target, extended_mapping=True)
    for resource_type, reference in (("Observation", "partOf"), ("DiagnosticReport", "imagingStudy")):
        for one in await resources(target, resource_type):
            await write(target, {name: value for name, value in one.items() if name != reference})
    study = await only(target, "ImagingStudy")
    entry = {"request": {"method": "DELETE", "url": f"ImagingStudy/{study['id']}"}}
    await target.transaction({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    archive.delete(A)
    await cast(archive, target, extended_mapping=True)
    assert not await resources(target, "Observation") + await resources(target, "DiagnosticReport")
