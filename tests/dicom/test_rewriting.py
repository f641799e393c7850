"""Files with some attributes set anew: nothing else changes, whatever they are written in (operations.md §2)."""

import io
import struct
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from hounsfield import __version__
from hounsfield.dicom.attribute_changes import CHANGEABLE, Change, read_changes
from hounsfield.dicom.dataset_reader import FIRST_WINDOW
from hounsfield.dicom.file_meta import (
    GROUP_LENGTH,
    IMPLEMENTATION_CLASS,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    file_meta,
    new_elements,
    read_file_meta,
)
from hounsfield.dicom.part10 import read_instance
from hounsfield.dicom.rewriting import Range, rewrite
from hounsfield.dicom.source import BytesSource
from tests import factories

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def changes(**elements: Any) -> list[Change]:
    """Changes by keyword: values of DICOM JSON."""
    dataset = {}
    for keyword, values in elements.items():
        tag = pydicom.datadict.tag_for_keyword(keyword)
        assert tag is not None
        dataset[f"{tag:08X}"] = {"vr": pydicom.datadict.dictionary_VR(tag), "Value": values}
    found, refusals = read_changes(dataset)
    assert not refusals
    return found


def name(text: str) -> list[dict[str, str]]:
    return [{"Alphabetic": text}]


def rewritten(file: bytes, wanted: list[Change]) -> bytes:
    """The new file, which our reader reads as the old one with the changes, frames included."""
    before = read_instance(BytesSource(file))
    made = rewrite(BytesSource(file), wanted, before.transfer_syntax)
    new = b"".join(made.read())
    after = read_instance(BytesSource(new))
    expected = {**before.dataset, **{change.key: change.element for change in wanted}}
    if made.utf8:
        expected["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert after.dataset == expected
    assert list(after.dataset) == sorted(after.dataset)
    assert after.transfer_syntax == before.transfer_syntax
    assert (after.frames is None) == (before.frames is None)
    if before.frames is not None and after.frames is not None:
        assert before.frames.moved(made.moved, made.stream_start).to_bytes() == after.frames.to_bytes()
    return new


def read(file: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(file))


def others(ds: Dataset, *keywords: str) -> dict[int, Any]:
    """Every element but these, as it is stored."""
    tags = {pydicom.datadict.tag_for_keyword(keyword) for keyword in keywords}
    return {int(tag): ds.get_item(tag).value for tag in ds.keys() if tag not in tags}  # noqa: SIM118


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_nothing_else_changes(syntax: str) -> None:
    file = factories.instance(syntax, OtherPatientIDs="A")
    wanted = changes(
        PatientName=name("New^Name"), PatientComments=["added"], AccessionNumber=[], OtherPatientIDs=["B", "C"]
    )
    new = read(rewritten(file, wanted))
    old = read(file)
    changed = ("PatientName", "PatientComments", "AccessionNumber", "OtherPatientIDs")
    assert others(new, *changed) == others(old, *changed)
    assert (new.PatientName, new.PatientComments, new.AccessionNumber) == ("New^Name", "added", "")
    assert list(new.OtherPatientIDs) == ["B", "C"]
    assert list(new.keys()) == sorted(new.keys())


def test_the_file_meta_names_its_new_writer() -> None:
    file = factories.instance()
    old, new = read(file).file_meta, read(rewritten(file, [])).file_meta
    assert new.ImplementationClassUID == IMPLEMENTATION_CLASS_UID.decode()
    assert new.ImplementationVersionName == __version__
    for keyword in ("TransferSyntaxUID", "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID"):
        assert new.get(keyword) == old.get(keyword)
    (length,) = struct.unpack_from("<I", rewritten(file, []), 140)
    assert length == new.FileMetaInformationGroupLength


def test_a_file_without_file_meta_gets_one() -> None:
    file = factories.instance(ImplicitVRLittleEndian)
    start = file.index(b"\x08\0\x16\0")
    new = read(rewritten(file[start:], changes(PatientID=["X"])))
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
    assert new.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian


@given(
    uid=st.sampled_from(["", "1", "12", "1.2.3", "1.2.34", "2.25." + "9" * 39, "\1\1", "A" * 70]),
    other=st.text("12.", max_size=6),
)
def test_only_who_wrote_it_is_new_in_the_file_meta(uid: str, other: str) -> None:
    """Whatever a file calls its instance there: what was learned of one file is used for the next."""
    elements = new_elements(ExplicitVRLittleEndian, b"1.2.840.10008.5.1.4.1.1.2", uid.encode())
    elements = {**elements, IMPLEMENTATION_CLASS: ("UI", b"1.2.3"), 0x00020016: ("AE", other.encode())}
    file = factories.instance(ExplicitVRLittleEndian)
    file = file_meta(elements) + file[read_file_meta(memoryview(file))[1] :]
    new = b"".join(rewrite(BytesSource(file), changes(PatientID=["X"]), "").read())
    found, start = read_file_meta(memoryview(new))
    before, _ = read_file_meta(memoryview(file))
    ours = {IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION_NAME, GROUP_LENGTH}
    assert {tag: bytes(value) for tag, (_, value) in found.items() if tag not in ours} == {
        tag: bytes(value) for tag, (_, value) in before.items() if tag not in ours
    }
    assert bytes(found[IMPLEMENTATION_CLASS][1]).rstrip(b"\0") == IMPLEMENTATION_CLASS_UID
    assert int.from_bytes(found[GROUP_LENGTH][1], "little") == start - 144


def test_pixel_data_are_a_range_of_the_source() -> None:
    ds = factories.dataset(Rows=512, Columns=512, PixelData=bytes(512 * 512 * 2))
    file = factories.part10(ds)
    made = rewrite(BytesSource(file), changes(PatientName=name("A much longer name^than before")), "")
    assert sum(len(piece) for piece in made.pieces if isinstance(piece, bytes)) < 1000
    last = made.pieces[-1]
    assert isinstance(last, Range) and last.length > 512 * 512 * 2


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_an_attribute_that_is_there_again_where_it_should_not_be(syntax: str) -> None:
    """Some writers do not sort. Whoever reads the last of two would see the old value."""
    ds = factories.dataset(Rows=8, Columns=8, PixelData=bytes(128))
    ds.PatientName = "Some^Name"
    file = factories.part10(ds, syntax)
    endian = ">" if syntax == ExplicitVRBigEndian else "<"
    tag, pixels = (struct.pack(f"{endian}HH", group, number) for group, number in ((0x10, 0x10), (0x7FE0, 0x10)))
    begin = file.index(tag)
    end = file.index(b"Some^Name") + 10
    at = file.rindex(pixels)
    wanted = changes(PatientName=name("New^Name"))
    for copies in (1, 2):
        twice = file[:at] + file[begin:end] * copies + file[at:]
        new = b"".join(rewrite(BytesSource(twice), wanted, syntax).read())
        assert b"Some^Name" not in new
        assert new.count(tag) == 1
        assert read(new).PatientName == "New^Name"
    # The same letters in a value are none.
    innocent = factories.dataset(Rows=8, Columns=8, PixelData=bytes(128), ImageComments=f"x{tag.decode('latin_1')}x")
    made = read(b"".join(rewrite(BytesSource(factories.part10(innocent, syntax)), wanted, syntax).read()))
    assert (made.PatientName, made.PixelData) == ("New^Name", bytes(128))


def test_an_icon_s_pixel_data_are_not_where_the_dataset_ends() -> None:
    icon = Dataset()
    icon.Rows = icon.Columns = icon.BitsAllocated = 8
    icon.PixelData = bytes(64)
    ds = factories.dataset(Rows=8, Columns=8, PixelData=bytes(128), IconImageSequence=Sequence([icon]))
    ds.PatientName = "Some^Name"
    ds.private_block(0x0099, "Somebody", create=True).add_new(1, "OB", bytes(2 * FIRST_WINDOW))
    file = factories.part10(ds, ExplicitVRLittleEndian)
    begin, at = file.index(b"\x10\0\x10\0PN"), file.rindex(b"\xe0\x7f\x10\0")
    twice = file[:at] + file[begin : file.index(b"Some^Name") + 10] + file[at:]
    new = b"".join(rewrite(BytesSource(twice), changes(PatientName=name("New^Name")), ExplicitVRLittleEndian).read())
    assert b"Some^Name" not in new


def test_encapsulated_frames_move_with_the_header() -> None:
    frames = [b"\xff\xd8one\xff\xd9\0", b"\xff\xd8two two\xff\xd9\0"]
    for table in (True, False):
        rewritten(factories.encapsulated(frames, offset_table=table), changes(PatientName=name("山田")))


def test_group_lengths_stay_right() -> None:
    body = factories.instance(ImplicitVRLittleEndian)
    start = body.index(b"\x08\0\x16\0")
    patient = body.index(b"\x10\0\x10\0")
    behind = next(at for at in range(patient, len(body)) if body[at : at + 4] == b"\x20\0\x0d\0")
    group = struct.pack("<HHII", 0x10, 0, 4, behind - patient)
    file = body[:patient] + group + body[patient:]
    assert start < patient < behind
    new = rewritten(file, changes(PatientName=name("Somebody^Else With^A Long Name"), PatientComments=["x"]))
    at = new.index(b"\x10\0\0\0\4\0\0\0")
    (length,) = struct.unpack_from("<I", new, at + 8)
    assert new[at + 12 + length :].startswith(b"\x20\0\x0d\0")


# --- character sets ---


def test_a_set_that_can_write_the_new_value_stays() -> None:
    new = read(rewritten(factories.instance(SpecificCharacterSet="ISO_IR 100"), changes(PatientName=name("Müller"))))
    assert (new.SpecificCharacterSet, new.PatientName) == ("ISO_IR 100", "Müller")


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("given_set", [None, "ISO_IR 100", "ISO_IR 144"])
def test_text_survives_the_change_of_set(syntax: str, given_set: str | None) -> None:
    text = {None: "plain", "ISO_IR 100": "Größe", "ISO_IR 144": "Привет"}[given_set]
    item = Dataset()
    item.CodeMeaning, item.CodeValue = text, "1"
    inner = Dataset()
    inner.ConceptNameCodeSequence = Sequence([item])
    ds = factories.dataset(SpecificCharacterSet=given_set or "ISO_IR 6", InstitutionName=text)
    ds.RequestAttributesSequence = Sequence([inner, Dataset()])
    for undefined in (False, True):
        ds["RequestAttributesSequence"].is_undefined_length = undefined
        new = read(rewritten(factories.part10(ds, syntax), changes(PatientName=[{"Ideographic": "山田^太郎"}])))
        assert new.SpecificCharacterSet == "ISO_IR 192"
        assert new.PatientName.ideographic == "山田^太郎"
        assert new.InstitutionName == text
        assert new.RequestAttributesSequence[0].ConceptNameCodeSequence[0].CodeMeaning == text


def test_an_item_with_a_set_of_its_own_keeps_it() -> None:
    item = Dataset()
    item.SpecificCharacterSet, item.CodeMeaning = "ISO_IR 144", "Привет"
    ds = factories.dataset(SpecificCharacterSet="ISO_IR 100")
    ds.RequestAttributesSequence = Sequence([item])
    new = read(rewritten(factories.part10(ds), changes(PatientName=name("山田"))))
    assert new.RequestAttributesSequence[0].SpecificCharacterSet == "ISO_IR 144"
    assert new.RequestAttributesSequence[0].CodeMeaning == "Привет"


@settings(max_examples=60, deadline=None)
@given(
    syntax=st.sampled_from(SYNTAXES),
    given_set=st.sampled_from(["ISO_IR 6", "ISO_IR 100", "ISO_IR 192", "GB18030"]),
    text=st.text(st.characters(min_codepoint=32, exclude_characters="\\^=\x7f", exclude_categories=["Cc", "Cs"])).map(
        lambda found: found[:60]
    ),
)
def test_any_text(syntax: str, given_set: str, text: str) -> None:
    found, refusals = read_changes({"00104000": {"vr": "LT", "Value": [text]}})
    assert not refusals
    rewritten(factories.instance(syntax, SpecificCharacterSet=given_set), found)


# --- what may be set ---


def test_the_list_of_attributes() -> None:
    listed = """
        00100010 00100020 00100021 00100022 00101000 00101001 00101005 00101060 00101090
        00100030 00100032 00100040 00100200 00101010 00101020 00101030 00101040 00101080 00101081 00102150 00102152
        00102154 00102160 00102180 001021F0 00102201 00102292 00102295 00102297 00102298 00102299 00104000 00403001
        00080050 00080090 00081030
    """
    assert set(listed.split()) == CHANGEABLE


@pytest.mark.parametrize(
    ("key", "element", "reason"),
    [
        ("0020000D", {"vr": "UI", "Value": ["1.2"]}, "Updating the tag is not supported"),
        ("00101002", {"vr": "SQ", "Value": []}, "Updating the tag is not supported"),
        ("00100030", {"vr": "DA", "Value": ["yesterday: 1"]}, "does not validate VR DA"),
        ("00100020", {"vr": "LO", "Value": ["x" * 65]}, "does not validate VR LO"),
        ("00100020", {"vr": "SH", "Value": ["x"]}, "The VR is not that of the attribute, LO"),
        ("00100020", {"vr": "LO", "Value": [7]}, "DICOM JSON Model"),
        ("00100020", {"vr": "LO", "Value": "x"}, "Value is no array"),
        ("00100020", {"vr": "LO", "InlineBinary": "eA=="}, "given as Value"),
        ("00100020", {"vr": "LO", "Value": ["a\\b"]}, "backslash"),
        ("00101030", {"vr": "DS", "Value": ["heavy"]}, "does not validate VR DS"),
    ],
)
def test_what_cannot_be_set(key: str, element: dict[str, Any], reason: str) -> None:
    found, (refusal,) = read_changes({key: element, "00100010": {"vr": "PN"}})
    assert [change.key for change in found] == ["00100010"]
    assert reason in refusal.comment
    assert refusal.comment.startswith(f"DICOM100: ({key[:4].lower()},{key[4:].lower()}) - ")
    assert "yesterday" not in refusal.comment and "heavy" not in refusal.comment
