"""De-identification by the Basic Profile (PS3.15 Annex E)."""

import io
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from hounsfield.dicom.deidentification import CannotDeidentify, Deidentifier, actions
from hounsfield.operations.export.request import Deidentification
from hounsfield.operations.export.sources import deidentifier_of
from tests import factories

KEY = b"k" * 32
SECRET = "SECRETXY"
FILES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "image_dfl.dcm",
    "JPEG2000.dcm",
    "rtplan.dcm",
    "rtstruct.dcm",
    "test-SR.dcm",
    "liver.dcm",
    "waveform_ecg.dcm",
    "examples_overlay.dcm",
]


def cleaned(data: bytes, source_uid: str | None = None, **options: Any) -> Dataset:
    out = io.BytesIO()
    Deidentifier(KEY, **options).write(memoryview(data), out, source_uid)
    return pydicom.dcmread(io.BytesIO(out.getvalue()))


@pytest.mark.parametrize("name", FILES)
def test_files_in_the_field(name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("not among the files pydicom brings along")
    before = pydicom.dcmread(str(path), force=True)
    syntax = before.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    after = cleaned(Path(str(path)).read_bytes(), syntax)
    assert after.file_meta.TransferSyntaxUID == syntax
    assert after.get("PixelData") == before.get("PixelData")
    assert after.SOPClassUID == before.SOPClassUID and after.SOPInstanceUID != before.SOPInstanceUID
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert after.PatientIdentityRemoved == "YES" and after.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    table = actions()
    for element in after.iterall():
        assert not element.tag.is_private
        action = table.get(int(element.tag))
        assert action != "X", element.tag
        if action == "Z" and element.tag not in (0x00100010, 0x00100020):
            assert not element.value, element.tag
    values = {str(element.value) for element in after.iterall() if element.VR == "UI"}
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert not before.get(keyword) or str(before[keyword].value) not in values
    for old in before:
        if (
            int(old.tag) not in table
            and not old.tag.is_private
            and old.VR not in ("SQ", "UN")
            and old.tag.group != 0x6000
        ):
            assert after.get(old.tag, old).value == old.value, old.tag


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_nothing_that_identifies_is_left_in_any_encoding(syntax: str) -> None:
    inner = Dataset()
    inner.ReferencedSOPInstanceUID, inner.PatientName = "1.2.3.4", f"{SECRET}^In"
    inner.add_new(0x00091001, "LO", SECRET)
    ds = factories.dataset(
        PatientName=f"{SECRET}^A",
        PatientID=SECRET,
        InstitutionName=SECRET,
        StudyDescription=SECRET,
        PatientComments=SECRET,
        AccessionNumber=SECRET,
        DeviceSerialNumber=SECRET,
        StationName=SECRET,
        ReferencedImageSequence=Sequence([inner]),
        SourceImageSequence=Sequence([inner]),
        RequestAttributesSequence=Sequence([inner]),
    )
    ds.add_new(0x00090010, "LO", SECRET)
    ds.add_new(0x60003000, "OW", SECRET.encode())
    ds.add_new(0x60004000, "LT", SECRET)
    ds.add_new(0x00080007, "LO", SECRET)  # no attribute of PS3.6
    after = cleaned(factories.part10(ds, syntax))
    out = io.BytesIO()
    after.save_as(out)
    assert SECRET.encode() not in out.getvalue() and "1.2.3.4" not in str(after)
    assert SECRET not in str(after)
    assert after.PixelData == ds.PixelData and after.Rows == ds.Rows
    assert after.ReferencedImageSequence[0].ReferencedSOPInstanceUID == Deidentifier(KEY).uid("1.2.3.4")
    assert after.PatientID == Deidentifier(KEY).patient(SECRET)


def code(value: str, meaning: str) -> Dataset:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, "99LOCAL", meaning
    return ds


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_words_in_sequences_that_are_replaced(syntax: str) -> None:
    inner, text = Dataset(), Dataset()
    for item, kind in ((inner, "TEXT"), (text, "CONTAINER")):
        item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", kind, f"{SECRET} fell off a ladder"
        item.ConceptNameCodeSequence = Sequence([code("121071", "Finding")])
    text.ContentSequence = Sequence([inner])
    operator = Dataset()
    operator.PersonIdentificationCodeSequence = Sequence([code(SECRET, SECRET)])
    ds = factories.dataset(
        ContentSequence=Sequence([text]),
        OperatorIdentificationSequence=Sequence([operator]),
        InstitutionCodeSequence=Sequence([code(SECRET, SECRET)]),
    )
    after = cleaned(factories.part10(ds, syntax))
    assert SECRET not in str(after)
    # What tells a program how to read it stays.
    (item,) = after.ContentSequence
    assert (item.TextValue, item.ValueType, item.ContentSequence[0].RelationshipType) == (
        "ANONYMIZED",
        "CONTAINER",
        "CONTAINS",
    )
    assert item.ContentSequence[0].ConceptNameCodeSequence[0].CodeMeaning == "Finding"
    assert after.InstitutionCodeSequence[0].CodingSchemeDesignator == "ANONYMIZED"


def test_identifiers_are_consistent_within_a_key_and_nobody_elses() -> None:
    one, other = Deidentifier(KEY), Deidentifier(b"x" * 32)
    assert one.uid("1.2") == Deidentifier(KEY).uid("1.2") != one.uid("1.3")
    assert one.uid("1.2") != other.uid("1.2") and one.patient("a") != other.patient("a")
    assert one.uid("1.2").startswith("2.25.") and len(one.uid("1.2")) <= 64
    assert Deidentifier(KEY, retain_uids=True).uid("1.2") == "1.2"
    assert deidentifier_of(None, KEY) is None and deidentifier_of(Deidentification(True), KEY) is not None


def test_uids_are_retained_on_request() -> None:
    ds = factories.dataset()
    after = cleaned(factories.part10(ds), retain_uids=True)
    assert after.SOPInstanceUID == ds.SOPInstanceUID and after.StudyInstanceUID == ds.StudyInstanceUID
    codes = [item.CodeValue for item in after.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113110"] and after.StudyDate == ""


@pytest.mark.parametrize(
    ("attributes", "text"),
    [({"BurnedInAnnotation": "YES"}, "burned"), ({"EncapsulatedDocument": b"%PDF"}, "document")],
)
def test_what_cannot_be_deidentified(attributes: dict[str, Any], text: str) -> None:
    with pytest.raises(CannotDeidentify, match=text):
        cleaned(factories.part10(factories.dataset(**attributes)))


@pytest.mark.parametrize("cut", [0, 10, 200, 400, -5])
def test_broken_files_are_refused_without_their_content(cut: int) -> None:
    with pytest.raises(CannotDeidentify) as caught:
        cleaned(factories.part10(factories.dataset(PatientName=SECRET))[:cut])
    assert SECRET not in caught.value.message
