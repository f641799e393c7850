"""The extended mapping from feed entries to FHIR content, in R4 and R5."""

from collections.abc import Callable
from typing import Any

import pytest

from hounsfield.cast import body_sites, document
from hounsfield.cast.failure import Table
from hounsfield.cast.reference import accession_identifier
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.target import FhirUnreachable, Resource
from hounsfield.fhir.versions import from_r5, speaking
from tests.cast.conftest import ROOT, Cast
from tests.cast.dose_report import code, dose, node
from tests.cast.fhir_content import content
from tests.cast.memory_archive import OTHER_STUDY, A, B, C, MemoryArchive, ct, dicom_json
from tests.cast.memory_fhir import MemoryFhir

KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
EQUIPMENT = {
    "Manufacturer": "Acme",
    "ManufacturerModelName": "Scan 3",
    "DeviceSerialNumber": "S-1",
    "StationName": "CT01",
}


def sr(title: str = "Chest report", **attributes: Any) -> dict[str, Any]:
    defaults = {
        "SOPClassUID": COMPREHENSIVE_SR,
        "Modality": "SR",
        "ContentDate": "20240131",
        "ContentTime": "1200",
        "CompletionFlag": "COMPLETE",
        "VerificationFlag": "VERIFIED",
        "TimezoneOffsetFromUTC": "+0100",
    }
    return ct(**(defaults | attributes)) | node(code("18748-4", "LN", title))


def key_objects(**attributes: Any) -> dict[str, Any]:
    description = node(code("113012"), ValueType="TEXT", TextValue="Look here")
    return sr(**({"SOPClassUID": KEY_OBJECTS, "Modality": "KO"} | attributes)) | node(
        code("113000", meaning="Of Interest"), description
    )


@pytest.fixture(params=["R4", "R5"])
def server(request: pytest.FixtureRequest) -> MemoryFhir:
    """A FHIR server of either version."""
    return MemoryFhir(request.param)


@pytest.fixture
def extended(server: MemoryFhir, archive: MemoryArchive, cast: Cast) -> Callable[..., Any]:
    """``await extended()`` casts what is new in the archive to the server."""

    async def run(**changes: Any) -> None:
        state = await cast(archive, speaking(server, server.version), **({"extended_mapping": True} | changes))
        counts = (await state.status()).error_counts
        assert sum(counts.values()) == counts[Table.TRANSIENT_RETRY]

    return run


def study_of(server: MemoryFhir) -> Resource:
    """The one study, in the shape of R4."""
    study = server.only("ImagingStudy")
    return from_r5(study) if server.version == "R5" else study


async def test_every_row_of_the_study(archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]) -> None:
    archive.store(
        A,
        ct(
            BodyPartExamined="CHEST",
            Laterality="L",
            ReferringPhysicianName="Grey^Meredith^^Dr.^MD",
            NameOfPhysiciansReadingStudy=["House^Gregory", "Wilson^James"],
            PerformingPhysicianName="Kildare^James",
            ProcedureCodeSequence=[code("P5-09051", "SRT", "CT chest"), code("24627-2", "LN", "Chest CT")],
            ReasonForPerformedProcedureCodeSequence=[code("29857009", "SCT", "Chest pain")],
            ContentDescription="First look",
            **EQUIPMENT,
        ),
    )
    archive.store(B, ct())
    archive.store(C, ct(Modality="MR", SeriesNumber=4))
    await extended()
    study = study_of(server)
    assert study["description"] == "Chest"
    assert study["note"] == [{"text": "Chest"}]
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (2, 3)
    assert [series["numberOfInstances"] for series in study["series"]] == [2, 1]
    assert study["referrer"] == {"display": "Dr. Meredith Grey, MD"}
    assert [one["display"] for one in study["interpreter"]] == ["Gregory House", "James Wilson"]
    assert study["procedureCode"] == [
        {"coding": [{"code": "P5-09051", "display": "CT chest"}], "text": "CT chest"},
        {"coding": [{"system": "http://loinc.org", "code": "24627-2", "display": "Chest CT"}], "text": "Chest CT"},
    ]
    assert study["reasonCode"][0]["coding"][0]["system"] == "http://snomed.info/sct"
    assert study["modality"][0] == {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}
    assert study["basedOn"] == [{"type": "ServiceRequest", "identifier": accession_identifier("A1")}]
    series = study["series"][0]
    assert series["bodySite"] == {"system": "http://snomed.info/sct", "code": "816094009", "display": "Chest"}
    assert series["laterality"]["code"] == "7771000"
    assert series["modality"]["system"] == "http://dicom.nema.org/resources/ontology/DCM"
    person, device = series["performer"]
    assert person["actor"] == {"display": "James Kildare"}
    assert device["actor"]["reference"] == f"Device/{server.only('Device')['id']}"
    instance = series["instance"][0]
    assert instance["sopClass"] == {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.840.10008.5.1.4.1.1.2"}
    assert instance["title"] == "First look"
    assert "title" not in series["instance"][1]


async def test_r5_has_its_own_shapes(archive: MemoryArchive, cast: Cast) -> None:
    server = MemoryFhir("R5")
    archive.store(
        A,
        sr(
            BodyPartExamined="CHEST",
            Laterality="R",
            NameOfPhysiciansReadingStudy="House^Gregory",
            ProcedureCodeSequence=[code("24627-2", "LN", "Chest CT")],
            ReasonForPerformedProcedureCodeSequence=[code("29857009", "SCT", "Chest pain")],
            **EQUIPMENT,
        ),
    )
    archive.store(B, key_objects())
    await cast(archive, speaking(server, "R5"), extended_mapping=True)
    study = server.only("ImagingStudy")
    assert study["modality"][0]["coding"][0]["code"] == "SR"
    assert study["procedure"][0]["concept"]["text"] == "Chest CT"
    assert study["reason"][0]["concept"]["text"] == "Chest pain"
    assert study["extension"][0]["valueReference"] == {"display": "Gregory House"}
    series = study["series"][0]
    assert series["bodySite"]["concept"]["coding"][0]["display"] == "Chest"
    assert series["laterality"]["coding"][0]["display"] == "Right"
    assert not {"interpreter", "procedureCode", "reasonCode"} & study.keys()
    endpoint = server.only("Endpoint")
    assert endpoint["connectionType"][0]["coding"][0]["code"] == "dicom-wado-rs"
    assert endpoint["payload"] == [{"type": [{"text": "DICOM WADO-RS"}], "mimeType": ["application/dicom"]}]
    assert server.only("Device")["name"] == [{"value": "CT01", "type": "user-friendly-name"}]
    assert server.only("DiagnosticReport")["study"] == [{"reference": f"ImagingStudy/{study['id']}"}]
    document = server.only("DocumentReference")
    assert document["event"] == [{"reference": {"reference": f"ImagingStudy/{study['id']}"}}]
    assert document["identifier"][0] == {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{B[2]}"}


async def test_the_feed_met_again_writes_nothing(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    name = names("Doe^Jane", "山田")
    everything = sr(**EQUIPMENT, NameOfPhysiciansReadingStudy="House^Gregory", PatientName=name)
    for _ in range(2):
        archive.store(A, everything)
        archive.store(B, key_objects(BodyPartExamined="CHEST", PatientName=name, Modality="SR"))
        await extended(page_size=1)
    entries = [entry["request"] for bundle in server.bundles[2:] for entry in bundle["entry"]]
    assert entries == []


async def test_numbers_stay_true_when_instances_go(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    for uids in (A, B, C):
        archive.store(uids, ct())
    await extended()
    archive.delete(C)
    await extended(extended_mapping=False)
    study = study_of(server)
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (1, 2)
    archive.delete(A)
    await extended()
    study = study_of(server)
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (1, 1)
    assert study["series"][0]["numberOfInstances"] == 1


async def test_numbers_somebody_else_gave_are_left_alone(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    server.put({"resourceType": "Patient", "id": "p", "identifier": [{"value": "P1"}]})
    foreign = {
        "resourceType": "ImagingStudy",
        "id": "s",
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.1"}],
        "status": "available",
        "subject": {"reference": "Patient/p"},
        "referrer": {"reference": "Practitioner/grey", "display": "Grey"},
        "numberOfSeries": 7,
        "numberOfInstances": 700,
    }
    server.put(foreign)
    archive.store(A, ct(ReferringPhysicianName="Other"))
    await extended()
    study = study_of(server)
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (7, 700)
    assert study["series"][0]["numberOfInstances"] == 1
    assert study["referrer"] == foreign["referrer"]


async def test_studies_share_a_device_and_equipment_tells_devices_apart(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    archive.store(A, ct(**EQUIPMENT))
    archive.store(OTHER_STUDY, ct(PatientID="P2", **EQUIPMENT))
    archive.store(B, ct(PatientID="P1", Manufacturer="Acme", ManufacturerModelName="a model is no device"))
    archive.store(("1.3", "1.3.1", "1.3.1.1"), ct(PatientID="P3", **(EQUIPMENT | {"StationName": "CT02"})))
    await extended()
    first, second = server.all("Device")
    assert {first["serialNumber"], second["serialNumber"]} == {"S-1"}
    assert (first["manufacturer"], first["modelNumber"]) == ("Acme", "Scan 3")
    archive.delete(A)
    archive.delete(B)
    await extended()
    assert len(server.all("Device")) == 2


async def test_more_devices_than_go_into_a_transaction(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    for number in range(12):
        archive.store(("1.1", f"1.1.{number}", f"1.1.{number}.1"), ct(StationName=f"CT{number}"))
    await extended()
    assert len(server.all("Device")) == 12
    actors = [series["performer"][0]["actor"]["display"] for series in study_of(server)["series"]]
    assert actors == [f"CT{number}" for number in range(12)]
    assert max(len(bundle["entry"]) for bundle in server.bundles) <= 8


async def test_documents_come_and_go_with_their_instances(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    archive.store(A, sr(VerifyingObserverSequence=[dicom_json(VerifyingObserverName="Who^Doctor")]))
    archive.store(B, key_objects())
    archive.store(C, ct(SOPClassUID=PDF, Modality="DOC", DocumentTitle="Letter"))
    archive.store(OTHER_STUDY, sr(PatientID="P2"))
    await extended()
    report = next(one for one in server.all("DiagnosticReport") if one["identifier"][-1]["value"] == A[2])
    assert report["status"] == "final"
    assert report["code"]["coding"][0]["code"] == "18748-4"
    assert report["effectiveDateTime"] == "2024-01-31T12:00:00+01:00"
    assert report["resultsInterpreter"] == [{"display": "Doctor Who"}]
    assert report["presentedForm"][0]["url"] == f"{ROOT}v2/studies/1.1/series/1.1.1/instances/1.1.1.1"
    selection, letter = sorted(server.all("DocumentReference"), key=lambda one: one["identifier"][-1]["value"])
    assert (selection["description"], selection["docStatus"]) == ("Look here", "final")
    assert selection["type"]["text"] == "Of Interest"
    assert (letter["description"], letter["content"][0]["attachment"]["title"]) == ("Letter", "Letter")
    archive.delete(B)
    archive.update(A, ct())
    await extended()
    assert [one["identifier"][-1]["value"] for one in server.all("DiagnosticReport")] == [OTHER_STUDY[2]]
    assert [one["identifier"][-1]["value"] for one in server.all("DocumentReference")] == [C[2]]
    left_behind = server.only("DocumentReference")
    key = left_behind["identifier"][-1] | {"value": "1.1.9"}
    server.put(left_behind | {"id": "left", "identifier": [*left_behind["identifier"][:-1], key]})
    for uids in (A, C):
        archive.delete(uids)
    await extended(extended_mapping=False)
    assert server.all("DocumentReference") == []
    assert len(server.all("ImagingStudy")) == 1


async def test_an_update_moves_documents_and_replaces_what_was(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    old = {"ReferringPhysicianName": "Old", "NameOfPhysiciansReadingStudy": "Old"}
    verified = [dicom_json(VerifyingObserverName="Who^Doctor")]
    archive.store(A, sr(**old, ProcedureCodeSequence=[code("1", "LN", "old")], VerifyingObserverSequence=verified))
    archive.store(B, ct(**old))
    await extended()
    annotated = server.only("DiagnosticReport")
    assert "resultsInterpreter" in annotated
    server.put(annotated | {"conclusion": "somebody else's"})
    new: dict[str, Any] = {
        "ReferringPhysicianName": "New",
        "NameOfPhysiciansReadingStudy": ["New", "Newer"],
        "PatientID": "P2",
        "AccessionNumber": "A2",
        "StudyDescription": "Corrected",
        "ProcedureCodeSequence": [code("2", "LN", "new")],
    }
    archive.update(B, ct(**new))
    await extended()
    archive.update(A, sr(**new, CompletionFlag="PARTIAL", VerificationFlag=None))
    await extended()
    study, report = study_of(server), server.only("DiagnosticReport")
    patient = next(one for one in server.all("Patient") if one["identifier"] == [{"value": "P2"}])
    assert study["subject"] == report["subject"] == {"reference": f"Patient/{patient['id']}"}
    assert report["status"] == "partial"
    assert "resultsInterpreter" not in report
    assert report["conclusion"] == "somebody else's"
    assert study["referrer"] == {"display": "New"}
    assert [one["display"] for one in study["interpreter"]] == ["New", "Newer"]
    assert [one["text"] for one in study["procedureCode"]] == ["new"]
    assert study["description"] == "Corrected"
    assert study["note"] == [{"text": "Corrected"}]
    assert [one["identifier"]["value"] for one in study["basedOn"]] == ["A2"]


async def test_a_description_that_an_update_takes_away_goes(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    archive.store(A, ct())
    await extended()
    archive.update(A, ct(StudyDescription=None))
    await extended()
    assert not {"description", "note"} & study_of(server).keys()


async def test_lost_answers_double_nothing(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    """A worker that was killed after its transaction, or never heard the answer, does it all again."""
    for number in range(8):
        archive.store(("1.1", "1.1.1", f"1.1.1.{number}"), sr(**EQUIPMENT, InstanceNumber=number))
    carried_out = server.transaction
    lost = [3]

    async def deaf(bundle: Resource) -> Resource:
        answer = await carried_out(bundle)
        lost[0] -= 1
        if lost[0] >= 0:
            raise FhirUnreachable("POST failed: ReadError.")
        return answer

    server.transaction = deaf  # type: ignore[method-assign]
    archive.update(("1.1", "1.1.1", "1.1.1.3"), sr(**EQUIPMENT, PatientID="P2"))
    await extended()
    assert lost[0] < 0
    assert len(server.all("DiagnosticReport")) == 8
    assert len(server.all("Device")) == 1
    assert study_of(server)["numberOfInstances"] == 8


def order(identity: str, subject: str, value: str = "A1") -> Resource:
    return {
        "resourceType": "ServiceRequest",
        "id": identity,
        "identifier": [{"system": "urn:ris", "value": value}],
        "status": "active",
        "intent": "order",
        "subject": {"reference": subject},
    }


async def test_orders_are_linked_by_accession_number_and_patient(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    archive.store(A, ct())
    await extended()
    study = study_of(server)
    logical = {"type": "ServiceRequest", "identifier": accession_identifier("A1")}
    assert study["basedOn"] == [logical]
    server.put(order("elsewhere", "Patient/other"))
    archive.store(B, ct())
    await extended()
    assert study_of(server)["basedOn"] == [logical]
    server.put(order("o1", study["subject"]["reference"]))
    archive.store(C, ct())
    await extended()
    assert study_of(server)["basedOn"] == [logical | {"reference": "ServiceRequest/o1"}]
    server.put(order("o2", study["subject"]["reference"]))
    archive.store(("1.1", "1.1.4", "1.1.4.1"), ct())
    await extended()
    assert study_of(server)["basedOn"] == [logical]


async def test_an_order_somebody_linked_is_not_linked_twice(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    archive.store(A, ct(AccessionNumber=None))
    await extended()
    study = server.only("ImagingStudy")
    assert "basedOn" not in study
    server.put(order("o1", study["subject"]["reference"]))
    server.put(study | {"basedOn": [{"reference": "ServiceRequest/o1"}]})
    archive.store(B, ct())
    await extended()
    assert server.only("ImagingStudy")["basedOn"] == [{"reference": "ServiceRequest/o1"}]


def names(alphabetic: str, ideographic: str, phonetic: str = "") -> dict[str, str]:
    groups = {"Alphabetic": alphabetic, "Ideographic": ideographic, "Phonetic": phonetic}
    return {name: value for name, value in groups.items() if value}


async def test_ideographic_and_phonetic_names(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    archive.store(A, ct(PatientName=names("Yamada^Tarou", "山田^太郎", "やまだ^たろう")))
    await extended()
    usual, ideographic, phonetic = server.only("Patient")["name"]
    assert usual == {"use": "usual", "family": "Yamada", "given": ["Tarou"]}
    assert (ideographic["family"], ideographic["extension"][0]["valueCode"]) == ("山田", "IDE")
    assert (phonetic["given"], phonetic["extension"][0]["valueCode"]) == (["たろう"], "SYL")
    archive.store(B, ct(PatientName=names("Suzuki^Tarou", "鈴木^太郎")))
    await extended(extended_mapping=False)
    assert [one["family"] for one in server.only("Patient")["name"]] == ["Suzuki", "山田", "やまだ"]
    archive.store(B, ct(PatientName=names("Suzuki^Tarou", "鈴木^太郎")))
    await extended()
    assert [one["family"] for one in server.only("Patient")["name"]] == ["Suzuki", "鈴木"]


async def test_what_was_cast_without_is_completed(
    archive: MemoryArchive, server: MemoryFhir, extended: Callable[..., Any]
) -> None:
    archive.store(A, ct())
    await extended(extended_mapping=False)
    assert study_of(server)["modality"] == [{"system": "DCM", "code": "CT"}]
    archive.store(B, ct())
    await extended()
    after = study_of(server)
    fresh = MemoryArchive()
    fresh.store(A, ct())
    fresh.store(B, ct())
    assert after["numberOfInstances"] == 2
    assert {instance["sopClass"]["code"][:8] for instance in after["series"][0]["instance"]} == {"urn:oid:"}
    assert [coding["system"] for coding in after["modality"]] == ["http://dicom.nema.org/resources/ontology/DCM"]


async def test_pages_of_any_size_give_the_same_in_the_embedded_store(target: EmbeddedTarget, cast: Cast) -> None:
    def archive(study: str) -> MemoryArchive:
        made = MemoryArchive()
        uids = [(study, f"{study}.{n % 3}", f"{study}.{n % 3}.{n}") for n in range(8)]
        for place, one in enumerate(uids):
            kinds = (ct, sr, key_objects)
            made.store(one, kinds[place % 3](StationName=f"S{place % 2}", NameOfPhysiciansReadingStudy=f"R{place}"))
        made.delete(uids[0])
        made.update(uids[1], sr(PatientID="P2", AccessionNumber="A9"))
        made.delete(uids[2])
        made.store(uids[2], dose(1, 2))
        return made

    found = []
    for page_size in (1, 1000):
        state = await cast(archive("1.7"), target, page_size=page_size, extended_mapping=True)
        assert sum((await state.status()).error_counts.values()) == 0
        found.append(await content(target))

        async def reset(tx: Any) -> None:
            for table in ("reference", "date", "string", "token", "history", "resource", "head"):
                await tx.execute(f"DELETE FROM fhir_{table}")
            for table in ("state", "error", "updated_instance"):
                await tx.execute(f"DELETE FROM cast_{table}")

        await target._store._database.write(reset)
    assert found[0] == found[1]
    assert sum(name.startswith("DiagnosticReport") for name in found[0]) == 4


def test_body_parts_mean_what_the_standard_says() -> None:
    """Codes and meanings against pydicom's table of the context groups; terms outside those are few."""
    from pydicom.sr._concepts_dict import concepts

    meanings: dict[str, set[str]] = {}
    by_name: dict[str, dict[str, Any]] = concepts["SCT"]  # type: ignore[assignment]
    for entries in by_name.values():
        for value, (meaning, _) in entries.items():
            meanings.setdefault(value, set()).add(meaning.lower())
    assert len(body_sites._CODES) > 250
    rows = body_sites._CODES.items()
    others = {term for term, (value, meaning) in rows if meaning.lower() not in meanings.get(value, set())}
    assert others <= {
        *("3RDVENTRICLE", "4THVENTRICLE", "ARTERY", "CALF", "CHOROIDPLEXUS", "GESTSAC", "GLUTEAL", "LATVENTRICLE"),
        *("POSCOMMA", "SUPRAPUBIC", "VEIN"),
    }


@pytest.mark.parametrize(
    ("root", "partition", "found"),
    [
        (ROOT, "Microsoft.Default", f"{ROOT}v2/"),
        ("http://h/dicom", "lab", "http://h/dicom/v2/partitions/lab/"),
        ("http://h/dicom/v1/", "Microsoft.Default", "http://h/dicom/v1/"),
    ],
)
def test_links_lead_to_a_version_of_the_api(root: str, partition: str, found: str) -> None:
    assert document.api_root(root, partition) == found


@pytest.mark.parametrize(
    ("term", "coding"),
    [
        ("lspine", {"system": "http://snomed.info/sct", "code": "122496007", "display": "Lumbar spine"}),
        ("J BRZUSZNA", {"display": "J BRZUSZNA"}),
    ],
)
def test_body_site(term: str, coding: Resource) -> None:
    assert body_sites.body_site(term) == coding
