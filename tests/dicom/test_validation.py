"""Store validation: store.md §3 and §4 row by row, with the exact texts."""

from collections.abc import Mapping
from struct import pack

import pytest

from hounsfield.dicom.part10 import Instance, read_instance
from hounsfield.dicom.source import BytesSource
from hounsfield.dicom.validation import StoreVerdict, validate_for_store
from tests.dicom.elements import EXPLICIT, IMPLICIT, element, file, item, sequence

REQUIRED = {
    0x00080016: ("UI", "1.2.840.10008.5.1.4.1.1.7"),
    0x00080018: ("UI", "1.2.3.3"),
    0x00100020: ("LO", "P1"),
    0x0020000D: ("UI", "1.2.3.1"),
    0x0020000E: ("UI", "1.2.3.2"),
}
INVALID_UID = (
    "DICOM Identifier is invalid. Value length should not exceed the maximum length of 64 characters. "
    "Value should contain characters in '0'-'9' and '.'. Each component must start with non-zero number."
)


def instance(
    changes: Mapping[int, tuple[str, bytes | str] | None] | None = None, extra: bytes = b"", syntax: str = EXPLICIT
) -> Instance:
    """The required attributes with changes (None removes one), and further elements."""
    attributes: dict[int, tuple[str, bytes | str] | None] = {**REQUIRED, **(changes or {})}
    parts = [
        element(tag, "" if syntax == IMPLICIT else pair[0], pair[1])
        for tag, pair in sorted(attributes.items())
        if pair is not None
    ]
    return read_instance(BytesSource(file(b"".join(parts) + extra, syntax)))


def verdict(
    api_version: int,
    changes: Mapping[int, tuple[str, bytes | str] | None] | None = None,
    extra: bytes = b"",
    *,
    syntax: str = EXPLICIT,
    study: str | None = None,
    full: bool = False,
) -> StoreVerdict:
    return validate_for_store(
        instance(changes, extra, syntax), api_version=api_version, expected_study=study, full=full
    )


@pytest.mark.parametrize("api_version", [1, 2])
def test_nothing_to_say(api_version: int) -> None:
    found = verdict(api_version, {0x00080020: ("DA", "20240131"), 0x00100010: ("PN", "Doe^John")})
    assert found == StoreVerdict(False, [], found.dataset, False, None)
    assert "00100010" in found.dataset


# --- §3.1


@pytest.mark.parametrize("api_version", [1, 2])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x00080016, "(0008,0016)"),
        (0x0020000D, "(0020,000d)"),
        (0x0020000E, "(0020,000e)"),
        (0x00080018, "(0008,0018)"),
    ],
)
@pytest.mark.parametrize("content", [None, ("UI", ""), ("UI", b"\0\0"), ("UI", "1.2\\1.3"), ("OB", b"1.2.")])
def test_required_uids(
    api_version: int, full: bool, tag: int, text: str, content: tuple[str, bytes | str] | None
) -> None:
    found = verdict(api_version, {tag: content}, full=full)
    assert found.failed
    assert found.warning_reason is None
    assert found.comments[0] == f"DICOM100: {text} - The required tag '{text}' is missing."


def test_only_the_first_missing_attribute_is_named() -> None:
    found = verdict(2, dict.fromkeys(REQUIRED))
    assert found.comments == ["DICOM100: (0008,0016) - The required tag '(0008,0016)' is missing."]


@pytest.mark.parametrize("api_version", [1, 2])
def test_study_of_the_request(api_version: int) -> None:
    text = "The StudyInstanceUid in the payload does not match the specified StudyInstanceUid."
    found = verdict(api_version, study="1.2.3.9")
    assert found.failed
    assert found.comments == [f"DICOM100: (0020,000d) - {text}"]
    assert not verdict(api_version, {0x0020000D: ("UI", b"1.2.3.1 ")}, study="1.2.3.1  ").failed
    assert not verdict(api_version, study="1.2.3.1").failed


PATIENT_ID_MISSING = "DICOM100: (0010,0020) - The required tag '(0010,0020)' is missing."


def test_patient_id_absent() -> None:
    for api_version in (1, 2):
        assert verdict(api_version, {0x00100020: None}).comments == [PATIENT_ID_MISSING]


@pytest.mark.parametrize("content", ["", "  "])
def test_patient_id_blank(content: str) -> None:
    first = verdict(1, {0x00100020: ("LO", content)})
    assert (first.failed, first.comments) == (True, [PATIENT_ID_MISSING])
    second = verdict(2, {0x00100020: ("LO", content)})
    assert (second.failed, second.comments, second.warning_reason) == (False, [PATIENT_ID_MISSING], 1)
    assert "00100020" not in second.dataset
    strict = verdict(2, {0x00100020: ("LO", content)}, full=True)
    assert (strict.failed, strict.comments) == (False, [])


@pytest.mark.parametrize(("vr", "content"), [("IS", "0"), ("DS", "1.5"), ("PN", "A^B"), ("UI", "1.2"), ("UT", "x")])
def test_patient_id_of_another_vr(vr: str, content: str) -> None:
    for api_version in (1, 2):
        found = verdict(api_version, {0x00100020: (vr, content)})
        assert found.failed
        assert found.comments[0].endswith(f"is expected to have VR 'LO' but has '{vr}' in file.")


def test_patient_id_with_several_values() -> None:
    assert verdict(1, {0x00100020: ("LO", "A\\B")}).comments == [PATIENT_ID_MISSING]
    second = verdict(2, {0x00100020: ("LO", "A\\B")})
    assert not second.failed
    assert second.multi_value_warning
    assert second.comments == [
        'DICOM100: (0010,0020) - Content "(0010,0020) LO Patient ID" does not validate VR LO: '
        "Number of items 2 does not match ValueMultiplicity 1"
    ]


def test_one_uid_for_all_levels() -> None:
    same = dict.fromkeys((0x00080018, 0x0020000D, 0x0020000E), ("UI", "1.2.3"))
    assert not verdict(1, same).failed
    assert not verdict(2, same).failed


# --- §3.2 and §3.3


LENGTH_16 = "Value length exceeds maximum length of 16."
NOT_A_DATE = "Value cannot be parsed as a valid date."
CHARACTER = "Value contains invalid character."
LONG_GROUP = "One or more group of person name exceeds maxium length of 64."


@pytest.mark.parametrize(
    ("tag", "vr", "value", "keyword", "reason"),
    [
        (0x00080050, "SH", "x" * 17, "AccessionNumber", LENGTH_16),
        (0x00080050, "SH", "a\nb", "AccessionNumber", None),
        (0x00080060, "CS", "x" * 17, "Modality", LENGTH_16),
        (0x00080060, "CS", "lower case!", "Modality", None),
        (0x00080061, "CS", "CT" * 9, "ModalitiesInStudy", LENGTH_16),
        (0x00080020, "DA", "20230229", "StudyDate", NOT_A_DATE),
        (0x00080020, "DA", "2023022", "StudyDate", NOT_A_DATE),
        (0x00080020, "DA", "20230101-", "StudyDate", NOT_A_DATE),
        (0x00080020, "DA", "00000101", "StudyDate", NOT_A_DATE),
        (0x00080020, "DA", "", "StudyDate", None),
        (0x00100030, "DA", b"\0" * 8, "PatientBirthDate", NOT_A_DATE),
        (0x00400244, "DA", "20231301", "PerformedProcedureStepStartDate", NOT_A_DATE),
        (0x00081030, "LO", "x" * 65, "StudyDescription", "Value length exceeds maximum length of 64."),
        (0x00081030, "LO", "a\nb", "StudyDescription", CHARACTER),
        (0x00081030, "LO", b"123\0", "StudyDescription", CHARACTER),
        (0x00081030, "LO", "\x1b(Babc", "StudyDescription", None),
        (0x00081090, "LO", "x" * 65, "ManufacturerModelName", "Value length exceeds maximum length of 64."),
        (0x00100020, "LO", "x" * 65, "PatientID", "Value length exceeds maximum length of 64."),
        (0x00100010, "PN", "A^B^C^D^E^F", "PatientName", "Value contains more than 5 components."),
        (0x00100010, "PN", "A=B=C=D", "PatientName", "Value contains more than 5 components."),
        (0x00100010, "PN", "A=" + "x" * 65, "PatientName", LONG_GROUP),
        (0x00100010, "PN", "A\nB", "PatientName", CHARACTER),
        (0x00080090, "PN", "A^B^C^D^E^F", "ReferringPhysicianName", "Value contains more than 5 components."),
        (0x0020000E, "UI", "1.2.x", "SeriesInstanceUID", INVALID_UID),
        (0x0020000E, "UI", "1.2.", "SeriesInstanceUID", INVALID_UID),
        (0x0020000D, "UI", "1" * 65, "StudyInstanceUID", INVALID_UID),
        (0x00080018, "UI", "01..2", "SOPInstanceUID", None),
        (0x00080016, "UI", "anything", "SOPClassUID", None),
    ],
)  # fmt: skip
def test_minimum_rules_of_version_1(tag: int, vr: str, value: bytes | str, keyword: str, reason: str | None) -> None:
    found = verdict(1, {tag: (vr, value)})
    assert found.failed is (reason is not None)
    label = f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
    assert found.comments == (
        [f"DICOM100: {label} - Dicom element '{keyword}' failed validation for VR '{vr}': {reason}"] if reason else []
    )


def test_version_1_names_every_attribute_that_fails() -> None:
    found = verdict(1, {0x00080050: ("SH", "x" * 17), 0x00080020: ("DA", "1"), 0x00100020: None})
    assert [comment[10:21] for comment in found.comments] == ["(0010,0020)", "(0008,0020)", "(0008,0050)"]


def test_version_1_ignores_what_is_not_indexed() -> None:
    nested = sequence(0x00081110, [item(element(0x00080050, "SH", "x" * 17))])
    found = verdict(1, {0x00080080: ("LO", "x" * 65), 0x00101010: ("AS", "old")}, nested)
    assert (found.failed, found.comments, found.warning_reason) == (False, [], None)
    assert "00080080" in found.dataset


@pytest.mark.parametrize("syntax", [EXPLICIT])
def test_vr_must_be_the_dictionary_s(syntax: str) -> None:
    found = verdict(1, {0x00100010: ("LO", "Doe")}, syntax=syntax)
    assert found.comments == [
        "DICOM100: (0010,0010) - Dicom element 'PatientName' failed validation for VR 'LO': "
        "The extended query tag 'PatientName' is expected to have VR 'PN' but has 'LO' in file."
    ]
    left_out = verdict(1, {0x00081030: ("OB", b"ab")})
    assert left_out.comments[0].endswith("is expected to have VR 'LO' but has 'OB' in file.")
    core = verdict(2, {0x00100020: ("SH", "P1")})
    assert core.failed
    assert core.comments[0].endswith("is expected to have VR 'LO' but has 'SH' in file.")


@pytest.mark.parametrize(
    ("vr", "raw", "reason"),
    [
        ("AE", "x" * 17, LENGTH_16),
        ("AS", "045Y", None),
        ("AS", "45Y", "Value length is not 4."),
        ("AS", "", "Value length is not 4."),
        ("DT", "20241301", "Value cannot be parsed as a valid DateTime."),
        ("TM", "25", "Value cannot be parsed as a valid Time."),
        ("IS", "1.5", "Value cannot be parsed as a valid integer string."),
        ("IS", "15", None),
        ("DS", "not checked", None),
        ("FD", b"", "Value length is not 8."),
        ("FD", pack("<d", 1), None),
        ("FL", b"", "Value length is not 4."),
        ("SL", b"", "Value length is not 4."),
        ("UL", pack("<I", 1), None),
        ("SS", b"", "Value length is not 2."),
        ("US", b"", "Value length is not 2."),
        ("UR", "x" * 200, None),
    ],
)
def test_minimum_rules_of_extended_query_tags(vr: str, raw: bytes | str, reason: str | None) -> None:
    subject = instance(extra=element(0x00411001, vr, raw))
    found = validate_for_store(subject, api_version=1, expected_study=None, indexed_extra=[("00411001", vr)])
    prefix = f"DICOM100: (0041,1001) - Dicom element '00411001' failed validation for VR '{vr}': "
    assert found.comments == ([prefix + reason] if reason else [])
    assert not validate_for_store(subject, api_version=2, expected_study=None, indexed_extra=[("00411001", vr)]).failed


def test_several_values_of_an_indexed_attribute() -> None:
    found = verdict(1, {0x00080061: ("CS", "CT\\MR")})
    assert (found.failed, found.multi_value_warning, found.warning_reason) == (False, True, None)
    assert not verdict(2, {0x00080061: ("CS", "CT\\MR")}).multi_value_warning
    assert verdict(1, {0x00081030: ("LO", "ok\\" + "x" * 70)}).comments == []


def test_core_rules_of_version_2_are_lenient() -> None:
    assert not verdict(2, {0x00100020: ("LO", b"123\0")}).failed
    assert verdict(1, {0x00100020: ("LO", b"123\0")}).failed
    for tag in (0x0020000D, 0x0020000E, 0x00080018, 0x00080016):
        found = verdict(2, {tag: ("UI", "1.2.x")})
        assert found.failed
        assert INVALID_UID in found.comments[0]


def test_a_failure_of_version_2_lists_warnings_too() -> None:
    found = verdict(2, {0x0020000D: ("UI", "1.2.x"), 0x00080060: ("CS", "ct")})
    assert found.failed
    assert [comment[10:21] for comment in found.comments] == ["(0020,000d)", "(0008,0060)"]
    assert "00080060" in found.dataset


# --- §3.4


def test_warning_of_version_2_drops_the_attribute() -> None:
    found = verdict(2, {0x00080060: ("CS", "ct"), 0x00080070: ("LO", "ACME")})
    assert not found.failed
    assert found.warning_reason == 1
    assert found.comments == [
        'DICOM100: (0008,0060) - Content "ct" does not validate VR CS: value contains invalid character. '
        "Only uppercase character, digits, space and underscore alre allowed"
    ]
    assert "00080060" not in found.dataset
    assert found.dataset["00080070"]["Value"] == ["ACME"]


def test_verdict_leaves_the_instance_alone() -> None:
    nested = sequence(0x00400275, [item(element(0x00400007, "LO", "x" * 65))])
    subject = instance({0x00080060: ("CS", "ct")}, nested)
    before = repr(subject.dataset)
    validate_for_store(subject, api_version=2, expected_study=None)
    assert repr(subject.dataset) == before


def test_every_value_is_checked() -> None:
    found = verdict(2, {0x00080008: ("CS", "ORIGINAL\\primary\\also bad")})
    assert found.comments == [
        'DICOM100: (0008,0008) - Content "primary" does not validate VR CS: value contains invalid character. '
        "Only uppercase character, digits, space and underscore alre allowed"
    ]


def test_uids_are_warned_about_but_kept() -> None:
    bad = dict.fromkeys((0x0020000D, 0x0020000E, 0x00080018, 0x00080016), ("UI", "1.02.3"))
    found = verdict(2, bad)
    assert (found.failed, found.warning_reason, len(found.comments)) == (False, 1, 4)
    assert {"0020000D", "0020000E", "00080018"} <= found.dataset.keys()
    assert "00080016" not in found.dataset


def test_nested_element_is_dropped_and_the_top_level_one_stays() -> None:
    bad = element(0x00080060, "CS", "ct")
    deep = sequence(0x00081115, [item(element(0x00080050, "SH", "ok")), item(sequence(0x00081140, [item(bad)]) + bad)])
    found = verdict(2, {0x00080060: ("CS", "CT")}, deep)
    assert found.warning_reason == 1
    assert len(found.comments) == 1
    assert found.comments[0].startswith('DICOM100: (0008,0060) - Content "ct"')
    assert found.dataset["00080060"]["Value"] == ["CT"]
    assert found.dataset["00081115"]["Value"] == [
        {"00080050": {"vr": "SH", "Value": ["ok"]}},
        {"00081140": {"vr": "SQ", "Value": [{}]}},
    ]


def test_comments_top_level_first_in_tag_order() -> None:
    nested = sequence(0x00081115, [item(element(0x00080050, "SH", "x" * 17))])
    found = verdict(2, {0x00280008: ("IS", "x"), 0x00080060: ("CS", "ct")}, nested)
    assert [comment[10:21] for comment in found.comments] == ["(0008,0060)", "(0028,0008)", "(0008,0050)"]


NULL_PADDED = [
    ("AE", b"A\0"), ("AS", b"045Y\0\0"), ("CS", b"A\0"), ("LO", b"a\0"), ("LT", b"a\0"), ("PN", b"a\0"), ("SH", b"a\0"),
    ("ST", b"a\0"), ("UC", b"a\0"), ("UI", b"1\0"), ("UR", b"a\0"), ("UT", b"a\0"),
]  # fmt: skip


@pytest.mark.parametrize(("vr", "raw"), NULL_PADDED)
def test_null_padding_is_tolerated_and_kept(vr: str, raw: bytes) -> None:
    found = verdict(2, extra=element(0x00411001, vr, raw))
    assert found.comments == []
    kept = found.dataset["00411001"]["Value"][0]
    text = kept["Alphabetic"] if vr == "PN" else kept
    assert text == ("1" if vr == "UI" else raw.decode())


@pytest.mark.parametrize(("vr", "raw"), [("DA", b"20240101\0\0"), ("TM", b"10\0\0"), ("DS", b"1\0"), ("IS", b"1\0")])
def test_null_padding_of_dates_and_numbers_is_not(vr: str, raw: bytes) -> None:
    found = verdict(2, extra=element(0x00411001, vr, raw))
    assert len(found.comments) == 1
    assert "00411001" not in found.dataset


def test_null_in_the_middle_is_an_invalid_character() -> None:
    found = verdict(2, extra=element(0x00411001, "LO", b"a\0b\0"))
    assert found.comments == [
        'DICOM100: (0041,1001) - Content "a\0b" does not validate VR LO: value contains invalid character'
    ]


def test_private_creator_is_named() -> None:
    known = element(0x00410010, "LO", "ACME 1") + element(0x00411001, "CS", "bad")
    assert verdict(2, extra=known).comments[0].startswith('DICOM100: (0041,1001:ACME 1) - Content "bad"')
    unknown = element(0x00411101, "CS", "bad")
    assert verdict(2, extra=unknown).comments[0].startswith('DICOM100: (0041,1101) - Content "bad"')


@pytest.mark.parametrize(
    ("tag", "vr", "raw", "name", "count"),
    [
        (0x00280010, "US", pack("<2H", 1, 2), "Rows", "2 does not match ValueMultiplicity 1"),
        (0x00280030, "DS", "1", "Pixel Spacing", "1 does not match ValueMultiplicity 2"),
        (0x00080008, "CS", "A", "Image Type", "1 does not match ValueMultiplicity 2-n"),
        (0x00200037, "DS", "1\\2", "Image Orientation (Patient)", "2 does not match ValueMultiplicity 6"),
        (0x00280009, "AT", bytes(8), "", None),
        (0x00280030, "DS", "", "", None),
        (0x00411001, "US", pack("<2H", 1, 2), "", None),
        (0x00200032, "DS", "1\\2\\3", "", None),
    ],
)
def test_multiplicity(tag: int, vr: str, raw: bytes | str, name: str, count: str | None) -> None:
    found = verdict(2, extra=element(tag, vr, raw))
    label = f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
    text = f'DICOM100: {label} - Content "{label} {vr} {name}" does not validate VR {vr}: Number of items {count}'
    assert found.comments == ([text] if count else [])


# --- EnableFullDicomItemValidation


def test_full_validation_of_version_1_fails_on_anything() -> None:
    found = verdict(1, {0x00080080: ("LO", "x" * 65)}, full=True)
    assert found.failed
    assert found.comments == [
        f'DICOM100: (0008,0080) - Content "{"x" * 65}" does not validate VR LO: '
        "value exceeds maximum length of 64 characters"
    ]


def test_full_validation_of_version_2_drops_what_is_not_core() -> None:
    found = verdict(2, {0x00080080: ("LO", "x" * 65), 0x0020000D: ("UI", "1.02")}, full=True)
    assert (found.failed, found.warning_reason, len(found.comments)) == (False, 1, 2)
    assert "00080080" not in found.dataset
    assert "0020000D" in found.dataset


def test_full_validation_has_no_leniency_for_nulls() -> None:
    found = verdict(2, extra=element(0x00411001, "LO", b"a\0"), full=True)
    assert found.comments == [
        'DICOM100: (0041,1001) - Content "a\0" does not validate VR LO: value contains invalid character'
    ]


def test_full_validation_reports_a_sequence_once() -> None:
    bad = element(0x00080060, "CS", "ct") + element(0x00080100, "SH", "x" * 17)
    found = verdict(2, extra=sequence(0x00081115, [item(bad), item(bad)]), full=True)
    assert len(found.comments) == 1
    assert found.comments[0].startswith('DICOM100: (0008,1115) - Content "ct" does not validate VR CS')
    assert found.dataset["00081115"]["Value"] == [{}, {}]


# --- §4


@pytest.mark.parametrize("api_version", [1, 2])
def test_implicit_vr_warning(api_version: int) -> None:
    found = verdict(api_version, syntax=IMPLICIT)
    assert (found.failed, found.warning_reason, found.comments) == (False, 45063, [])


def test_implicit_vr_wins_over_attribute_warnings() -> None:
    found = verdict(2, {0x00080060: ("CS", "ct")}, syntax=IMPLICIT)
    assert (found.warning_reason, len(found.comments)) == (45063, 1)
