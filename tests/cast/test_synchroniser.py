"""From feed entries to FHIR content, against the embedded store."""

from typing import Any

import pytest

from hounsfield.cast.failure import Faulted, Table
from hounsfield.cast.journal import Journal
from hounsfield.cast.reference import accession_identifier
from hounsfield.cast.state import CastState, Progress
from hounsfield.cast.synchroniser import Synchroniser
from hounsfield.database.engine import Database, Transaction
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.target import Resource
from tests.cast.conftest import OPTIONS, ROOT, Cast
from tests.cast.crash_worker import archive as random_archive
from tests.cast.dose_report import dose
from tests.cast.faulty_target import FaultyTarget, status
from tests.cast.fhir_content import content, instances, keys, only, resources
from tests.cast.filed_errors import counts, rows
from tests.cast.memory_archive import OTHER_STUDY, A, B, C, MemoryArchive, ct

# --- create ----------------------------------------------------------------------------------------------------------


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


# --- delete ----------------------------------------------------------------------------------------------------------


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


# --- update ----------------------------------------------------------------------------------------------------------


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
