"""Entries that cannot be written to FHIR: each is filed, and the others go on."""

from typing import Any

import pytest

from hounsfield.cast.failure import Table
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.target import Resource
from tests.cast.conftest import Cast
from tests.cast.faulty_target import FaultyTarget, status
from tests.cast.fhir_content import instances, only, resources
from tests.cast.filed_errors import counts, rows
from tests.cast.memory_archive import A, B, C, MemoryArchive, ct


@pytest.mark.parametrize(
    ("keyword", "value"), [("PatientID", None), ("PatientID", ""), ("Modality", None), ("SOPClassUID", None)]
)
async def test_a_missing_required_tag_fails_that_entry_alone(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast, keyword: str, value: str | None
) -> None:
    archive.store(A, ct())
    failing = archive.store(C, ct(**{keyword: value}))
    archive.store(B, ct())
    state = await cast(archive, target)
    assert instances(await only(target, "ImagingStudy")) == [A[2], B[2]]
    (row,) = await rows(state, Table.DICOM_FAIL)
    assert (row.sequence, row.study_uid, row.series_uid, row.instance_uid) == (failing, *C)
    assert row.partition_key == "MissingRequiredDicomTagException"
    assert row.exception == f"MissingRequiredDicomTagException: The required DICOM tag '{keyword}' is missing."
    assert await state.position() == 3
    assert await counts(state) == {"DICOM_FAIL": 1}


async def test_a_patient_seen_only_in_refused_entries_is_not_written(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct(Modality=None))
    await cast(archive, faulty)
    assert faulty.bundles == []


async def test_a_series_with_modality_takes_instances_without(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    archive.store(B, ct(Modality=None))
    state = await cast(archive, target, page_size=1)
    assert instances(await only(target, "ImagingStudy")) == [A[2], B[2]]
    assert await counts(state) == {}


async def test_an_invalid_optional_value_is_filed_once_and_left_out(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct(PatientSex="X", TimezoneOffsetFromUTC="nowhere"))
    faulty.failures = [status(503), status(412)]
    state = await cast(archive, faulty)
    assert "gender" not in await only(faulty, "Patient")
    assert (await only(faulty, "ImagingStudy"))["started"] == "2024-01-31"
    found = await rows(state, Table.INVALID_TAG)
    assert {row.exception for row in found} == {
        "InvalidDicomTagValueException: The value 'X' is not valid for DICOM tag 'PatientSex'.",
        "InvalidDicomTagValueException: The value 'nowhere' is not valid for DICOM tag 'TimezoneOffsetFromUTC'.",
    }
    assert await counts(state) == {"INVALID_TAG": 2, "TRANSIENT_RETRY": 2}


async def test_enforced_validation_fails_the_entry(archive: MemoryArchive, target: EmbeddedTarget, cast: Cast) -> None:
    archive.store(A, ct(PatientSex="X"))
    state = await cast(archive, target, enforce_validation=True)
    assert await counts(state) == {"DICOM_FAIL": 1}
    assert await resources(target, "ImagingStudy") == []


@pytest.mark.parametrize("code", [400, 404, 410, 413, 422])
async def test_a_refused_transaction_fails_only_the_entry_to_blame(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, code: int
) -> None:
    for number in range(20):
        archive.store(("1.1", "1.1.1", f"1.1.1.{number}"), ct(SeriesDescription=None))
    faulty.poison = {"'1.1.1.13'": status(code)}
    state = await cast(archive, faulty)
    written = instances(await only(faulty, "ImagingStudy"))
    assert written == [f"1.1.1.{number}" for number in range(20) if number != 13]
    (row,) = await rows(state, Table.FHIR_FAIL)
    assert (row.sequence, row.partition_key) == (14, "TransactionFailedException")
    assert f"status {code}" in row.exception
    assert "diagnostics" in row.exception
    assert len(faulty.bundles) < 20
    assert await state.position() == 20


async def test_what_the_server_says_stays_out_of_the_status(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    faulty.failures = [status(400)]
    state = await cast(archive, faulty)
    activity = (await state.status()).activity
    assert activity is not None
    assert activity.last_error is not None
    assert activity.last_error.type == "TransactionFailedException"
    assert activity.last_error.message == "The FHIR server refused the transaction with status 400."


async def test_a_search_that_is_refused(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast) -> None:
    archive.store(A, ct())
    faulty.failures, faulty.match = [status(400)], "GET Patient"
    state = await cast(archive, faulty)
    (row,) = await rows(state, Table.FHIR_FAIL)
    assert row.partition_key == "FhirClientException"


@pytest.mark.parametrize("resource_type", ["Patient", "Endpoint", "ImagingStudy"])
async def test_several_matches(archive: MemoryArchive, target: EmbeddedTarget, cast: Cast, resource_type: str) -> None:
    archive.store(A, ct())
    await cast(archive, target)
    (known,) = await resources(target, resource_type)
    twin = {key: value for key, value in known.items() if key not in ("id", "meta")}
    await target._store.create(resource_type, twin)
    archive.store(B, ct())
    archive.store(C, ct())
    state = await cast(archive, target)
    found = await rows(state, Table.FHIR_FAIL)
    assert [(row.sequence, row.partition_key) for row in found] == [
        (3, "MultipleMatchingResourcesException"),
        (2, "MultipleMatchingResourcesException"),
    ]


async def test_an_endpoint_of_our_name_with_another_address(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    await cast(archive, target)
    known = await only(target, "Endpoint")
    await target._store.update("Endpoint", known["id"], known | {"address": "https://elsewhere.example/"})
    archive.store(B, ct())
    state = await cast(archive, target)
    (row,) = await rows(state, Table.FHIR_FAIL)
    assert row.partition_key == "FhirResourceValidationException"
    # A delete needs no Endpoint and goes on.
    archive.delete(A)
    await cast(archive, target)
    assert await resources(target, "ImagingStudy") == []


@pytest.mark.parametrize("missing", ["id", "meta"])
async def test_a_found_resource_without_id_or_version(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast, missing: str
) -> None:
    archive.store(A, ct())
    await cast(archive, target)

    class Forgetful(FaultyTarget):
        async def search(self, resource_type: str, parameters: Any) -> Any:
            found = await super().search(resource_type, parameters)
            for match in found:
                del match.resource[missing]
            return found

    archive.store(B, ct())
    state = await cast(archive, Forgetful(target))
    (row,) = await rows(state, Table.FHIR_FAIL)
    assert row.partition_key == "FhirResourceValidationException"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"resourceType": "OperationOutcome"},
        {"resourceType": "Bundle", "entry": []},
        {"resourceType": "Bundle", "entry": "x"},
        {"resourceType": "Bundle", "entry": [{}, {}, {}]},
        {"resourceType": "Bundle", "entry": [{"response": {"status": "20"}}] * 3},
        {"resourceType": "Bundle", "entry": [{"response": {"status": "2000"}}] * 3},
        {"resourceType": "Bundle", "entry": [{"response": {"status": "400 Bad Request"}}] * 3},
    ],
)
async def test_a_malformed_answer(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, answer: Resource) -> None:
    archive.store(A, ct())
    faulty.answer = lambda _: answer
    state = await cast(archive, faulty)
    (row,) = await rows(state, Table.FHIR_FAIL)
    assert row.partition_key == "InvalidFhirResponseException"


async def test_a_deleted_resource_that_is_gone_already_is_success(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    await cast(archive, faulty)
    archive.delete(A)
    faulty.answer = lambda _: {"resourceType": "Bundle", "entry": [{"response": {"status": "410 Gone"}}]}
    state = await cast(archive, faulty)
    assert await counts(state) == {}


async def test_something_unexpected_is_filed_after_three_attempts(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    for uids in (A, B):
        archive.store(uids, ct())
    faulty.poison = {f"'{B[2]}'": lambda: KeyError("surprise")}
    state = await cast(archive, faulty)
    (row,) = await rows(state, Table.FHIR_FAIL)
    assert (row.sequence, row.partition_key) == (2, "KeyError")
    assert sum(f"'{B[2]}'" in str(bundle) for bundle in faulty.bundles) == 4
    assert instances(await only(faulty, "ImagingStudy")) == [A[2]]


async def test_unreadable_metadata_is_filed_under_the_name_of_what_happened(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(*_: object) -> None:
        raise RecursionError("deep")

    monkeypatch.setattr("hounsfield.cast.observation.read", surprise)
    archive.store(A, ct())
    state = await cast(archive, target)
    (row,) = await rows(state, Table.FHIR_FAIL)
    assert row.partition_key == "RecursionError"
