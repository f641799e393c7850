"""Cast against a server that insists on the rules of Azure's: the content is the same as anywhere."""

from pathlib import Path

import pytest

from hounsfield.database.connect import open_database
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.target import FhirError
from tests.cast import crash_worker
from tests.cast.azure_rules import AzureRules
from tests.cast.conftest import Cast
from tests.cast.dose_report import dose
from tests.cast.fhir_content import only, resources, unordered_content
from tests.cast.filed_errors import counts
from tests.cast.memory_archive import OTHER_STUDY, A, B, MemoryArchive, ct


@pytest.mark.parametrize("extended", [False, True])
async def test_the_same_content_with_a_busy_server(
    target: EmbeddedTarget, cast: Cast, sqlite_template: Path, tmp_path: Path, *, extended: bool
) -> None:
    feed = crash_worker.archive(14, 40)
    azure = AzureRules(target, busy=0.1)
    state = await cast(feed, azure, page_size=15, extended_mapping=extended)
    assert "TRANSIENT_FAILURE" not in await counts(state) and "FHIR_FAIL" not in await counts(state)
    path = tmp_path / "patient.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = open_database(f"sqlite:///{path}")
    patient = EmbeddedTarget(FhirStore(database, target.endpoint), target.endpoint)
    await cast(feed, patient, database=database, extended_mapping=extended)
    assert await unordered_content(target) == await unordered_content(patient)
    await database.close()


async def test_more_results_than_a_transaction_takes(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    azure = AzureRules(target, max_entries=120)
    archive.store(A, dose(*range(130)))
    await cast(archive, azure)
    assert len(await resources(azure, "Observation")) == 131
    archive.delete(A)
    state = await cast(archive, azure)
    assert await counts(state) == {}
    assert not await resources(azure, "Observation") + await resources(azure, "ImagingStudy")


async def test_what_somebody_else_makes_meanwhile_is_referred_to(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    """Conditional creates, and references to their entries, lead to the Patient and the Endpoint that are there."""
    azure = AzureRules(target)
    archive.store(A, ct())
    await cast(archive, target)
    searched = azure.search

    async def too_early(resource_type: str, parameters: object) -> object:
        # Nothing is found until the first transaction was refused, or has found it.
        found = await searched(resource_type, parameters)  # type: ignore[arg-type]
        return found if azure.bundles or resource_type == "ImagingStudy" else []

    azure.search = too_early  # type: ignore[method-assign, assignment]
    archive.store(OTHER_STUDY, ct())
    archive.store(B, ct())
    state = await cast(archive, azure)
    assert (await counts(state)).keys() <= {"TRANSIENT_RETRY"}
    patient, endpoint = await only(azure, "Patient"), await only(azure, "Endpoint")
    studies = await resources(azure, "ImagingStudy")
    assert len(studies) == 2
    for study in studies:
        assert study["subject"] == {"reference": f"Patient/{patient['id']}"}
        assert study["endpoint"] == [{"reference": f"Endpoint/{endpoint['id']}"}]


async def test_conditional_references_are_taken_by_the_embedded_store_too(target: EmbeddedTarget) -> None:
    """What others send with Azure in mind: references that are searches (R4 http.html, transaction rules)."""
    azure = AzureRules(target)

    def bundle(reference: str) -> dict[str, object]:
        study = {
            "resourceType": "ImagingStudy",
            "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}],
            "status": "available",
            "subject": {"reference": reference},
        }
        request = {"method": "POST", "url": "ImagingStudy", "ifNoneExist": "identifier=urn:dicom:uid|urn:oid:1.2.3"}
        entry = {"fullUrl": "urn:uuid:0bd13d25-9a3b-4b6e-8c58-6a1a3a3a1f11", "resource": study, "request": request}
        return {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}

    for reference in ("Patient?identifier=urn:hospital|1", "Patient?identifier=nobody"):
        with pytest.raises(FhirError) as error:
            await azure.transaction(bundle(reference))
        assert error.value.status in (400, 412)
    patient = {"resourceType": "Patient", "identifier": [{"system": "urn:hospital", "value": "1"}]}
    entry = {"resource": patient, "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:x|1"}}
    await target.transaction({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    await azure.transaction(bundle("Patient?identifier=urn:hospital|1"))
    made, study = await only(azure, "Patient"), await only(azure, "ImagingStudy")
    assert study["subject"] == {"reference": f"Patient/{made['id']}"}
