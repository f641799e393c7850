"""Every row of the rules of store.md §3, sent to servers with and without EnableFullDicomItemValidation, in v1 and v2.

A row is one attribute with one value; what each way of validating says of it is written beside it, and looked for in
the answer, the metadata, the index and the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import pack

import httpx
import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import ORIGINAL, VERSIONS, Json, comments, failed, reason, referenced, value
from tests.acceptance.test_lifecycle import running
from tests.acceptance.test_store import VALIDATION, post
from tests.dicom.elements import element, file, item, sequence

pytestmark = pytest.mark.acceptance

STUDY, SERIES, SOP, SOP_CLASS, PATIENT_ID = 0x0020000D, 0x0020000E, 0x00080018, 0x00080016, 0x00100020


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that validates every attribute without leniency."""
    environment = {"DicomServer__Features__EnableFullDicomItemValidation": "true"}
    with running(tmp_path_factory.mktemp("full") / "data", environment=environment) as server, server.client() as it:
        yield it
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()


@dataclass
class Sent:
    """A file put together by hand, and what the server said to it."""

    study: str
    series: str
    sop: str
    body: bytes
    answer: httpx.Response

    @property
    def path(self) -> str:
        """Where it is, if it was stored."""
        return f"/v2/studies/{self.study}/series/{self.series}/instances/{self.sop}"

    @property
    def said(self) -> list[str]:
        """The comments on the only instance."""
        (found,) = failed(self.answer) + referenced(self.answer)
        return comments(found) if "00741048" in found else []

    def metadata(self, client: httpx.Client) -> Json:
        """The metadata; what was stored must be in the file byte by byte, whatever was wrong with it."""
        assert client.get(self.path, headers={"accept": ORIGINAL}).content == self.body
        (found,) = client.get(f"{self.path}/metadata").json()
        assert isinstance(found, dict)
        return found

    def indexed(self, client: httpx.Client) -> Json:
        """What searches of version 2 tell of study and series from the index alone."""
        found: Json = {}
        for level in ("studies", "series"):
            (one,) = client.get(f"/v2/{level}", params={"StudyInstanceUID": self.study}).json()
            found |= one
        return found


Elements = dict[int, bytes]


def send(
    client: httpx.Client, version: str, elements: Elements | None = None, path: str = "", without: int | None = None
) -> Sent:
    """Stores the attributes every instance must have, with ``elements`` added or in their place."""
    study, series, sop = factories.uid(), factories.uid(), factories.uid()
    content = {
        SOP_CLASS: element(SOP_CLASS, "UI", factories.CT),
        SOP: element(SOP, "UI", sop),
        PATIENT_ID: element(PATIENT_ID, "LO", "P1"),
        STUDY: element(STUDY, "UI", study),
        SERIES: element(SERIES, "UI", series),
        **(elements or {}),
    }
    content.pop(without or 0, None)
    body = file(b"".join(content[tag] for tag in sorted(content)))
    return Sent(study, series, sop, body, post(client, body, path=f"/{version}/studies{path}"))


def label(tag: int) -> str:
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


def content_comment(tag: int, vr: str, content: str, flaw: str) -> str:
    """A comment in the words of fo-dicom (§3.4)."""
    return f'DICOM100: {label(tag)} - Content "{content}" does not validate VR {vr}: {flaw}'


def element_comment(tag: int, vr: str, keyword: str, flaw: str) -> str:
    """A comment in the words of the reference (§3.3)."""
    return f"DICOM100: {label(tag)} - Dicom element '{keyword}' failed validation for VR '{vr}': {flaw}"


def check(client: httpx.Client, version: str, sent: Sent, tag: int, said: list[str], *, fails: bool) -> None:
    """What must follow from the comments: the status, the codes, and where the attribute still is."""
    assert sent.said == said
    if fails:
        assert (sent.answer.status_code, reason(sent.answer)) == (409, VALIDATION)
        assert client.get(sent.path).status_code == 404
        return
    (one,) = referenced(sent.answer)
    assert sent.answer.status_code == (202 if said else 200)
    assert ("00081196" in one) == bool(said)
    if said:
        assert (version, value(one, "00081196")) == ("v2", 1)
    assert ("00741048" in one) == (version == "v2")
    assert (f"{tag:08X}" in sent.metadata(client)) != bool(said)


# --- §3.4: the full rules, on attributes that are not indexed ---


def too_long(limit: int) -> str:
    return f"value exceeds maximum length of {limit} characters"


TAGS = {
    "AE": 0x00080055, "AS": 0x00101010, "CS": 0x00100040, "DA": 0x00080021, "DS": 0x00180050, "DT": 0x0008002A,
    "FD": 0x00089459, "FL": 0x00089461, "IS": 0x00200013, "LO": 0x00080070, "LT": 0x00204000, "PN": 0x00081060,
    "SH": 0x00081010, "SL": 0x00186020, "SS": 0x00189219, "ST": 0x00080081, "TM": 0x00080031, "UC": 0x00080119,
    "UI": 0x00200052, "UL": 0x00081161, "UR": 0x00080120, "US": 0x00280010, "UT": 0x00420011, "AT": 0x00280009,
}  # fmt: skip
CS = "value contains invalid character. Only uppercase character, digits, space and underscore alre allowed"
DA = "one of the date values does not match the pattern YYYYMMDD"
DT = "value does not mach pattern YYYY[MM[DD[HH[MM[SS[.F{1-6}]]]]]]"
TM = "value does not mach pattern HH or HHMM or HHMMSS or HHMMSS.F{1-6}"
CONTROL, CHARACTER = "value contains invalid control character", "value contains invalid character"
BLANK = "value may not consist only of spaces"

FINE: list[tuple[str, bytes | str]] = [
    ("AE", "A" * 16), ("AS", "045Y"), ("AS", "045D"), ("AS", "045W"), ("AS", "045M"), ("AS", ""), ("CS", "A 1_B"),
    ("CS", ""), ("DA", "20240231"), ("DA", "20240101-20241231"), ("DA", "-20241231"), ("DS", " -1.5E+3"), ("DS", "1."),
    ("DT", "2024"), ("DT", "20240229235960.123456+1400"), ("DT", "20240229-1200"), ("DT", "2024-2025"),
    ("IS", " +2147483647 "), ("IS", "-2147483648"), ("LO", "a" * 64), ("LO", "\x1b(Babc"), ("LT", "a" * 10240),
    ("PN", "A^B^C^D^E=F=G"), ("PN", "a" * 64 + "=" + "b" * 64), ("SH", "a" * 16), ("SH", "\x1b(Ba"), ("ST", "a" * 1024),
    ("TM", "235960.123456"), ("TM", "10-11"), ("TM", "10"), ("UC", "a\n" * 9000), ("UI", "1.0.2"), ("UI", "2" * 64),
    ("UR", "no URI at all"), ("UT", "\x01\x02"), ("UT", "a\\b" * 9000), ("FD", pack("<d", 1.5)),
    ("FL", pack("<f", 1.5)), ("SL", pack("<i", -1)), ("SS", pack("<h", -1)), ("UL", pack("<I", 1)),
    ("US", pack("<H", 1)), ("AT", pack("<HH", 0x28, 0x10)), ("FL", b"\x00\x00\xc0\x7f"),
]  # fmt: skip

FLAWS: list[tuple[str, bytes | str, str]] = [
    ("AE", "A" * 17, too_long(16)), ("AE", b"\t ", BLANK), ("AE", "A\nB", CONTROL), ("AE", "A\x1bB", CONTROL),
    ("AS", "45Y", "value does not have pattern 000[DWMY]"), ("AS", "045y", "value does not have pattern 000[DWMY]"),
    ("CS", "A" * 17, too_long(16)), ("CS", "a", CS), ("CS", "A-B", CS),
    ("DA", "2024-01-01", "value contains too many range separators '-'"), ("DA", "2024.01.01", DA),
    ("DA", "20241301", "month component exceeds the value 12"), ("DA", "202401", DA),
    ("DA", "20240132", "day component exceeds the value 31"),
    ("DS", "1" * 17, too_long(16)), ("DS", "1,5", "value is no decimal string"),
    ("DS", "NaN", "value is no decimal string"),
    ("DT", "202", DT), ("DT", "20240229101112.1234567", DT), ("DT", "20241301", "month component exceeds 12"),
    ("DT", "20240001", "month component cannot be 0"), ("DT", "20240132", "day component exceeds 31"),
    ("DT", "20240100", "day component cannot be 0"), ("DT", "2024010124", "hours component exceeds 23"),
    ("DT", "202401012360", "minutes component exceeds 59"), ("DT", "20240101235961", "seconds component exceeds 60"),
    ("DT", "2024+1500", "positive UTC hours component exceeds 14 (allowed range is -1200 to +1400)"),
    ("DT", "2024+0060", "UTC minutes component exceeds 59"),
    ("DT", "2024-0000", "negative UTC hours component with value -0000 is not allowed"),
    ("DT", "2024+1", "value does not match the UTC pattern &ZZXX"),
    ("IS", "1.0", "value is not an integer string"), ("IS", "2147483648", "value too large to fit 32 bit integer"),
    ("LO", "a" * 65, too_long(64)), ("LO", "a\nb", CHARACTER), ("LO", b"a\0b", CHARACTER),
    ("LT", "a" * 10241, too_long(10240)),
    ("PN", "A=B=C=D", "value contains too many groups"), ("PN", "a" * 65, too_long(64)), ("PN", "A\nB", CONTROL),
    ("PN", "A^B^C^D^E^F", "value contains too many components"),
    ("SH", "a" * 17, too_long(16)), ("SH", "a\tb", CHARACTER),
    ("ST", "a" * 1025, too_long(1024)),
    ("TM", "1", TM), ("TM", "10:11", TM), ("TM", "24", "hour component exceeds 23"),
    ("TM", "1060", "minutes component exceeds 59"), ("TM", "101061", "seconds component exceeds 60"),
    ("UI", "1." + "2" * 63, too_long(64)), ("UI", "1.2.a", CHARACTER + "s other than '0'-'9' and '.'"),
    ("UI", "1.02", "components must not have leading zeros"), ("UI", "0.2", "components must not have leading zeros"),
    ("UI", "1..2", "a component can not be empty"),
]  # fmt: skip


def quoted(raw: bytes | str) -> str:
    """The value as a comment quotes it."""
    return raw if isinstance(raw, str) else raw.decode("latin_1").rstrip(" ")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("vr", "raw"), FINE)
def test_a_fine_value(client: httpx.Client, full: httpx.Client, version: str, vr: str, raw: bytes | str) -> None:
    for server in (client, full):
        sent = send(server, version, {TAGS[vr]: element(TAGS[vr], vr, raw)})
        check(server, version, sent, TAGS[vr], [], fails=False)


@pytest.mark.parametrize(("vr", "raw", "flaw"), FLAWS)
def test_a_flawed_value(client: httpx.Client, full: httpx.Client, vr: str, raw: bytes | str, flaw: str) -> None:
    tag = TAGS[vr]
    said = [content_comment(tag, vr, quoted(raw), flaw)]
    for server, version, expected, fails in (
        (client, "v1", [], False),  # not indexed: nobody looks
        (client, "v2", said, False),
        (full, "v1", said, True),
        (full, "v2", said, False),
    ):
        sent = send(server, version, {tag: element(tag, vr, raw)})
        check(server, version, sent, tag, expected, fails=fails)


PADDED = [
    ("AE", b"A\0", CONTROL), ("AS", b"045Y\0\0", "value does not have pattern 000[DWMY]"), ("CS", b"A\0", CS),
    ("LO", b"a\0\0\0", CHARACTER), ("LT", b"a\0", None), ("PN", b"a\0", CONTROL), ("SH", b"a\0", CHARACTER),
    ("ST", b"a\0", None), ("UC", b"a\0", None), ("UI", b"1.2\0\0\0", None), ("UR", b"a\0", None), ("UT", b"a\0", None),
]  # fmt: skip


@pytest.mark.parametrize(("vr", "raw", "flaw"), PADDED)
def test_null_padding(client: httpx.Client, full: httpx.Client, vr: str, raw: bytes, flaw: str | None) -> None:
    """Kept with its nulls where it may be, checked without them; full validation does not know it."""
    tag = TAGS[vr]
    sent = send(client, "v2", {tag: element(tag, vr, raw)})
    check(client, "v2", sent, tag, [], fails=False)
    kept = value(sent.metadata(client), f"{tag:08X}")
    text = kept["Alphabetic"] if vr == "PN" else kept
    assert text == ("1.2" if vr == "UI" else raw.decode())  # for UI the null is the padding character
    said = [content_comment(tag, vr, raw.decode(), flaw)] if flaw else []
    for version in VERSIONS:
        sent = send(full, version, {tag: element(tag, vr, raw)})
        check(full, version, sent, tag, said, fails=bool(said) and version == "v1")


@pytest.mark.parametrize(
    ("vr", "raw", "flaw"),
    [
        ("DA", b"20240101\0\0", DA), ("TM", b"10\0\0", TM), ("DT", b"2024\0\0", DT),
        ("DS", b"1\0", "value is no decimal string"), ("IS", b"1\0", "value is not an integer string"),
    ],
)  # fmt: skip
def test_null_padding_that_is_none(client: httpx.Client, vr: str, raw: bytes, flaw: str) -> None:
    sent = send(client, "v2", {TAGS[vr]: element(TAGS[vr], vr, raw)})
    check(client, "v2", sent, TAGS[vr], [content_comment(TAGS[vr], vr, raw.decode(), flaw)], fails=False)


# --- §3.4: what is said about several values, several places, private attributes ---


def test_every_value_is_checked_and_the_first_bad_one_is_named(client: httpx.Client, full: httpx.Client) -> None:
    tag = 0x00080008
    for server in (client, full):
        sent = send(server, "v2", {tag: element(tag, "CS", "ORIGINAL\\primary\\also bad")})
        check(server, "v2", sent, tag, [content_comment(tag, "CS", "primary", CS)], fails=False)


@pytest.mark.parametrize(
    ("tag", "vr", "raw", "name", "count"),
    [
        (0x00280010, "US", pack("<2H", 1, 2), "Rows", "2 does not match ValueMultiplicity 1"),
        (0x00280030, "DS", "1", "Pixel Spacing", "1 does not match ValueMultiplicity 2"),
        (0x00080008, "CS", "A", "Image Type", "1 does not match ValueMultiplicity 2-n"),
        (0x00200037, "DS", "1\\2", "Image Orientation (Patient)", "2 does not match ValueMultiplicity 6"),
        (0x00100040, "CS", "M\\F", "Patient's Sex", "2 does not match ValueMultiplicity 1"),
        (0x00280009, "AT", bytes(8), "Frame Increment Pointer", None),
        (0x00280030, "DS", "", "Pixel Spacing", None),
    ],
)
def test_multiplicity(
    client: httpx.Client, full: httpx.Client, tag: int, vr: str, raw: bytes | str, name: str, count: str | None
) -> None:
    said = [content_comment(tag, vr, f"{label(tag)} {vr} {name}", f"Number of items {count}")] if count else []
    for server, version, expected, fails in (
        (client, "v1", [], False),
        (client, "v2", said, False),
        (full, "v1", said, bool(said)),
        (full, "v2", said, False),
    ):
        sent = send(server, version, {tag: element(tag, vr, raw)})
        check(server, version, sent, tag, expected, fails=fails)


def test_private_attributes(client: httpx.Client, full: httpx.Client) -> None:
    creator, known, unknown, several = 0x00410010, 0x00411001, 0x00411101, 0x00411002
    elements = {
        creator: element(creator, "LO", "ACME 1"),
        known: element(known, "CS", "bad"),
        several: element(several, "US", pack("<2H", 1, 2)),
        unknown: element(unknown, "CS", "bad"),
    }
    said = [
        f'DICOM100: (0041,1001:ACME 1) - Content "bad" does not validate VR CS: {CS}',
        f'DICOM100: (0041,1101) - Content "bad" does not validate VR CS: {CS}',
    ]
    for server in (client, full):
        sent = send(server, "v2", elements)
        assert (sent.answer.status_code, sent.said) == (202, said)
        metadata = sent.metadata(server)
        assert not {"00411001", "00411101"} & metadata.keys()
        assert value(metadata, "00410010") == "ACME 1"
        assert metadata["00411002"]["Value"] == [1, 2]  # no dictionary says how many there may be
    assert send(client, "v1", elements).answer.status_code == 200
    assert send(full, "v1", elements).said == said


def test_nested_attributes(client: httpx.Client, full: httpx.Client) -> None:
    """At every depth, once a tag, behind what is wrong at top level; only what is bad itself is dropped."""
    bad, good = element(0x00080060, "CS", "ct"), element(0x00080050, "SH", "ok")
    inner = sequence(0x00081140, [item(bad + element(0x00100040, "CS", "x"))], undefined=True)
    elements = {
        0x00080060: element(0x00080060, "CS", "CT"),
        0x00081115: sequence(0x00081115, [item(good), item(inner + bad, undefined=True)]),
        0x00280008: element(0x00280008, "IS", "many"),
    }
    integer = content_comment(0x00280008, "IS", "many", "value is not an integer string")
    modality = content_comment(0x00080060, "CS", "ct", CS)
    sex = content_comment(0x00100040, "CS", "x", CS)
    sent = send(client, "v2", elements)
    assert sent.answer.status_code == 202
    assert sent.said[0] == integer
    assert sorted(sent.said[1:]) == sorted([modality, sex])
    metadata = sent.metadata(client)
    assert metadata["00080060"]["Value"] == ["CT"]
    assert sent.indexed(client)["00080060"]["Value"] == ["CT"]
    assert metadata["00081115"]["Value"] == [
        {"00080050": {"vr": "SH", "Value": ["ok"]}},
        {"00081140": {"vr": "SQ", "Value": [{}]}},
    ]
    assert "00280008" not in metadata
    assert send(client, "v1", elements).answer.status_code == 200
    # The full validation speaks of the top-level element, a sequence as one; the first problem in it.
    first = content_comment(0x00081115, "CS", "ct", CS)
    for version in VERSIONS:
        sent = send(full, version, elements)
        assert len(sent.said) == 2
        assert sent.said[0] in (first, content_comment(0x00081115, "CS", "x", CS))
        assert sent.said[1] == integer
        assert sent.answer.status_code == (409 if version == "v1" else 202)
    assert sent.metadata(full)["00080060"]["Value"] == ["CT"]


def test_bulk_and_fragments_are_not_looked_at(client: httpx.Client, full: httpx.Client) -> None:
    elements = {tag: element(tag, "OB", b"\xff\0" * 40) for tag in (0x00420011, 0x00091001, 0x7FE00010)}
    for server in (client, full):
        for version in VERSIONS:
            sent = send(server, version, elements)
            assert (sent.answer.status_code, sent.said) == (200, [])
            assert not {"00420011", "00091001", "7FE00010"} & sent.metadata(server).keys()


# --- §3.1: required attributes ---


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("tag", [SOP_CLASS, STUDY, SERIES, SOP])
@pytest.mark.parametrize("raw", [None, b"", b"\0\0", b"1.2\\1.3"])
def test_required_uids(
    client: httpx.Client, full: httpx.Client, version: str, is_full: bool, tag: int, raw: bytes | None
) -> None:
    server = full if is_full else client
    sent = send(
        server, version, {} if raw is None else {tag: element(tag, "UI", raw)}, without=tag if raw is None else None
    )
    missing = f"DICOM100: {label(tag)} - The required tag '{label(tag)}' is missing."
    check(server, version, sent, tag, [missing], fails=True)


def test_the_first_missing_attribute_ends_the_list(client: httpx.Client) -> None:
    order = [SOP_CLASS, STUDY, SERIES, SOP, PATIENT_ID]
    for number, tag in enumerate(order):
        empty = {later: element(later, "UI" if later != PATIENT_ID else "LO", b"") for later in order[number:]}
        assert send(client, "v1", empty).said == [
            f"DICOM100: {label(tag)} - The required tag '{label(tag)}' is missing."
        ]


NO_PATIENT = "DICOM100: (0010,0020) - The required tag '(0010,0020)' is missing."


@pytest.mark.parametrize(
    ("raw", "plain_v1", "plain_v2", "full_v1", "full_v2"),
    [
        (None, 409, 409, 409, 409),
        (b"", 409, 202, 409, 200),
        (b"  ", 409, 202, 409, 200),
    ],
)
def test_patient_id(
    client: httpx.Client,
    full: httpx.Client,
    raw: bytes | None,
    plain_v1: int,
    plain_v2: int,
    full_v1: int,
    full_v2: int,
) -> None:
    elements = {} if raw is None else {PATIENT_ID: element(PATIENT_ID, "LO", raw)}
    for server, version, status in (
        (client, "v1", plain_v1),
        (client, "v2", plain_v2),
        (full, "v1", full_v1),
        (full, "v2", full_v2),
    ):
        sent = send(server, version, elements, without=PATIENT_ID if raw is None else None)
        assert sent.answer.status_code == status
        assert sent.said == ([] if status == 200 else [NO_PATIENT])
        if status == 202:
            assert "00100020" not in sent.metadata(server)


def test_the_study_of_the_path(client: httpx.Client, full: httpx.Client) -> None:
    """Trailing white space does not count, and a mismatch is all that is said about the UIDs."""
    mismatch = "The StudyInstanceUid in the payload does not match the specified StudyInstanceUid."
    for server in (client, full):
        for version in VERSIONS:
            sent = send(server, version, path=f"/{factories.uid()}")
            check(server, version, sent, STUDY, [f"DICOM100: (0020,000d) - {mismatch}"], fails=True)
            assert "00081190" not in sent.answer.json()
            uid = factories.uid()
            sent = send(
                server,
                version,
                {STUDY: element(STUDY, "UI", uid.encode() + b" " * (2 - len(uid) % 2))},
                f"/{uid}%20%20",
            )
            assert sent.said == []
            assert (
                value(sent.answer.json(), "00081190") == f"{str(server.base_url).rstrip('/')}/{version}/studies/{uid}"
            )


# --- §3.2, §3.3: the minimum rules, on what is indexed ---

LENGTH_16, LENGTH_64 = (f"Value length exceeds maximum length of {limit}." for limit in (16, 64))
NO_DATE = "Value cannot be parsed as a valid date."
BAD_CHARACTER = "Value contains invalid character."
COMPONENTS = "Value contains more than 5 components."
LONG_GROUP = "One or more group of person name exceeds maxium length of 64."
INVALID_UID = (
    "DICOM Identifier is invalid. Value length should not exceed the maximum length of 64 characters. "
    "Value should contain characters in '0'-'9' and '.'. Each component must start with non-zero number."
)


@dataclass(frozen=True)
class Row:
    """An indexed attribute with a value: what v1 says by the minimum rules, v2 by the full ones (leniently)."""

    keyword: str
    tag: int
    vr: str
    raw: bytes | str
    minimum: str = ""
    lenient: str = ""

    def __str__(self) -> str:
        return f"{self.keyword} {self.raw[:24]!r}"


INDEXED = [
    Row("StudyDate", 0x00080020, "DA", "20230229", NO_DATE),
    Row("StudyDate", 0x00080020, "DA", "20230101-", NO_DATE),
    Row("StudyDate", 0x00080020, "DA", "20231301", NO_DATE, "month component exceeds the value 12"),
    Row("StudyDate", 0x00080020, "DA", ""),
    Row("StudyDate", 0x00080020, "DA", "20240229"),
    Row("PatientBirthDate", 0x00100030, "DA", b"19700101\0\0", NO_DATE, DA),
    Row("PerformedProcedureStepStartDate", 0x00400244, "DA", "2023.1.1", NO_DATE, DA),
    Row("StudyDescription", 0x00081030, "LO", "x" * 65, LENGTH_64, too_long(64)),
    Row("StudyDescription", 0x00081030, "LO", b"123\0", BAD_CHARACTER),
    Row("StudyDescription", 0x00081030, "LO", "a\nb", BAD_CHARACTER, CHARACTER),
    Row("StudyDescription", 0x00081030, "LO", "\x1b(Babc"),
    Row("ManufacturerModelName", 0x00081090, "LO", "x" * 65, LENGTH_64, too_long(64)),
    Row("AccessionNumber", 0x00080050, "SH", "x" * 17, LENGTH_16, too_long(16)),
    Row("AccessionNumber", 0x00080050, "SH", "a\nb", "", CHARACTER),
    Row("PatientName", 0x00100010, "PN", "A^B^C^D^E^F", COMPONENTS, "value contains too many components"),
    Row("PatientName", 0x00100010, "PN", "A=B=C=D", COMPONENTS, "value contains too many groups"),
    Row("PatientName", 0x00100010, "PN", "A=" + "x" * 65, LONG_GROUP, too_long(64)),
    Row("PatientName", 0x00100010, "PN", b"A\nB ", BAD_CHARACTER, CONTROL),
    Row("ReferringPhysicianName", 0x00080090, "PN", "x" * 65, LONG_GROUP, too_long(64)),
    Row("ModalitiesInStudy", 0x00080061, "CS", "CT" * 9, LENGTH_16, too_long(16)),
    Row("Modality", 0x00080060, "CS", "x" * 17, LENGTH_16, too_long(16)),
    Row("Modality", 0x00080060, "CS", "ct", "", CS),
]


@pytest.mark.parametrize("row", INDEXED, ids=str)
def test_an_indexed_attribute(client: httpx.Client, row: Row) -> None:
    key = f"{row.tag:08X}"
    sent = send(client, "v1", {row.tag: element(row.tag, row.vr, row.raw)})
    said = [element_comment(row.tag, row.vr, row.keyword, row.minimum)] if row.minimum else []
    check(client, "v1", sent, row.tag, said, fails=bool(said))
    sent = send(client, "v2", {row.tag: element(row.tag, row.vr, row.raw)})
    said = [content_comment(row.tag, row.vr, quoted(row.raw), row.lenient)] if row.lenient else []
    check(client, "v2", sent, row.tag, said, fails=False)
    if row.keyword != "ModalitiesInStudy":  # which is answered from the modalities of the series
        usable = not said and row.raw != "" and row.minimum != NO_DATE
        assert (key in sent.indexed(client)) == usable


@pytest.mark.parametrize("tag", [STUDY, SERIES, SOP])
@pytest.mark.parametrize(
    ("end", "flaw"), [(".02", "components must not have leading zeros"), ("..2", "a component can not be empty")]
)
def test_a_uid_that_is_only_odd(client: httpx.Client, full: httpx.Client, tag: int, end: str, flaw: str) -> None:
    """Stored, warned about in v2, and kept in metadata and index; a refusal only for the full validation of v1."""
    for server, version, status in ((client, "v1", 200), (client, "v2", 202), (full, "v1", 409), (full, "v2", 202)):
        uid = factories.uid() + end
        sent = send(server, version, {tag: element(tag, "UI", uid)})
        assert sent.answer.status_code == status
        assert sent.said == ([] if status == 200 else [content_comment(tag, "UI", uid, flaw)])
        if status != 409:
            setattr(sent, {STUDY: "study", SERIES: "series", SOP: "sop"}[tag], uid)
            assert value(sent.metadata(server), f"{tag:08X}") == uid
            assert tag == SOP or value(sent.indexed(server), f"{tag:08X}") == uid


@pytest.mark.parametrize(
    ("keyword", "tag", "bad"),
    [("StudyInstanceUID", STUDY, "1.2.x"), ("SeriesInstanceUID", SERIES, "1.2."), ("SOPInstanceUID", SOP, "1" * 65)],
)
def test_a_uid_that_cannot_be_used(client: httpx.Client, full: httpx.Client, keyword: str, tag: int, bad: str) -> None:
    """A core error everywhere: with full validation, too, or nobody could ask for the instance or delete it."""
    for server in (client, full):
        for version in VERSIONS:
            sent = send(server, version, {tag: element(tag, "UI", bad)})
            assert reason(sent.answer) == VALIDATION
            (comment,) = sent.said
            if server is client:
                assert comment == element_comment(tag, "UI", keyword, INVALID_UID)
            else:
                assert comment.startswith(
                    (content_comment(tag, "UI", bad, ""), element_comment(tag, "UI", keyword, ""))
                )
            (echo,) = failed(sent.answer)
            assert value(echo, "00081155") == (bad if tag == SOP else sent.sop)
    # Its neighbours are stored.
    answer = dicomweb.post(full, [factories.instance(), sent.body, factories.instance()])
    assert answer.status_code == 202
    assert (len(referenced(answer)), len(failed(answer))) == (2, 1)


@pytest.mark.parametrize(
    ("tag", "vr", "raw", "v1", "v2"),
    [
        (SOP_CLASS, "UI", "anything", "", INVALID_UID),
        (PATIENT_ID, "LO", "x" * 65, LENGTH_64, LENGTH_64),
        (PATIENT_ID, "LO", "a\nb", BAD_CHARACTER, BAD_CHARACTER),
        (PATIENT_ID, "LO", b"123\0", BAD_CHARACTER, ""),
    ],
)
def test_core_attributes(client: httpx.Client, tag: int, vr: str, raw: bytes | str, v1: str, v2: str) -> None:
    """Strictly in v1, leniently in v2; either way an error refuses the instance."""
    keyword = {SOP_CLASS: "SOPClassUID", PATIENT_ID: "PatientID"}[tag]
    for version, flaw in (("v1", v1), ("v2", v2)):
        sent = send(client, version, {tag: element(tag, vr, raw)})
        check(client, version, sent, tag, [element_comment(tag, vr, keyword, flaw)] if flaw else [], fails=bool(flaw))


@pytest.mark.parametrize(
    ("keyword", "tag", "due", "actual"),
    [
        ("PatientName", 0x00100010, "PN", "LO"),
        ("StudyDate", 0x00080020, "DA", "LO"),
        ("AccessionNumber", 0x00080050, "SH", "OB"),
        ("PatientID", PATIENT_ID, "LO", "SH"),
        ("PatientID", PATIENT_ID, "LO", "UN"),
    ],
)
def test_another_vr_than_the_dictionary_s(client: httpx.Client, keyword: str, tag: int, due: str, actual: str) -> None:
    flaw = f"The extended query tag '{keyword}' is expected to have VR '{due}' but has '{actual}' in file."
    for version in VERSIONS:
        sent = send(client, version, {tag: element(tag, actual, b"Ab")})
        core = (
            tag == PATIENT_ID and actual != "UN"
        )  # a known attribute written as UN is read by the dictionary (CP-246)
        fails = core or (version == "v1" and actual != "UN")
        assert sent.said == ([element_comment(tag, actual, keyword, flaw)] if fails else [])
        assert sent.answer.status_code == (409 if fails else 200)


def test_v1_names_every_flaw_and_the_required_attribute_first(client: httpx.Client) -> None:
    elements = {
        0x00080050: element(0x00080050, "SH", "x" * 17),
        0x00080020: element(0x00080020, "DA", "1"),
    }
    sent = send(client, "v1", elements, without=PATIENT_ID)
    assert sent.said == [
        NO_PATIENT,
        element_comment(0x00080020, "DA", "StudyDate", NO_DATE),
        element_comment(0x00080050, "SH", "AccessionNumber", LENGTH_16),
    ]


def test_a_core_error_of_v2_comes_with_the_warnings(client: httpx.Client) -> None:
    sent = send(client, "v2", {0x00080060: element(0x00080060, "CS", "ct")}, path=f"/{factories.uid()}")
    assert reason(sent.answer) == VALIDATION
    assert [comment[10:21] for comment in sent.said] == ["(0020,000d)", "(0008,0060)"]


# --- §4: several values ---

WARNING = '299 127.0.0.1: "One or more indexed Dicom tag(s) have multiple values, only first value is indexed."'


@pytest.mark.parametrize(
    ("tag", "vr", "raw", "version", "status", "warned"),
    [
        (0x00080061, "CS", "CT\\MR", "v1", 200, True),
        (0x00080061, "CS", "CT\\MR", "v2", 200, False),
        (0x00081030, "LO", "first\\" + "x" * 70, "v1", 200, True),  # only the first is checked
        (0x00081030, "LO", "x" * 70 + "\\second", "v1", 409, True),
        (0x00080008, "CS", "A\\B", "v1", 200, False),  # not indexed
        (PATIENT_ID, "LO", "A\\B", "v1", 409, True),
        (PATIENT_ID, "LO", "A\\B", "v2", 202, True),
        (STUDY, "UI", "1.2\\1.3", "v2", 409, True),
    ],
)
def test_several_values_of_what_is_indexed(
    client: httpx.Client, tag: int, vr: str, raw: str, version: str, status: int, warned: bool
) -> None:
    sent = send(client, version, {tag: element(tag, vr, raw)})
    assert sent.answer.status_code == status
    assert sent.answer.headers.get("warning") == (WARNING if warned else None)
    assert "multiple values" not in sent.answer.text


def test_full_validation_has_no_warning_header(full: httpx.Client) -> None:
    for version in VERSIONS:
        sent = send(full, version, {0x00080061: element(0x00080061, "CS", "CT\\MR")})
        assert (sent.answer.status_code, sent.answer.headers.get("warning")) == (200, None)


def test_each_server_says_which_rules_it_follows(client: httpx.Client, full: httpx.Client) -> None:
    """The two servers differ in nothing but the setting: without it, this module would prove half of what it says."""
    elements = {0x00080070: element(0x00080070, "LO", "x" * 65)}
    assert [send(server, "v1", elements).answer.status_code for server in (client, full)] == [200, 409]
