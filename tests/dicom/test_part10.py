"""What the reader accepts, what it makes of it, and what it refuses."""

import json
import zlib
from struct import pack

import pytest

from hounsfield.dicom.json_model import metadata_json
from hounsfield.dicom.part10 import Instance, read_instance
from hounsfield.dicom.source import BytesSource, FileSource, UnreadableInstance
from tests.dicom.elements import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IDENTITY,
    IMPLICIT,
    RLE,
    UNDEFINED,
    element,
    file,
    fragments,
    header,
    item,
    meta,
    sequence,
)
from tests.dicom.samples import SMALL_SET


def read(data: bytes) -> Instance:
    return read_instance(BytesSource(data))


def value(vr: str, raw: bytes | str, tag: int = 0x00091001) -> object:
    """The JSON values of one explicit element; a private tag by default, so that no multiplicity applies."""
    return read(file(IDENTITY + element(tag, vr, raw))).dataset[f"{tag:08X}"].get("Value")


# --- the file around the dataset


def test_preamble() -> None:
    instance = read(file(IDENTITY))
    assert instance.has_preamble
    assert instance.transfer_syntax == EXPLICIT
    assert instance.first("00100020") == "P1"


def test_meta_without_preamble() -> None:
    instance = read(meta() + IDENTITY)
    assert not instance.has_preamble
    assert instance.transfer_syntax == EXPLICIT
    assert list(instance.dataset) == ["00080016", "00080018", "00100020", "0020000D", "0020000E"]


def test_meta_without_group_length() -> None:
    data = bytes(128) + b"DICM" + meta(group_length=False) + IDENTITY
    assert read(data).first("0020000D") == "1.2.3.1"


def test_meta_with_wrong_group_length() -> None:
    data = bytearray(file(IDENTITY))
    data[140:144] = pack("<I", 4)
    assert read(bytes(data)).first("0020000D") == "1.2.3.1"


def test_meta_longer_than_the_first_read() -> None:
    private = element(0x00020100, "UI", "1.2") + element(0x00020102, "OB", bytes(50_000))
    data = bytes(128) + b"DICM" + meta(group_length=False) + private + IDENTITY
    assert read(data).first("0020000D") == "1.2.3.1"


def test_meta_with_long_headers() -> None:
    addresses = b"".join(element(tag, "UR", "dicom://there") for tag in (0x00020026, 0x00020027, 0x00020028))
    data = bytes(128) + b"DICM" + meta(group_length=False) + addresses + IDENTITY
    assert read(data).first("0020000D") == "1.2.3.1"


def test_meta_longer_than_this_server_reads() -> None:
    meta_without_end = meta(group_length=False) + element(0x00020102, "OB", bytes(1 << 20))
    with pytest.raises(UnreadableInstance, match="larger than this server reads"):
        read(bytes(128) + b"DICM" + meta_without_end + IDENTITY)


@pytest.mark.parametrize(
    ("endian", "vr", "syntax"), [("<", "LO", EXPLICIT), (">", "LO", BIG_ENDIAN), ("<", "", IMPLICIT)]
)
def test_neither_preamble_nor_meta(endian: str, vr: str, syntax: str) -> None:
    data = b"".join(element(tag, vr, b"x" * 60, endian) for tag in (0x00080070, 0x00081090, 0x00181030))
    instance = read(data)
    assert instance.transfer_syntax == syntax
    assert instance.first("00181030") == "x" * 60
    assert not instance.has_preamble


def test_preamble_without_meta() -> None:
    instance = read(bytes(128) + b"DICM" + IDENTITY)
    assert (instance.has_preamble, instance.transfer_syntax) == (True, EXPLICIT)


def test_dicm_inside_a_value_is_no_preamble() -> None:
    start = element(0x00080005, "CS", "ISO_IR 100") + element(0x00080070, "LO", "x" * 94)
    data = start + element(0x00081010, "SH", "DICM") + element(0x00081030, "LO", "behind")
    assert data[128:132] == b"DICM"
    instance = read(data)
    assert not instance.has_preamble
    assert instance.first("00081010") == "DICM"


@pytest.mark.parametrize("padding", [b"", b"\0", b"\0" * 7, b"\0" * 8, b"\0" * 1000, b" "])
def test_padding_behind_the_dataset(padding: bytes) -> None:
    assert len(read(file(IDENTITY) + padding).dataset) == 5


@pytest.mark.parametrize("zeros", [8, 16, 5000, 3_000_000])
def test_zeros_before_more_elements_are_no_padding(zeros: int) -> None:
    with pytest.raises(UnreadableInstance, match="Zero bytes"):
        read(file(IDENTITY) + bytes(zeros) + element(0x00281199, "UI", "1.2"))
    assert len(read(file(IDENTITY) + bytes(zeros)).dataset) == 5


def test_delimiters_too_many_at_the_end() -> None:
    assert len(read(file(IDENTITY) + header(0xFFFEE0DD, "", 0)).dataset) == 5


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 131,
        b"\0" * 1000,
        b"{" + b"\n" * 1000,
        bytes(range(256)) * 4,
        bytes(128) + b"DICM\2\0",
        file(IDENTITY, "1.2.840.10008.1.2.4.999"),
        file(IDENTITY)[:-1],
        file(IDENTITY)[:-3],
        (bytes(128) + b"DICM" + meta())[:-5],
        file(IDENTITY + header(0xFFFEE000, "", 0)),
        file(IDENTITY) + b"\0\0\0\1",
    ],
    ids=[
        "empty", "131 bytes", "zeros", "text", "counting", "only the letters", "unknown syntax", "value cut off",
        "value cut off by three", "meta cut off", "item at top level", "four odd bytes behind the dataset",
    ],
)  # fmt: skip
def test_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableInstance):
        read(data)


def test_unreadable_texts_hold_no_values() -> None:
    with pytest.raises(UnreadableInstance) as caught:
        read(file(IDENTITY + element(0x00100010, "PN", "Secret^Name") + header(0x00102160, "SH", 50)))
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize("cut", range(1, 48))
def test_cut_off_anywhere(cut: int) -> None:
    dataset = IDENTITY + sequence(0x00400275, [item(element(0x00400007, "LO", "abcd"), undefined=True)], undefined=True)
    data = file(dataset)
    assert read(data).dataset["00400275"]
    with pytest.raises(UnreadableInstance):
        read(data[:-cut])


# --- encodings


def test_big_endian() -> None:
    dataset = b"".join(
        [
            element(0x00080005, "CS", "ISO_IR 100", ">"),
            element(0x00280010, "US", pack(">H", 258), ">"),
            element(0x00280009, "AT", pack(">HH", 0x18, 0x1063), ">"),
            sequence(
                0x00400275, [item(element(0x00189073, "FD", pack(">d", 1.5), ">"), undefined=True, endian=">")],
                undefined=True, endian=">",
            ),
        ]
    )  # fmt: skip
    found = read(file(dataset, BIG_ENDIAN)).dataset
    assert found["00280010"] == {"vr": "US", "Value": [258]}
    assert found["00280009"] == {"vr": "AT", "Value": ["00181063"]}
    assert found["00400275"]["Value"] == [{"00189073": {"vr": "FD", "Value": [1.5]}}]


def test_implicit_vr_takes_vrs_from_the_dictionary() -> None:
    dataset = b"".join(
        [
            element(0x00090010, "", b"ACME"),
            element(0x00091001, "", b"private "),
            element(0x00280010, "", pack("<H", 3)),
            element(0x00400275, "", item(element(0x00400007, "", b"text"))),
            element(0x60003000, "", bytes(8)),
        ]
    )
    instance = read(file(dataset, IMPLICIT))
    assert instance.dataset == {
        "00090010": {"vr": "LO", "Value": ["ACME"]},
        "00280010": {"vr": "US", "Value": [3]},
        "00400275": {"vr": "SQ", "Value": [{"00400007": {"vr": "LO", "Value": ["text"]}}]},
    }
    assert instance.left_out == {"00091001": "UN", "60003000": "OW"}


def test_implicit_dataset_under_explicit_syntax_and_the_reverse() -> None:
    implicit = element(0x00100010, "", b"Doe^John")
    assert read(file(implicit, EXPLICIT)).dataset["00100010"]["Value"] == [{"Alphabetic": "Doe^John"}]
    assert read(file(IDENTITY, IMPLICIT)).first("0020000D") == "1.2.3.1"


def test_implicit_element_inside_an_explicit_dataset() -> None:
    dataset = IDENTITY + sequence(0x00400275, [item(element(0x00400007, "", b"text"))])
    assert read(file(dataset)).dataset["00400275"]["Value"] == [{"00400007": {"vr": "LO", "Value": ["text"]}}]


def test_standard_sequence_that_holds_no_items() -> None:
    dataset = element(0x00080016, "", b"1.2\0") + element(0x0040A170, "", b"NUM ")
    instance = read(file(dataset, IMPLICIT))
    assert "0040A170" not in instance.dataset
    assert instance.left_out == {"0040A170": "UN"}


def test_deflated() -> None:
    deflate = zlib.compressobj(wbits=-15)
    stream = deflate.compress(IDENTITY + element(0x00281199, "UI", "1.2")) + deflate.flush()
    for padding in (b"", b"\0"):
        assert read(file(stream + padding, DEFLATED)).first("00281199") == "1.2"
    for cut in range(1, len(stream)):
        with pytest.raises(UnreadableInstance):
            read(file(stream[:-cut] or b"\xff", DEFLATED))


def test_unknown_vr_is_left_out() -> None:
    unknown = pack("<HH2sHI", 0x0009, 0x1001, b"ZZ", 0, 4) + b"abcd"
    instance = read(file(IDENTITY + unknown))
    assert instance.left_out == {"00091001": "UN"}
    assert instance.first("0020000E") == "1.2.3.2"


def test_blank_vr_is_read_by_the_dictionary_and_reported() -> None:
    instance = read(file(IDENTITY + pack("<HH2sHH", 0x0028, 0x0010, b"  ", 2, 512)))
    assert instance.dataset["00280010"] == {"vr": "US", "Value": [512]}
    assert [problem.key for problem in instance.problems] == ["00280010"]


# --- UN, sequences


def test_un_of_undefined_length_is_an_implicit_sequence() -> None:
    content = sequence(0x00091001, [item(element(0x00400007, "", b"text"), undefined=True)], "UN", undefined=True)
    assert read(file(IDENTITY + content)).dataset["00091001"] == {
        "vr": "SQ",
        "Value": [{"00400007": {"vr": "LO", "Value": ["text"]}}],
    }


def test_un_sequence_is_little_endian_in_a_big_endian_file() -> None:
    inside = [item(element(0x00280010, "", pack("<H", 7)))]
    content = header(0x00091001, "UN", UNDEFINED, ">") + b"".join(inside) + header(0xFFFEE0DD, "", 0)
    dataset = element(0x00080016, "UI", "1.2", ">") + content + element(0x00280011, "US", pack(">H", 9), ">")
    found = read(file(dataset, BIG_ENDIAN)).dataset
    assert found["00091001"]["Value"] == [{"00280010": {"vr": "US", "Value": [7]}}]
    assert found["00280011"]["Value"] == [9]


def test_un_sequence_with_explicit_items() -> None:
    inside = item(element(0x00400007, "LO", "text"), undefined=True)
    for syntax, start, vr in ((EXPLICIT, IDENTITY, "UN"), (IMPLICIT, element(0x00080016, "", b"1.2\0"), "")):
        found = read(file(start + sequence(0x20051401, [inside], vr, undefined=True), syntax)).dataset
        assert found["20051401"]["Value"] == [{"00400007": {"vr": "LO", "Value": ["text"]}}]


def test_known_attributes_written_as_un() -> None:
    inside = item(element(0x00400007, "", b"text"))
    dataset = IDENTITY + element(0x00100010, "UN", b"Doe^John") + element(0x00400275, "UN", inside)
    dataset += element(0x00400555, "UN", b"no items here!")
    instance = read(file(dataset))
    assert instance.dataset["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Doe^John"}]}
    assert instance.dataset["00400275"] == {"vr": "SQ", "Value": [{"00400007": {"vr": "LO", "Value": ["text"]}}]}
    assert instance.left_out == {"00400555": "UN"}


@pytest.mark.parametrize("undefined", [False, True])
def test_empty_sequences_and_items(undefined: bool) -> None:
    dataset = IDENTITY + sequence(0x00400275, [], undefined=undefined)
    dataset += sequence(0x00400555, [item(b"", undefined=undefined)], undefined=undefined)
    found = read(file(dataset)).dataset
    assert found["00400275"] == {"vr": "SQ"}
    assert found["00400555"] == {"vr": "SQ", "Value": [{}]}


def test_bulk_values_are_left_out_at_every_depth() -> None:
    bulk = b"".join(
        element(0x00091000 + n, vr, bytes(16)) for n, vr in enumerate(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
    )
    instance = read(file(IDENTITY + bulk + sequence(0x00400275, [item(bulk + element(0x00400007, "LO", "x"))])))
    assert instance.dataset["00400275"]["Value"] == [{"00400007": {"vr": "LO", "Value": ["x"]}}]
    assert list(instance.left_out.values()) == ["OB", "OD", "OF", "OL", "OV", "OW", "UN"]
    assert "00091000" not in instance.dataset


def test_group_lengths_and_group_two_are_not_metadata() -> None:
    dataset = element(0x00080000, "UL", bytes(4)) + IDENTITY
    dataset += sequence(0x00400275, [item(element(0x00020010, "UI", "1.2") + element(0x00400000, "UL", bytes(4)))])
    found = read(file(dataset)).dataset
    assert "00080000" not in found
    assert found["00400275"]["Value"] == [{}]


def test_keys_ascend_whatever_the_file_does() -> None:
    out_of_order = element(0x00100020, "LO", "P") + element(0x00080060, "CS", "CT")
    found = read(file(out_of_order + sequence(0x00080051, [item(out_of_order)]))).dataset
    assert list(found) == ["00080051", "00080060", "00100020"]
    assert list(found["00080051"]["Value"][0]) == ["00080060", "00100020"]


# --- values


@pytest.mark.parametrize(
    ("vr", "raw", "expected"),
    [
        ("LO", "", None),
        ("LO", "   ", None),
        ("LO", "a ", ["a"]),
        ("LO", " a", [" a"]),
        ("LO", b"X\0", ["X\0"]),
        ("CS", "DERIVED \\PRIMARY ", ["DERIVED", "PRIMARY"]),
        ("CS", "A\\\\B", ["A", None, "B"]),
        ("LT", "one\\value \r\n", ["one\\value \r\n"]),
        ("UT", "a\\b", ["a\\b"]),
        ("UC", "a\\b", ["a", "b"]),
        ("UI", b"1.2.3\0", ["1.2.3"]),
        ("UI", b"1.2.3 ", ["1.2.3 "]),
        ("UI", b"1.2\\1.3\0", ["1.2", "1.3"]),
        ("DS", "1.50 \\ 2\\-0.25", [1.5, 2, -0.25]),
        ("DS", "1\\\\3", [1, None, 3]),
        ("DS", "1e5", [100000]),
        ("DS", "abc", ["abc"]),
        ("DS", "nan", ["nan"]),
        ("DS", "1_0", ["1_0"]),
        ("DS", "1e999", ["1e999"]),
        ("DS", b"-1024\0", [-1024]),
        ("DS", "0.1234567890123456", [0.1234567890123456]),
        ("IS", " 12 \\-3", [12, -3]),
        ("IS", "1.0", ["1.0"]),
        ("IS", "99999999999", ["99999999999"]),
        ("IS", "9" * 5000, ["9" * 5000]),
        ("IS", "+2147483647", [2147483647]),
        ("US", pack("<2H", 1, 65535), [1, 65535]),
        ("US", b"\1\2\3", [513]),
        ("US", b"\1", None),
        ("SS", pack("<h", -2), [-2]),
        ("SL", pack("<i", -70000), [-70000]),
        ("UL", pack("<I", 4000000000), [4000000000]),
        ("SV", pack("<q", -(2**62)), [-(2**62)]),
        ("UV", pack("<Q", 2**64 - 1), [2**64 - 1]),
        ("FL", pack("<f", 0.5), [0.5]),
        ("FD", pack("<2d", 0.1, float("inf")), [0.1, None]),
        ("FL", pack("<f", float("nan")), [None]),
        ("AT", pack("<4H", 0x18, 0x1063, 0x7FE0, 0x10), ["00181063", "7FE00010"]),
        ("AT", b"\0", None),
        ("PN", "Doe^John", [{"Alphabetic": "Doe^John"}]),
        ("PN", "A^B=C=D", [{"Alphabetic": "A^B", "Ideographic": "C", "Phonetic": "D"}]),
        ("PN", "=C", [{"Ideographic": "C"}]),
        ("PN", "A\\\\B", [{"Alphabetic": "A"}, None, {"Alphabetic": "B"}]),
        ("PN", "===", [{"Phonetic": "="}]),
    ],
)  # fmt: skip
def test_values(vr: str, raw: bytes | str, expected: object) -> None:
    for _ in range(2):  # the second time from memory
        assert value(vr, raw) == expected


def test_json_is_valid_and_utf8() -> None:
    dataset = element(0x00080005, "CS", "ISO_IR 100") + IDENTITY + element(0x00100010, "PN", b'M\xfcller\\"x ')
    dataset += element(0x00189073, "FD", pack("<d", float("nan")))
    model = json.loads(metadata_json(read(file(dataset)).dataset).decode("utf-8"))
    assert model["00100010"]["Value"] == [{"Alphabetic": "Müller"}, {"Alphabetic": '"x'}]
    assert model["00189073"]["Value"] == [None]


def test_character_set_of_an_item_is_its_own() -> None:
    name = element(0x00100010, "PN", "Ж".encode())
    other = element(0x00080005, "CS", "ISO_IR 144") + element(0x00100010, "PN", "Ж".encode("iso8859_5"))
    dataset = element(0x00080005, "CS", "ISO_IR 192") + sequence(0x00081140, [item(other), item(name)]) + name
    found = read(file(dataset)).dataset
    names = [item["00100010"]["Value"][0]["Alphabetic"] for item in found["00081140"]["Value"]]
    assert [*names, found["00100010"]["Value"][0]["Alphabetic"]] == ["Ж", "Ж", "Ж"]


def test_same_bytes_under_another_character_set() -> None:
    raw = element(0x00081090, "LO", b"\xc4\xe3")
    for term, text in (("ISO_IR 100", "Äã"), ("GB18030", "你"), ("ISO_IR 100", "Äã")):
        assert read(file(element(0x00080005, "CS", term) + raw)).first("00081090") == text


def test_values_of_unencoded_vrs_ignore_the_character_set() -> None:
    dataset = element(0x00080005, "CS", "ISO_IR 192") + element(0x00080060, "CS", b"\xc4\xd6")
    assert read(file(dataset)).first("00080060") == "ÄÖ"


def test_escapes_in_unencoded_vrs_do_not_vanish() -> None:
    instance = read(file(element(0x00080018, "UI", b"1.2\x1b(B.3")))
    assert instance.first("00080018") == "1.2\x1b(B.3"  # and not an identifier that looks valid
    assert [problem.key for problem in instance.problems] == ["00080018"]


# --- the window over large files


class Counting(BytesSource):
    """A source that remembers what was asked of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked = 0

    def read_at(self, offset: int, length: int) -> bytes:
        found = super().read_at(offset, length)
        self.asked += len(found)
        return found


def test_bulk_values_are_never_loaded() -> None:
    size = 3_000_000
    dataset = IDENTITY + b"".join(element(0x00291000 + n, "OB", bytes(size)) for n in range(5))
    dataset += element(0x00324000, "LT", "behind") + element(0x7FE00010, "OW", bytes(size))
    source = Counting(file(dataset) + element(0xFFFCFFFC, "OB", bytes(10)))
    instance = read_instance(source)
    assert instance.first("00324000") == "behind"
    assert source.asked < 50_000


@pytest.mark.parametrize("length", [16_000, 16_384, 70_000, 1_100_000])
def test_values_longer_than_the_window(length: int) -> None:
    long = element(0x00324000, "UT", "x" * length)
    found = read(file(IDENTITY + long + element(0x00324001, "LO", "y"))).dataset
    assert found["00324000"]["Value"] == ["x" * length]
    assert found["00324001"]["Value"] == ["y"]


def test_elements_across_the_window() -> None:
    elements = b"".join(element(0x00090000 + n, "LO", f"value {n}") for n in range(0x1000, 0x2000))
    nested = sequence(0x00400275, [item(elements, undefined=True), item(elements)], undefined=True)
    found = read(file(IDENTITY + elements + nested)).dataset
    assert found["00091FFF"]["Value"] == ["value 8191"]
    assert [len(item) for item in found["00400275"]["Value"]] == [4096, 4096]


def test_from_a_file() -> None:
    sample = next(sample for sample in SMALL_SET if sample.name == "sr_document.dcm")
    with FileSource(sample.path) as source:
        from_file = read_instance(source)
    assert from_file.dataset == read(sample.path.read_bytes()).dataset


def test_encapsulated_pixel_data_are_skipped() -> None:
    icon = sequence(0x00880200, [item(fragments([b"\xff\xd8\xff\xd9"]))])
    dataset = IDENTITY + icon + fragments([b"abcd", b"ef" * 30_000]) + element(0xFFFCFFFC, "OB", bytes(2))
    instance = read(file(dataset, RLE))
    assert instance.dataset["00880200"]["Value"] == [{}]
    assert instance.left_out == {"7FE00010": "OB", "FFFCFFFC": "OB"}
