"""From feed entries to FHIR content, against the embedded store."""

import asyncio
import warnings
from typing import Any

import pytest
from pydicom import dcmread

from hounsfield.cast.failure import Faulted, Table
from hounsfield.cast.feed import FeedEntry
from hounsfield.cast.journal import Journal
from hounsfield.cast.reference import accession_identifier
from hounsfield.cast.state import CastState, Progress, StoredError
from hounsfield.cast.synchroniser import LeaseLost, Synchroniser
from hounsfield.database.engine import Database, Transaction
from hounsfield.dicom.uid import is_valid
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.target import FhirTarget, Resource
from tests.cast.conftest import OPTIONS, ROOT, Cast
from tests.cast.crash_worker import archive as random_archive
from tests.cast.dose_report import code as concept
from tests.cast.dose_report import event, node, num, report
from tests.cast.faulty_target import FaultyTarget, status, unreachable
from tests.cast.fhir_content import content, only, resources
from tests.cast.memory_archive import CT_IMAGE, MemoryArchive, ct
from tests.dicom.samples import LARGE, WITHOUT_LARGE

A, B, C = ("1.1", "1.1.1", "1.1.1.1"), ("1.1", "1.1.1", "1.1.1.2"), ("1.1", "1.1.2", "1.1.2.1")
OTHER_STUDY = ("1.2", "1.2.1", "1.2.1.1")


@pytest.fixture
def archive() -> MemoryArchive:
    return MemoryArchive()


@pytest.fixture
def faulty(target: EmbeddedTarget) -> FaultyTarget:
    return FaultyTarget(target)


async def rows(state: CastState, table: Table) -> list[StoredError]:
    found, _ = await state.errors(table, 1000, None)
    return found


async def counts(state: CastState) -> dict[str, int]:
    found = (await state.status()).error_counts
    return {table.name: count for table, count in found.items() if count}


def instances(study: Resource) -> list[str]:
    return [instance["uid"] for series in study.get("series", []) for instance in series["instance"]]


# --- create --------------------------------------------------------------------------------------------------------


async def test_an_instance_becomes_patient_endpoint_and_study(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    state = await cast(archive, target)
    patient, endpoint = await only(target, "Patient"), await only(target, "Endpoint")
    study = await only(target, "ImagingStudy")
    assert study["subject"] == {"reference": f"Patient/{patient['id']}"}
    assert study["endpoint"] == [{"reference": f"Endpoint/{endpoint['id']}"}]
    assert study["meta"]["source"].partition("#")[0] == ROOT
    assert endpoint["address"] == ROOT
    assert patient["name"] == [{"use": "usual", "family": "Doe", "given": ["Jane"]}]
    assert await state.position() == 1
    assert await counts(state) == {}


async def test_the_bundle_is_as_specified(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast) -> None:
    archive.store(A, ct())
    await cast(archive, faulty, patient_system_id="urn:hospital")
    (bundle,) = faulty.bundles
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "transaction")
    endpoint, study, patient = bundle["entry"]
    assert endpoint["request"]["ifNoneExist"].startswith("name:exact=DICOM%20WADO-RS")
    assert study["request"] == {
        "method": "POST",
        "url": "ImagingStudy",
        "ifNoneExist": "identifier=urn:dicom:uid%7Curn:oid:1.1",
    }
    assert patient["request"]["ifNoneExist"] == "identifier=urn:hospital%7CP1"
    assert all(entry["fullUrl"].startswith("urn:uuid:") for entry in bundle["entry"])
    assert all("id" not in entry["resource"] for entry in bundle["entry"])
    assert study["resource"]["subject"]["reference"] == patient["fullUrl"]
    assert study["resource"]["endpoint"][0]["reference"] == endpoint["fullUrl"]


async def test_a_later_instance_updates_with_if_match(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast) -> None:
    archive.store(A, ct())
    await cast(archive, faulty)
    known = await only(faulty, "ImagingStudy")
    archive.store(B, ct())
    await cast(archive, faulty)
    (entry,) = faulty.bundles[1]["entry"]
    name = f"ImagingStudy/{known['id']}"
    assert entry["fullUrl"] == name
    assert entry["request"] == {"method": "PUT", "url": name, "ifMatch": f'W/"{known["meta"]["versionId"]}"'}
    assert instances(await only(faulty, "ImagingStudy")) == [A[2], B[2]]


async def test_nothing_is_sent_when_nothing_differs(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast) -> None:
    archive.store(A, ct())
    archive.store(A, ct())
    await cast(archive, faulty, page_size=1)
    assert len(faulty.bundles) == 1


async def test_entries_of_a_study_go_in_one_transaction(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    for number in range(50):
        archive.store(("1.1", "1.1.1", f"1.1.1.{number}"), ct(InstanceNumber=number))
        archive.store(("1.2", "1.2.1", f"1.2.1.{number}"), ct(PatientID="P2", InstanceNumber=number))
    await cast(archive, faulty)
    assert len(faulty.bundles) == 2
    first, second = await resources(faulty, "ImagingStudy")
    assert len(instances(first)) == len(instances(second)) == 50


async def test_many_studies_at_once_make_one_endpoint(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    for number in range(20):
        archive.store((f"1.{number}", f"1.{number}.1", f"1.{number}.1.1"), ct(PatientID=f"P{number}"))
    await cast(archive, target)
    await only(target, "Endpoint")
    assert len(await resources(target, "ImagingStudy")) == 20


@pytest.mark.parametrize("seed", range(10, 16))
async def test_pages_of_any_size_give_the_same(seed: int, target: EmbeddedTarget, cast: Cast) -> None:
    """Entry by entry, merged a little, merged as much as possible: content and error rows do not tell."""
    found = []
    for page_size in (1, 7, 1000):
        state = await cast(random_archive(seed, 150), target, page_size=page_size)
        rows_ = {(row.sequence, row.exception) for table in Table for row in await rows(state, table)}
        everything = await content(target)
        found.append(({name: everything[name] for name in sorted(everything)}, rows_))
        await empty(target._store._database)
    assert found[0] == found[1]
    assert found[0] == found[2]


async def empty(database: Database) -> None:
    async def unit(tx: Transaction) -> None:
        for table in ("reference", "date", "string", "token", "history", "resource", "head"):
            await tx.execute(f"DELETE FROM fhir_{table}")
        for table in ("state", "error", "updated_instance"):
            await tx.execute(f"DELETE FROM cast_{table}")

    await database.write(unit)


async def test_a_feed_met_again_changes_nothing(archive: MemoryArchive, target: EmbeddedTarget, cast: Cast) -> None:
    archive.store(A, ct(PatientName="First", PatientBirthDate="1970", StudyDescription="One"))
    archive.store(B, ct(PatientName="Second", PatientBirthDate="1980", Modality="MR", AccessionNumber="A2"))
    archive.store(OTHER_STUDY, ct(PatientName="Third"))
    archive.store(C, ct(PatientName=None, PatientSex=None, StudyDate=None, PatientID="P2"))
    archive.delete(B)
    archive.store(B, ct(StudyDescription="Two", StudyDate="20250101"))
    await cast(archive, target)
    once = await content(target)
    state = CastState(target._store._database)
    synchroniser = Synchroniser(target, state, Journal(state, target.endpoint, ROOT), OPTIONS, lambda: None)
    for entry in archive.entries():
        await synchroniser.process([entry], entry.sequence)
    assert await content(target) == once


async def test_finished_entries_after_the_position_are_not_done_again(
    archive: MemoryArchive, faulty: FaultyTarget, state: CastState, cast: Cast
) -> None:
    archive.store(A, ct())
    archive.store(OTHER_STUDY, ct(PatientID="P2"))
    archive.store(B, ct(PatientID=None))
    faulty.poison = {"urn:oid:1.1'": status(401)}
    with pytest.raises(Faulted):
        await cast(archive, faulty, concurrency=1)
    first = await state.progress()
    assert first.position == 0
    assert first.finished >= {3}
    faulty.poison.clear()
    faulty.bundles.clear()
    await cast(archive, faulty)
    assert await state.progress() == Progress(3)
    assert len(faulty.bundles) == 2 - len(first.finished & {2})
    assert len(await rows(state, Table.DICOM_FAIL)) == 1


async def test_a_study_deleted_and_made_again_in_one_page_leaves_nothing_old(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, dose(1, StudyDescription="Old", AccessionNumber="Old"))
    await cast(archive, target)
    archive.delete(A)
    archive.store(B, dose(2, StudyDescription="New", AccessionNumber="New"))
    state = await cast(archive, target)
    study = await only(target, "ImagingStudy")
    assert study["note"] == [{"text": "New"}]
    assert len(study["identifier"]) == 2
    assert {observation_.split("#")[0] for observation_ in await keys(target)} == {B[2]}
    assert await counts(state) == {}


async def keys(target: EmbeddedTarget) -> list[str]:
    return [one["identifier"][-1]["value"] for one in await resources(target, "Observation")]


async def test_identifiers_with_characters_that_mean_something_in_searches(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    for number, patient_id in enumerate(["P|1,2$3", "P\\|1", "a&b=c+d%20?#", "Ärzte é"]):
        for instance in range(2):
            archive.store((f"1.{number}", "1.1", f"1.1.{instance}"), ct(PatientID=patient_id))
    state = await cast(archive, target, page_size=1, patient_system_id="urn:a|b")
    assert await counts(state) == {}
    found = await resources(target, "Patient")
    assert sorted(one["identifier"][0]["value"] for one in found) == ["P\\|1", "P|1,2$3", "a&b=c+d%20?#", "Ärzte é"]


async def test_a_server_that_does_not_find_what_was_written_is_not_asked_for_ever(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    class Blind(FaultyTarget):
        async def search(self, resource_type: str, parameters: Any) -> Any:
            await super().search(resource_type, parameters)
            return []

        async def transaction(self, bundle: Resource) -> Resource:
            self.bundles.append(bundle)
            answers = [{"response": {"status": "201"}} for _ in bundle["entry"]]
            return {"resourceType": "Bundle", "entry": answers}

    archive.store(A, dose(*range(1, 12)))
    blind = Blind(target)
    state = await cast(archive, blind)
    assert (await counts(state))["TRANSIENT_FAILURE"] == 1
    assert len(blind.bundles) < 50


async def test_patients_keep_their_order_over_studies(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    for number in range(30):
        archive.store((f"1.{number % 7}", "1.1", f"1.1.{number}"), ct(PatientName=f"Name{number}"))
    await cast(archive, target)
    assert (await only(target, "Patient"))["name"][0]["family"] == "Name29"


async def test_the_subject_of_a_study_stays(archive: MemoryArchive, target: EmbeddedTarget, cast: Cast) -> None:
    archive.store(A, ct())
    archive.store(B, ct(PatientID="P2"))
    await cast(archive, target)
    study = await only(target, "ImagingStudy")
    first = next(one for one in await resources(target, "Patient") if one["identifier"] == [{"value": "P1"}])
    assert study["subject"]["reference"] == f"Patient/{first['id']}"
    assert len(await resources(target, "Patient")) == 2


async def test_gaps_other_partitions_and_deleted_creates_are_passed(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, ct(), "research")
    archive.skip(35)
    archive.store(B, ct())
    archive.store(C, ct())
    archive.lose_metadata(C)
    state = await cast(archive, target, page_size=10)
    assert instances(await only(target, "ImagingStudy")) == [B[2]]
    assert await state.position() == 38
    assert await counts(state) == {}


# --- delete --------------------------------------------------------------------------------------------------------


async def test_deleting_all_instances_deletes_the_study_but_not_patient_and_endpoint(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    archive.store(C, ct())
    await cast(archive, faulty)
    study = await only(faulty, "ImagingStudy")
    faulty.requests.clear()
    archive.delete(A)
    await cast(archive, faulty)
    assert instances(await only(faulty, "ImagingStudy")) == [C[2]]
    archive.delete(C)
    await cast(archive, faulty)
    assert await resources(faulty, "ImagingStudy") == []
    (entry,) = faulty.bundles[-1]["entry"]
    assert entry == {"request": {"method": "DELETE", "url": f"ImagingStudy/{study['id']}", "ifMatch": 'W/"2"'}}
    await only(faulty, "Patient")
    await only(faulty, "Endpoint")
    assert {"GET Endpoint", "GET Patient"} == set(faulty.requests) - {"GET ImagingStudy", "GET Observation", "POST"}


async def test_a_delete_asks_for_neither_patient_nor_endpoint(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    await cast(archive, faulty)
    faulty.requests.clear()
    archive.delete(A)
    await cast(archive, faulty)
    assert sorted(faulty.requests) == ["GET ImagingStudy", "GET Observation", "POST"]


async def test_stored_deleted_and_stored_again(archive: MemoryArchive, target: EmbeddedTarget, cast: Cast) -> None:
    archive.store(A, ct(StudyDescription="Old"))
    archive.delete(A)
    archive.store(A, ct(StudyDescription="New"))
    state = await cast(archive, target)
    study = await only(target, "ImagingStudy")
    assert study["note"] == [{"text": "New"}]
    assert await counts(state) == {}


async def test_deleting_what_fhir_does_not_hold_is_no_error(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    archive.delete(A)
    state = await cast(archive, faulty)
    assert faulty.bundles == []
    assert await state.position() == 2
    assert await counts(state) == {}


# --- update --------------------------------------------------------------------------------------------------------


async def test_update_repoints_the_subject_and_replaces_values(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    for uids in (A, B, C):
        archive.store(uids, ct(StudyDescription="Old", AccessionNumber="old"))
    await cast(archive, target)
    new = {"PatientID": "P2", "PatientName": "New^Name", "StudyDescription": "New", "AccessionNumber": "new"}
    for uids in (A, B, C):
        archive.update(uids, ct(**new))
    await cast(archive, target)
    study = await only(target, "ImagingStudy")
    second = next(one for one in await resources(target, "Patient") if one["identifier"] == [{"value": "P2"}])
    assert study["subject"]["reference"] == f"Patient/{second['id']}"
    assert study["note"] == [{"text": "New"}]
    assert study["identifier"][1:] == [accession_identifier("new")]
    assert len(await resources(target, "Patient")) == 2


async def test_a_replaced_value_stays_while_another_instance_may_have_it(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    for uids in (A, B):
        archive.store(uids, ct(StudyDescription="Old"))
    await cast(archive, target)
    archive.update(A, ct(StudyDescription="New"))
    await cast(archive, target)
    assert (await only(target, "ImagingStudy"))["note"] == [{"text": "Old"}, {"text": "New"}]
    archive.update(B, ct(StudyDescription="Newer"))
    await cast(archive, target)
    assert (await only(target, "ImagingStudy"))["note"] == [{"text": "New"}, {"text": "Newer"}]
    archive.store(C, ct(StudyDescription="Third"))
    archive.update(A, ct(StudyDescription="Newest"))
    await cast(archive, target, page_size=1)
    notes = [note["text"] for note in (await only(target, "ImagingStudy"))["note"]]
    assert notes == ["Newer", "Third", "Newest"]


async def test_update_of_an_instance_fhir_does_not_hold_creates_it(
    archive: MemoryArchive, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    archive.update(A, ct(StudyDescription="New"))
    await cast(archive, target)
    assert (await only(target, "ImagingStudy"))["note"] == [{"text": "New"}]


# --- observations --------------------------------------------------------------------------------------------------


def dose(*doses: float, **attributes: Any) -> dict[str, Any]:
    return report(*(event(num("113838", value)) for value in doses), **attributes)


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


# --- errors of entries ---------------------------------------------------------------------------------------------


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
    assert len(faulty.bundles) < 15
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


# --- retries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        (status(408), "RetryableException"),
        (status(425), "RetryableException"),
        (status(429), "ServerTooBusyException"),
        (status(500), "RetryableException"),
        (status(503), "RetryableException"),
        (unreachable, "RetryableException"),
    ],
)
@pytest.mark.parametrize("match", ["POST", "GET Patient", "GET Endpoint", "GET ImagingStudy"])
async def test_transient_failures_of_every_request_are_retried(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, failure: Any, name: str, match: str
) -> None:
    archive.store(A, ct())
    archive.store(B, ct())
    faulty.failures, faulty.match = [failure, failure], match
    state = await cast(archive, faulty)
    assert instances(await only(faulty, "ImagingStudy")) == [A[2], B[2]]
    found = await rows(state, Table.TRANSIENT_RETRY)
    assert [(row.sequence, row.partition_key, row.retry_number) for row in found] == [(1, name, 2), (1, name, 1)]
    assert await counts(state) == {"TRANSIENT_RETRY": 2}
    activity = (await state.status()).activity
    assert activity is not None
    assert activity.last_error is None


@pytest.mark.parametrize("code", [409, 412])
async def test_a_conflict_is_rebuilt_from_fresh_searches(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast, code: int
) -> None:
    archive.store(A, ct())
    faulty.failures = [status(code)]
    state = await cast(archive, faulty)
    assert faulty.requests.count("GET ImagingStudy") == 2
    (row,) = await rows(state, Table.TRANSIENT_RETRY)
    assert row.partition_key == "ResourceConflictException"


async def test_a_change_by_somebody_else_is_kept(
    archive: MemoryArchive, faulty: FaultyTarget, target: EmbeddedTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    await cast(archive, faulty)

    async def meanwhile() -> None:
        known = await only(target, "ImagingStudy")
        await target._store.update("ImagingStudy", known["id"], known | {"description": "by hand"})

    faulty.before_transaction = [meanwhile]
    archive.store(B, ct())
    state = await cast(archive, faulty)
    study = await only(target, "ImagingStudy")
    assert study["description"] == "by hand"
    assert instances(study) == [A[2], B[2]]
    (row,) = await rows(state, Table.TRANSIENT_RETRY)
    assert row.partition_key == "ResourceConflictException"


@pytest.mark.parametrize("resource_type", ["Patient", "ImagingStudy"])
async def test_a_create_that_meets_another_is_a_conflict(
    archive: MemoryArchive, faulty: FaultyTarget, target: EmbeddedTarget, cast: Cast, resource_type: str
) -> None:
    other = {"resourceType": "Patient", "identifier": [{"value": "P1"}], "active": True}

    async def meanwhile() -> None:
        written = await target._store.create(
            "Patient", other if resource_type == "Patient" else {"resourceType": "Patient"}
        )
        if resource_type == "ImagingStudy":
            study = {
                "resourceType": "ImagingStudy",
                "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.1"}],
                "status": "registered",
                "subject": {"reference": written.name},
                "description": "from the RIS",
            }
            await target._store.create("ImagingStudy", study)

    faulty.before_transaction = [meanwhile]
    archive.store(A, ct())
    state = await cast(archive, faulty)
    (row,) = await rows(state, Table.TRANSIENT_RETRY)
    assert row.partition_key == "ResourceConflictException"
    study = await only(target, "ImagingStudy")
    assert instances(study) == [A[2]]
    if resource_type == "ImagingStudy":
        assert study["description"] == "from the RIS"
    else:
        patient = await only(target, "Patient")
        assert patient["active"] is True
        assert patient["name"]


async def test_a_lost_answer_is_found_to_be_done(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast) -> None:
    archive.store(A, dose(1, 2))
    faulty.failures, faulty.after = [unreachable], True
    await cast(archive, faulty)
    assert len(faulty.bundles) == 1
    await content(faulty)


async def test_an_entry_that_alone_keeps_failing_is_skipped_when_its_budget_is_used_up(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    for number in range(6):
        archive.store(("1.1", "1.1.1", f"1.1.1.{number}"), ct(SeriesDescription=None))
    archive.store(OTHER_STUDY, ct(PatientID="P2"))
    faulty.poison = {"'1.1.1.4'": status(500)}
    state = await cast(archive, faulty)
    written = [instances(study) for study in await resources(faulty, "ImagingStudy")]
    assert sorted(written, key=len) == [[OTHER_STUDY[2]], [f"1.1.1.{number}" for number in (0, 1, 2, 3, 5)]]
    (row,) = await rows(state, Table.TRANSIENT_FAILURE)
    assert (row.sequence, row.partition_key) == (5, "TimeoutRejectedException")
    assert await state.position() == 7


async def test_conflicts_without_end_use_up_the_budget(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    faulty.poison = {"1.1": status(412)}
    state = await cast(archive, faulty)
    assert (await counts(state))["TRANSIENT_FAILURE"] == 1


async def test_an_outage_never_skips_an_entry_and_ends_soon_after_recovery(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    archive.store(OTHER_STUDY, ct(PatientID="P2"))
    faulty.is_down = True
    working = asyncio.create_task(cast(archive, faulty))
    await asyncio.sleep(1.5)  # three budgets
    state = CastState(faulty.inner._store._database)  # type: ignore[attr-defined]
    status_now = await state.status()
    assert status_now.activity is not None
    assert status_now.activity.state == "retrying"
    assert status_now.activity.current is not None
    assert status_now.activity.current.number > 1
    assert await state.position() == 0
    faulty.is_down = False
    await asyncio.wait_for(working, 1)
    assert len(await resources(faulty, "ImagingStudy")) == 2
    assert "TRANSIENT_FAILURE" not in await counts(state)
    assert await state.position() == 2


async def test_retry_after_is_honoured(archive: MemoryArchive, faulty: FaultyTarget, cast: Cast) -> None:
    archive.store(A, ct())
    faulty.failures = [status(429, retry_after=0.08)]
    clock = asyncio.get_running_loop().time
    began = clock()
    await cast(archive, faulty)
    assert clock() - began >= 0.08


# --- position and lease --------------------------------------------------------------------------------------------


async def test_the_position_never_passes_an_unfinished_entry(
    archive: MemoryArchive, faulty: FaultyTarget, cast: Cast
) -> None:
    archive.store(A, ct())
    blocked = archive.store(OTHER_STUDY, ct(PatientID="P2"))
    for number in range(5):
        archive.store((f"1.3.{number}", "1.3.1", f"1.3.1.{number}"), ct(PatientID=f"P{number + 3}"))
    faulty.poison = {"urn:oid:1.2'": unreachable}
    working = asyncio.create_task(cast(archive, faulty, total_retry_duration=OPTIONS.total_retry_duration * 100))
    await asyncio.sleep(0.4)
    assert len(await resources(faulty, "ImagingStudy")) == 6
    state = CastState(faulty.inner._store._database)  # type: ignore[attr-defined]
    assert await state.position() == blocked - 1
    faulty.poison.clear()
    await working
    assert await state.position() == 7


async def test_nothing_is_written_after_the_lease_is_lost(
    archive: MemoryArchive, faulty: FaultyTarget, state: CastState
) -> None:
    def guard() -> None:
        raise LeaseLost

    archive.store(A, ct())
    synchroniser = Synchroniser(faulty, state, Journal(state, "", ROOT), OPTIONS, guard)
    with pytest.raises(LeaseLost):
        await synchroniser.process(archive.entries(), 1)
    assert faulty.requests == []
    assert await state.position() == 0


async def test_two_workers_by_mistake_end_in_the_same_content(
    archive: MemoryArchive, target: EmbeddedTarget, sqlite_url: str
) -> None:
    for number in range(40):
        uids = (f"1.{number % 5}", f"1.{number % 5}.1", f"1.1.{number}")
        archive.store(uids, ct(PatientID=f"P{number % 2}", PatientName=f"Name{number}", InstanceNumber=number))
        if number % 9 == 8:
            archive.delete(uids)
    database = target._store._database

    async def work(target: FhirTarget, width: int) -> None:
        state = CastState(database)
        synchroniser = Synchroniser(target, state, Journal(state, "", ROOT), OPTIONS, lambda: None)
        feed = archive.entries()
        for start in range(0, len(feed), width):
            page: list[FeedEntry] = feed[start : start + width]
            await synchroniser.process(page, page[-1].sequence)
            await asyncio.sleep(0)

    await asyncio.gather(work(target, 3), work(target, 7))
    both = await content(target)
    await work(target, 50)
    assert await content(target) == both
    assert len(await resources(target, "ImagingStudy")) == 5
    assert sum(len(instances(study)) for study in await resources(target, "ImagingStudy")) == 36


async def test_sop_class_is_written(archive: MemoryArchive, target: EmbeddedTarget, cast: Cast) -> None:
    archive.store(A, ct())
    await cast(archive, target)
    assert (await only(target, "ImagingStudy"))["series"][0]["instance"][0]["sopClass"] == {"code": CT_IMAGE}


@pytest.mark.skipif(not LARGE.is_dir(), reason=WITHOUT_LARGE)
async def test_real_files_become_valid_resources(archive: MemoryArchive, target: EmbeddedTarget, cast: Cast) -> None:
    stored: set[str] = set()
    for path in sorted(LARGE.glob("**/*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                dataset = dcmread(path, stop_before_pixels=True)
                metadata = dataset.to_json_dict(suppress_invalid_tags=True)
                uids = (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))
            except Exception:
                continue  # what is broken is not stored
        if (
            all(uids)
            and all(map(is_valid, uids))
            and dataset.get("PatientID")
            and dataset.get("Modality")
            and uids[2] not in stored
        ):
            stored.add(uids[2])
            archive.store(uids, metadata)
    state = await cast(archive, target)
    assert (await state.status()).error_counts[Table.FHIR_FAIL] == 0
    studies = await resources(target, "ImagingStudy")
    assert {uid for study in studies for uid in instances(study)} == stored
    assert len(stored) > 50
    for resource_type in ("Patient", "Observation"):
        await resources(target, resource_type)
