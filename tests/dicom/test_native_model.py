"""The DICOM JSON Model and the Native DICOM Model in XML (PS3.19 §A.1, PS3.18 §F.3)."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.dicom.dataset_reader import MAX_DEPTH
from hounsfield.dicom.encodings import VRS
from hounsfield.dicom.json_model import metadata_json
from hounsfield.dicom.native_model import MAX_LEFT_OUT, NAMESPACE, BadDocument, from_xml, to_xml
from hounsfield.dicom.part10 import read_instance
from hounsfield.dicom.source import FileSource
from hounsfield.dicom.values import BULK_VRS, NUMBER_CODES
from tests.dicom.native_model import DATASET, EXAMPLE
from tests.dicom.samples import HERE
from tests.peers.toolkits import require_tool


def document(inside: str) -> bytes:
    return f"<NativeDicomModel>{inside}</NativeDicomModel>".encode()


def attribute(inside: str, named: str = 'tag="00100020" vr="LO"') -> bytes:
    return document(f"<DicomAttribute {named}>{inside}</DicomAttribute>")


def test_everything_the_model_has() -> None:
    assert from_xml(EXAMPLE) == DATASET
    assert list(from_xml(EXAMPLE)) == sorted(DATASET)
    assert from_xml(to_xml(DATASET)) == DATASET


def test_what_is_written_is_what_the_model_asks_for() -> None:
    root = ElementTree.fromstring(to_xml(DATASET))
    names = {"n": NAMESPACE}
    assert root.tag == f"{{{NAMESPACE}}}NativeDicomModel"
    by_tag = {(one.get("tag"), one.get("privateCreator")): one for one in root.findall("n:DicomAttribute", names)}
    name = by_tag["00100010", None]
    assert (name.get("vr"), name.get("keyword")) == ("PN", "PatientName")
    components = [
        (one.tag.rpartition("}")[2], one.text) for one in name.findall("n:PersonName[@number='1']/*/*", names)
    ]
    assert components[:3] == [("FamilyName", "Yamada"), ("GivenName", "Tarou"), ("NamePrefix", "Dr")]
    numbers = [(one.get("number"), one.text) for one in by_tag["00080008", None]]
    assert numbers == [("1", "A"), ("2", None), ("3", None), ("4", "B & C")]
    # A private one is an offset into the block of its creator, whichever that is.
    assert ("00290010", "ACME") in by_tag and ("00290002", "OTHER") in by_tag
    assert by_tag["7FE00010", None][0].get("uri") == "https://h/b?a=1&c"
    assert [one.get("number") for one in by_tag["0040A370", None]] == ["1", "2"]


printable = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")
texts = st.text(printable | st.sampled_from("\t\n\r <>&\"'"), min_size=1, max_size=12)
parts = st.text(printable.filter(lambda one: one not in "^="), max_size=6)
groups = st.lists(parts, min_size=1, max_size=5).map(lambda some: "^".join(some).rstrip("^")).filter(bool)
names = st.dictionaries(st.sampled_from(("Alphabetic", "Ideographic", "Phonetic")), groups, min_size=1)
floats = st.floats(allow_nan=False, allow_infinity=False)


def values(vr: str) -> st.SearchStrategy[Any]:
    """Values of a VR as the way back has them: numbers where a number says it all."""
    if vr == "PN":
        return names
    if vr in ("FD", "FL"):
        return floats | st.sampled_from(("NaN", "Infinity", "-Infinity"))
    if vr == "DS":
        return st.integers(-(2**53), 2**53) | floats | st.sampled_from(("1.50", "-0", " 7", "1E5"))
    if vr == "IS":
        return st.integers(-(2**31), 2**31 - 1) | st.sampled_from(("007", "+1", "1.0"))
    if vr in NUMBER_CODES:
        return st.integers(0, 255) | st.sampled_from(("9007199254740993", "-9223372036854775808"))
    return texts


@st.composite
def elements(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    vr = draw(st.sampled_from(sorted(VRS)))
    if vr == "SQ":
        items = draw(st.lists(datasets(depth + 1), max_size=2)) if depth < 2 else []
        return {"vr": vr, "Value": items} if items else {"vr": vr}
    if vr in BULK_VRS:
        held = st.sampled_from(({}, {"InlineBinary": "AAE="}, {"BulkDataURI": 'http://h/?a=1&b="\n'}))
        return {"vr": vr, **draw(held)}
    found = draw(st.lists(st.none() | values(vr), max_size=3))
    return {"vr": vr, "Value": found} if found else {"vr": vr}


def datasets(depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    tags = st.sampled_from(("00100010", "00291001", "002911FF", "00291299", "00720060", "50000010", "7FE00010"))
    creators = st.dictionaries(st.sampled_from(("00290010", "00290011")), st.sampled_from(("ACME", "<B>")), max_size=2)
    reserving = creators.map(lambda some: {key: {"vr": "LO", "Value": [one]} for key, one in some.items()})
    content = st.dictionaries(tags, elements(depth), max_size=4)
    return st.tuples(content, reserving).map(lambda both: dict(sorted((both[0] | both[1]).items())))


@given(datasets())
def test_there_and_back(dataset: dict[str, Any]) -> None:
    written = to_xml(dataset)
    assert from_xml(written) == dataset
    assert to_xml(from_xml(written)) == written
    ElementTree.fromstring(written)


@given(st.text(st.characters(), min_size=1, max_size=20))
def test_any_text_is_written_as_well_formed_xml(text: str) -> None:
    found = from_xml(to_xml({"00100020": {"vr": "LO", "Value": [text]}}))
    kept = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)
    assert found["00100020"]["Value"] == [kept]


def test_a_block_is_found_for_every_private_creator() -> None:
    reserved = '<DicomAttribute tag="00290011" vr="LO"><Value number="1">B</Value></DicomAttribute>'
    private = '<DicomAttribute tag="{}" vr="CS" privateCreator="{}"/>'
    asked = [("00290001", "A"), ("00290001", "B"), ("00290002", "A"), ("00291001", "C"), ("002B0001", "A")]
    found = from_xml(document("".join(private.format(*one) for one in asked) + reserved))
    creators = {key: one["Value"] for key, one in found.items() if "Value" in one}
    assert creators == {"00290010": ["A"], "00290011": ["B"], "00290012": ["C"], "002B0010": ["A"]}
    assert sorted(set(found) - set(creators)) == ["00291001", "00291002", "00291101", "00291201", "002B1001"]
    # One that has no reservation keeps its place, and nobody else is put there.
    found = from_xml(document('<DicomAttribute tag="00291005" vr="CS"/>' + private.format("00290001", "A")))
    assert list(found) == ["00290011", "00291005", "00291101"]


def test_a_group_has_so_many_blocks() -> None:
    private = '<DicomAttribute tag="00290001" vr="CS" privateCreator="{}"/>'
    found = from_xml(document("".join(private.format(f"C{number}") for number in range(240))))
    assert len(found) == 480
    with pytest.raises(BadDocument, match="no block left"):
        from_xml(document("".join(private.format(f"C{number}") for number in range(241))))


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not well-formed"),
        (b"{}", "not well-formed"),
        (b"<NativeDicomModel>", "not well-formed"),
        (b"<NativeDicomModel>\xff</NativeDicomModel>", "not well-formed"),
        (document("&unknown;"), "not well-formed"),
        (BOMB.encode() + attribute('<Value number="1">&b;</Value>'), "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><NativeDicomModel/>', "document type"),
        (b'<?xml version="1.0" encoding="zip"?><NativeDicomModel/>', "character encoding"),
        (b'<?xml version="1.0" encoding="shift_jis"?><NativeDicomModel/>', "character encoding"),
        (b"<Dataset/>", "the document has an element"),
        (b'<NativeDicomModel xmlns="urn:other"/>', "the document has an element"),
        (document("<Value/>"), "<NativeDicomModel> has an element"),
        (document("text"), "<NativeDicomModel> has text"),
        (document('<DicomAttribute tag="0010001" vr="LO"/>'), "eight hexadecimal digits"),
        (document('<DicomAttribute vr="LO"/>'), "eight hexadecimal digits"),
        (document('<DicomAttribute tag="00100020" vr="XX"/>'), r"\(0010,0020\)' has no VR"),
        (document('<DicomAttribute tag="00290001"/>'), r"\(0029,0001\)' has no VR"),
        (document('<DicomAttribute tag="00280106"/>'), r"\(0028,0106\)' has no VR"),  # US or SS
        (document('<DicomAttribute tag="00100020"/><DicomAttribute tag="00100020"/>'), r"\(0010,0020\)' appears twice"),
        (document('<DicomAttribute tag="00100020" privateCreator="A"/>'), "is not private"),
        (attribute("text"), "<DicomAttribute> has text"),
        (attribute("<Value>a</Value>"), "number is not a new one"),
        (attribute('<Value number="0">a</Value>'), "number is not a new one"),
        (attribute('<Value number="1e3">a</Value>'), "number is not a new one"),
        (attribute('<Value number="1"/><Value number="1"/>'), "number is not a new one"),
        (attribute(f'<Value number="{MAX_LEFT_OUT + 2}"/>'), "leaves out more values"),
        (attribute('<Value number="99999999"/>'), "number is not a new one"),
        (attribute('<Value number="1"><b/></Value>'), "<Value> has an element"),
        (attribute('<Item number="1"/>'), "has a <Item>"),
        (attribute('<PersonName number="1"/>'), "has a <PersonName>"),
        (attribute('<Value number="1"/>', 'tag="00100010" vr="PN"'), "has a <Value>"),
        (attribute('<Value number="1"/>', 'tag="0040A370" vr="SQ"'), "has a <Value>"),
        (attribute('<BulkData uuid="1"/>', 'tag="7FE00010" vr="OW"'), "without a uri"),
        (attribute('<BulkData uri="a"/><BulkData uri="a"/>', 'tag="7FE00010" vr="OW"'), "must have values, or one"),
        (attribute('<InlineBinary/><Value number="1"/>', 'tag="7FE00010" vr="OW"'), "has a <Value>"),
        (attribute("<InlineBinary/><InlineBinary/>", 'tag="7FE00010" vr="OW"'), "must have values, or one"),
        (
            attribute('<PersonName number="1"><Alphabetic/><Alphabetic/></PersonName>', 'tag="00100010" vr="PN"'),
            "two <Alphabetic>",
        ),
        (
            attribute(
                '<PersonName number="1"><Phonetic><GivenName/><GivenName/></Phonetic></PersonName>',
                'tag="00100010" vr="PN"',
            ),
            "two <GivenName>",
        ),
    ],
)
def test_what_the_model_does_not_have_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(BadDocument, match=reason):
        from_xml(body)


def test_nesting_has_a_limit() -> None:
    def nested(depth: int) -> bytes:
        start, end = '<DicomAttribute tag="0040A370" vr="SQ"><Item number="1">', "</Item></DicomAttribute>"
        return document(start * depth + end * depth)

    assert from_xml(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 20_000):
        with pytest.raises(BadDocument, match="nested deeper"):
            from_xml(nested(depth))


def test_what_is_left_out_is_counted_for_the_whole_document() -> None:
    half = f'<DicomAttribute tag="{{}}" vr="LO"><Value number="{MAX_LEFT_OUT // 2 + 1}">a</Value></DicomAttribute>'
    found = from_xml(document(half.format("00100020") + half.format("00100021")))
    assert [len(one["Value"]) for one in found.values()] == [MAX_LEFT_OUT // 2 + 1] * 2
    with pytest.raises(BadDocument, match="leaves out more values"):
        from_xml(document("".join(map(half.format, ("00100020", "00100021", "00100022")))))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_encodings_are_xmls_own(encoding: str) -> None:
    inside = '<DicomAttribute tag="00100020" vr="LO"><Value number="1">Müller</Value></DicomAttribute>'
    text = f'<?xml version="1.0" encoding="{encoding}"?><NativeDicomModel>{inside}</NativeDicomModel>'
    assert from_xml(text.encode(encoding))["00100020"]["Value"] == ["Müller"]


def as_numbers(element: Any) -> Any:
    """An element whose numeric texts are numbers, and none of those few digits by which writers differ."""
    if isinstance(element, list):
        return [as_numbers(one) for one in element]
    if isinstance(element, dict):
        return {key: as_numbers(one) for key, one in element.items()}
    try:
        return float(f"{float(element):.5g}")
    except (TypeError, ValueError):
        return element.strip() if isinstance(element, str) else element


@pytest.mark.parametrize("path", sorted(HERE.glob("*.dcm")), ids=lambda path: path.name)
def test_dcmtk_writes_what_we_read(path: Path) -> None:
    require_tool("dcm2xml")
    # Character sets are dcmtk's to convert, and it says what it made of them; bulk values we leave out.
    done = subprocess.run(
        ["dcm2xml", "--native-format", "+Xn", "+Eb", "+U8", str(path)], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    theirs = from_xml(done.stdout)
    with FileSource(path) as source:
        ours = json.loads(metadata_json(read_instance(source).dataset))

    def compared(dataset: dict[str, Any]) -> dict[str, Any]:
        kept = {key: one for key, one in dataset.items() if one["vr"] not in BULK_VRS and key != "00080005"}
        for one in kept.values():
            if one["vr"] == "SQ" and "Value" in one:
                one["Value"] = [compared(item) for item in one["Value"]]
        return kept

    assert as_numbers(compared(theirs)) == as_numbers(compared(ours))
