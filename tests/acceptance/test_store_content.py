"""What a store keeps: files in every transfer syntax, metadata, values of study and series (store.md §§2, 6)."""

import zlib

import httpx
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from hounsfield.dicom.transfer_syntax import TRANSFER_SYNTAXES
from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import ORIGINAL, Json, instance_path, referenced, study_path, value
from tests.acceptance.test_store import post
from tests.dicom.elements import BIG_ENDIAN, element, file, fragments

pytestmark = pytest.mark.acceptance


def identity(ds: Dataset, *, implicit: bool = False, endian: str = "<") -> bytes:
    """The attributes every instance must have."""
    given = {
        0x00080016: ("UI", ds.SOPClassUID),
        0x00080018: ("UI", ds.SOPInstanceUID),
        0x00100020: ("LO", "P1"),
        0x0020000D: ("UI", ds.StudyInstanceUID),
        0x0020000E: ("UI", ds.SeriesInstanceUID),
    }
    return b"".join(element(tag, "" if implicit else vr, odd(vr, text), endian) for tag, (vr, text) in given.items())


def odd(vr: str, text: str) -> bytes:
    """The value with its padding."""
    return text.encode() + (b"\0" if vr == "UI" else b" ") * (len(text) % 2)


@pytest.mark.parametrize("uid", sorted(TRANSFER_SYNTAXES))
def test_every_transfer_syntax_is_stored_as_it_is(client: httpx.Client, uid: str) -> None:
    """Whether or not the pixel data are what the syntax says: nothing is decoded."""
    syntax, ds = TRANSFER_SYNTAXES[uid], factories.dataset()
    endian = ">" if uid == BIG_ENDIAN else "<"
    dataset = identity(ds, implicit=syntax.implicit, endian=endian)
    if not syntax.native and not syntax.implicit:
        dataset += fragments([b"no picture", b"at all"])
    if syntax.deflated:
        squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        dataset = squeeze.compress(dataset) + squeeze.flush()
    body = file(dataset, uid)
    response = post(client, body)
    assert response.status_code == (202 if syntax.implicit else 200), response.text
    (item,) = referenced(response)
    assert ("00081196" in item) == syntax.implicit
    assert not syntax.implicit or value(item, "00081196") == 45063
    assert client.get(instance_path(ds), headers={"accept": ORIGINAL}).content == body


def test_private_attributes_of_implicit_vr_are_in_the_file_alone(client: httpx.Client) -> None:
    ds = factories.dataset()
    private = element(0x00410010, "", b"ACME 1") + element(0x00411001, "", b"secret")
    body = file(identity(ds, implicit=True) + private, "1.2.840.10008.1.2")
    assert post(client, body).status_code == 202
    (metadata,) = client.get(f"{instance_path(ds)}/metadata").json()
    assert "00411001" not in metadata
    assert not any(key.startswith("0002") for key in metadata)
    assert client.get(instance_path(ds), headers={"accept": ORIGINAL}).content == body


# --- study and series: the latest value wins (§6) ---

ATTRIBUTES = {  # keyword: (tag, level, first value, later value, a value that is dropped or unusable)
    "PatientID": ("00100020", "studies", "ONE", "TWO", " "),
    "PatientName": ("00100010", "studies", "Doe^One", "Doe^Two", "A^B^C^D^E^F"),
    "PatientBirthDate": ("00100030", "studies", "19700101", "19710101", "19700231"),
    "AccessionNumber": ("00080050", "studies", "ONE", "TWO", "A" * 17),
    "ReferringPhysicianName": ("00080090", "studies", "Ref^One", "Ref^Two", "x" * 65),
    "StudyDate": ("00080020", "studies", "20240101", "20240102", "20241301"),
    "StudyDescription": ("00081030", "studies", "one", "two", "x" * 65),
    "Modality": ("00080060", "series", "CT", "MR", "not a code"),
    "PerformedProcedureStepStartDate": ("00400244", "series", "20240101", "20240102", "yesterday"),
    "ManufacturerModelName": ("00081090", "series", "one", "two", "x" * 65),
}


@pytest.mark.parametrize("keyword", ATTRIBUTES)
def test_the_latest_usable_value_wins(client: httpx.Client, keyword: str) -> None:
    tag, level, first, later, bad = ATTRIBUTES[keyword]
    ds = factories.dataset(**{keyword: first})

    def sibling(given: str) -> Dataset:
        one = dicomweb.sibling(ds)
        with disable_value_validation():
            setattr(one, keyword, given)
        return one

    def store(given: str | None, version: str = "v2") -> int:
        one = sibling(given or "")
        if given is None:
            delattr(one, keyword)
        return post(client, factories.part10(one), path=f"/{version}/studies").status_code

    def indexed() -> Json:
        (found,) = client.get(f"/v2/{level}", params={"StudyInstanceUID": ds.StudyInstanceUID}).json()
        assert isinstance(found, dict)
        return found

    def shown(text: str) -> object:
        return {"Alphabetic": text} if "Name" in keyword and keyword != "ManufacturerModelName" else text

    assert post(client, factories.part10(ds)).status_code == 200
    assert value(indexed(), tag) == shown(first)
    if keyword != "PatientID":  # which has to be there
        assert store(None) == 200
    assert store("") == (202 if keyword == "PatientID" else 200)
    assert store(bad) in (200, 202)
    assert value(indexed(), tag) == shown(first)
    assert store(later, "v1") == 200
    assert value(indexed(), tag) == shown(later)
    for text, status in ((later, 200), (first, 204)):
        asked = {"StudyInstanceUID": ds.StudyInstanceUID, keyword: text}
        assert client.get(f"/v2/{level}", params=asked).status_code == status
    # Of one request the last part wins.
    parts = [factories.part10(sibling(text)) for text in (later, first)]
    assert dicomweb.post(client, parts).status_code == 200
    assert value(indexed(), tag) == shown(first)


def test_deleting_and_storing_again_begins_anew(client: httpx.Client) -> None:
    """No value of a study that was deleted comes back with the next one of its UID."""
    ds = factories.dataset(StudyDescription="before", PatientName="Old^Name")
    dicomweb.store(client, ds)
    assert client.delete(study_path(ds)).status_code == 204
    del ds.StudyDescription
    ds.PatientName = "New^Name"
    dicomweb.store(client, ds)
    (found,) = client.get("/v2/studies", params={"StudyInstanceUID": ds.StudyInstanceUID}).json()
    assert "00081030" not in found
    assert value(found, "00100010") == {"Alphabetic": "New^Name"}
    old = {"StudyInstanceUID": ds.StudyInstanceUID, "PatientName": "old", "fuzzymatching": "true"}
    assert client.get("/v2/studies", params=old).status_code == 204
