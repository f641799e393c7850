import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from hounsfield.dicom import transfer_syntax
from hounsfield.dicom.transcode import (
    MAX_INFLATED_BYTES,
    CannotTranscode,
    transcode,
)
from hounsfield.errors import NotAcceptable

IMPLICIT = transfer_syntax.IMPLICIT_VR_LITTLE_ENDIAN
EXPLICIT = transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN
DEFLATED = transfer_syntax.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
BIG_ENDIAN = transfer_syntax.EXPLICIT_VR_BIG_ENDIAN
JPEG = "1.2.840.10008.1.2.4.50"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

_DEFAULT_SAMPLES = Path(__file__).parents[3] / "shared/data/dicom"
SAMPLES = Path(os.environ.get("HOUNSFIELD_SAMPLES", _DEFAULT_SAMPLES))
# what pydicom itself cannot read, or only in part
UNREADABLE = {"GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm", "rtplan_truncated.dcm", "GH626.dcm"}


def view(dataset: Dataset) -> dict[str, Any]:
    """What pydicom reads in a dataset: VR and value of every element but group lengths, nested ones included."""
    seen: dict[str, Any] = {}
    for element in dataset:
        if element.tag.element == 0:
            continue
        value: Any = element.value
        if element.VR == "SQ":
            value = [view(item) for item in value]
        elif isinstance(value, bytes):  # odd lengths were padded
            value = value.rstrip(b"\0")
        seen[str(element.tag)] = (element.VR, value)
    return seen


def to_explicit_little_endian(
    data: bytes, *, source_uid: str | None = None, max_inflated_bytes: int = MAX_INFLATED_BYTES
) -> bytes:
    out = io.BytesIO()
    transcode(memoryview(data), out, EXPLICIT, source_uid=source_uid, max_inflated_bytes=max_inflated_bytes)
    return out.getvalue()


def read(data: bytes) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(data), force=True)


# --- against pydicom ---------------------------------------------------------------------------------------------


def _native_samples() -> Iterator[Path]:
    if not SAMPLES.is_dir():
        return
    for path in sorted(SAMPLES.rglob("*.dcm")):
        head = path.read_bytes()[:400]
        uid = head.partition(b"\x02\x00\x10\x00UI")[2][2:26].rstrip(b"\0")
        if path.name not in UNREADABLE and any(
            uid.startswith(known.encode() + end)
            for known in (IMPLICIT, BIG_ENDIAN, DEFLATED)
            for end in (b"\0", b"\x02")
        ):
            yield path


NATIVE_SAMPLES = list(_native_samples())


@pytest.mark.skipif(not NATIVE_SAMPLES, reason=f"no sample files in {SAMPLES}; set HOUNSFIELD_SAMPLES")
def test_there_are_samples_of_each_native_syntax() -> None:
    seen = {read(path.read_bytes()).file_meta.TransferSyntaxUID for path in NATIVE_SAMPLES}
    assert seen == {IMPLICIT, BIG_ENDIAN, DEFLATED}


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("path", NATIVE_SAMPLES, ids=lambda path: path.name)
def test_pydicom_reads_the_same_in_the_result(path: Path) -> None:
    source = read(path.read_bytes())
    result = read(to_explicit_little_endian(path.read_bytes()))
    assert result.file_meta.TransferSyntaxUID == EXPLICIT
    big_endian = source.file_meta.TransferSyntaxUID == BIG_ENDIAN
    before, after = view(source), view(result)
    pixels_before, pixels_after = before.pop("(7FE0,0010)", None), after.pop("(7FE0,0010)", None)
    before = {tag: ("OW", value) if vr == "OB or OW" else (vr, value) for tag, (vr, value) in before.items()}
    assert after == before
    if big_endian and pixels_before is not None:
        assert np.array_equal(result.pixel_array, source.pixel_array)
    else:
        assert pixels_after == pixels_before


# --- against a straight writer -----------------------------------------------------------------------------------

LONG = {"OB", "OV", "OW", "SQ", "UN", "UT"}
FORMATS = {"AT": "H", "US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "OW": "H", "OV": "Q"}
Value = bytes | list[Any]  # bytes, numbers, or items: each a list of elements
Elements = list[tuple[int, str, Value]]


def encode(elements: Elements, *, implicit: bool, order: str, undefined: bool) -> bytes:
    """A dataset as PS3.5 §7 writes it; all sequences and items of undefined length, or none."""
    out = b""
    for tag, vr, value in elements:
        body = value if isinstance(value, bytes) else b""
        if vr == "SQ":
            for item in value:
                assert isinstance(item, list)
                content = encode(item, implicit=implicit, order=order, undefined=undefined)
                out_item = (
                    struct.pack(order + "HHI", 0xFFFE, 0xE000, 0xFFFFFFFF if undefined else len(content)) + content
                )
                body += out_item + (struct.pack(order + "HHI", 0xFFFE, 0xE00D, 0) if undefined else b"")
        elif isinstance(value, list):
            body = struct.pack(f"{order}{len(value)}{FORMATS[vr]}", *value)
        length = 0xFFFFFFFF if undefined and vr == "SQ" else len(body)
        head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
        if implicit:
            head += struct.pack(order + "I", length)
        elif vr in LONG:
            head += vr.encode() + struct.pack(order + "HI", 0, length)
        else:
            head += vr.encode() + struct.pack(order + "H", length)
        out += head + body + (struct.pack(order + "HHI", 0xFFFE, 0xE0DD, 0) if undefined and vr == "SQ" else b"")
    return out


def part10(dataset: bytes, uid: str, preamble: bytes = bytes(128)) -> bytes:
    meta = encode(
        [(0x00020001, "OB", b"\0\1"), (0x00020010, "UI", uid.encode() + bytes(len(uid) % 2))],
        implicit=False,
        order="<",
        undefined=False,
    )
    length = encode([(0x00020000, "UL", [len(meta)])], implicit=False, order="<", undefined=False)
    return preamble + b"DICM" + length + meta + dataset


def numbers(vr: str, low: int, high: int, *, size: int = 1) -> tuple[str, st.SearchStrategy[Value]]:
    return vr, st.lists(st.integers(low, high), min_size=size, max_size=size)


def some_bytes(vr: str) -> tuple[str, st.SearchStrategy[Value]]:
    return vr, st.binary(max_size=9).map(lambda value: value[: len(value) // 2 * 2])


KNOWN: dict[int, tuple[str, st.SearchStrategy[Value]]] = {
    0x00080001: numbers("UL", 0, 2**32 - 1),
    0x00080020: some_bytes("DA"),  # not a date: values are none of our business
    0x00081163: ("FD", st.lists(st.floats(allow_nan=False), min_size=1, max_size=1)),
    0x00081196: numbers("US", 0, 65535, size=3),
    0x00091001: some_bytes("UN"),
    0x00100010: some_bytes("PN"),
    0x00186020: numbers("SL", -(2**31), 2**31 - 1),
    0x00189810: numbers("SS", -32768, 32767),  # US or SS, and before Pixel Representation
    0x0019100C: some_bytes("IS"),  # private, but in the dictionary
    0x0018605A: ("FL", st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=1)),
    0x00280009: numbers("AT", 0, 65535, size=2),
    0x00280106: numbers("SS", -32768, 32767),
    0x00283006: numbers("OW", 0, 65535, size=5),
    0x00420011: some_bytes("OB"),
    0x60003000: numbers("OW", 0, 65535, size=2),
    0x7FE00001: ("OV", st.lists(st.integers(0, 2**64 - 1), max_size=2)),
}
ALWAYS: Elements = [  # what the VR of others depends on
    (0x00090010, "LO", b"UNKNOWN MAKER "),
    (0x00190010, "LO", b"SIEMENS MR HEADER "),
    (0x00280103, "US", [1]),
    (0x00283002, "SS", [2, 0, 16]),
]


def datasets(items: st.SearchStrategy[Elements]) -> st.SearchStrategy[Elements]:
    """Some of the known elements and perhaps a sequence of datasets made by ``items``."""
    some = st.fixed_dictionaries({}, optional={tag: value for tag, (_, value) in KNOWN.items()})
    chosen = some.map(lambda values: [(tag, KNOWN[tag][0], value) for tag, value in values.items()])
    sequence = st.lists(items, max_size=2).map(lambda found: [(0x00081140, "SQ", found)])
    return st.tuples(chosen, st.just([]) | sequence).map(lambda parts: sorted([*ALWAYS, *parts[0], *parts[1]]))


@given(
    st.recursive(datasets(st.just(ALWAYS)), datasets, max_leaves=4),
    st.booleans(),
    st.sampled_from([IMPLICIT, BIG_ENDIAN]),
)
def test_equals_a_dataset_written_in_that_syntax(elements: Elements, undefined: bool, uid: str) -> None:
    source = encode(elements, implicit=uid == IMPLICIT, order=">" if uid == BIG_ENDIAN else "<", undefined=undefined)
    expected = encode(elements, implicit=False, order="<", undefined=undefined)
    assert to_explicit_little_endian(part10(source, uid)) == part10(expected, EXPLICIT)


@given(st.binary(max_size=64), st.sampled_from([IMPLICIT, BIG_ENDIAN, DEFLATED, JPEG]))
def test_bytes_that_are_no_dataset(tail: bytes, uid: str) -> None:
    valid = encode([(0x00080005, "CS", b"ISO_IR 100")], implicit=uid == IMPLICIT, order="<", undefined=False)
    try:
        to_explicit_little_endian(part10(valid + tail, uid))
    except CannotTranscode as refusal:
        assert (refusal.source, refusal.target) == (uid, EXPLICIT)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_file(data: bytes) -> None:
    try:
        to_explicit_little_endian(data, source_uid=IMPLICIT)
    except CannotTranscode as refusal:
        assert refusal.target == EXPLICIT


# --- the rules one by one ----------------------------------------------------------------------------------------


def implicit(elements: Elements) -> bytes:
    return part10(encode(elements, implicit=True, order="<", undefined=False), IMPLICIT)


def big_endian(elements: Elements) -> bytes:
    return part10(encode(elements, implicit=False, order=">", undefined=False), BIG_ENDIAN)


def explicit(elements: Elements) -> bytes:
    return part10(encode(elements, implicit=False, order="<", undefined=False), EXPLICIT)


def check(source: bytes, expected: Elements) -> None:
    assert to_explicit_little_endian(source) == explicit(expected)


def test_the_preamble_becomes_zeros_and_other_file_meta_stays() -> None:
    meta: Elements = [(0x00020010, "UI", IMPLICIT.encode() + b"\0"), (0x00020016, "AE", b"SENDER")]
    group = encode(meta, implicit=False, order="<", undefined=False)  # no group length: PS3.10 wants one, files lack it
    result = to_explicit_little_endian(b"x" * 128 + b"DICM" + group)
    assert result[:132] == bytes(128) + b"DICM"
    file_meta = read(result).file_meta
    assert file_meta.FileMetaInformationGroupLength == len(result) - 132 - 12
    assert file_meta.TransferSyntaxUID == EXPLICIT
    assert file_meta.SourceApplicationEntityTitle == "SENDER"
    assert len(file_meta) == 3


def test_a_wrong_group_length_in_the_file_meta_does_no_harm() -> None:
    source = implicit([(0x00100020, "LO", b"ID")])
    wrong = source.replace(b"\2\0\0\0UL\4\0", b"\2\0\0\0UL\4\0\5\0\0\0", 1)
    check(wrong[: 132 + 12] + source[132 + 12 :], [(0x00100020, "LO", b"ID")])


def test_a_file_without_file_meta_gets_one() -> None:
    elements: Elements = [
        (0x00080016, "UI", SECONDARY_CAPTURE.encode() + b"\0"),
        (0x00080018, "UI", b"1.2.3.45"),
    ]
    bare = encode(elements, implicit=True, order="<", undefined=False)
    result = read(to_explicit_little_endian(bare, source_uid=IMPLICIT))
    assert result.file_meta.MediaStorageSOPClassUID == result.SOPClassUID == SECONDARY_CAPTURE
    assert result.file_meta.MediaStorageSOPInstanceUID == result.SOPInstanceUID == "1.2.3.45"
    assert result.file_meta.TransferSyntaxUID == EXPLICIT
    pydicom.dataset.validate_file_meta(result.file_meta, enforce_standard=True)


def test_the_letters_of_the_prefix_inside_a_value() -> None:
    elements: Elements = [(0x00080005, "CS", b"x" * 112), (0x00081030, "LO", b"DICM")]
    bare = encode(elements, implicit=False, order=">", undefined=False)
    assert bare[128:132] == b"DICM"
    result = to_explicit_little_endian(bare, source_uid=BIG_ENDIAN)
    assert result.endswith(encode(elements, implicit=False, order="<", undefined=False))


def test_deflated_keeps_every_byte_of_the_dataset() -> None:
    dataset = encode(
        [(0x00080000, "UL", [7]), (0x00100010, "PN", b"\xff\xfe^=")], implicit=False, order="<", undefined=False
    )
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stream = deflate.compress(dataset) + deflate.flush()
    assert to_explicit_little_endian(part10(stream, DEFLATED)) == part10(dataset, EXPLICIT)
    assert to_explicit_little_endian(part10(stream + b"\0", DEFLATED)) == part10(dataset, EXPLICIT)
    with pytest.raises(CannotTranscode, match="incomplete"):
        to_explicit_little_endian(part10(stream[:-2], DEFLATED))


def test_a_deflate_stream_that_looks_like_file_meta() -> None:
    dataset = encode([(0x00100020, "LO", b"ID")], implicit=False, order="<", undefined=False)
    # an empty block of fixed codes, then an empty stored one, begin with the bytes of group 0002
    stream = b"\2\0" + struct.pack("<HH", 0, 0xFFFF)
    stream += b"\1" + struct.pack("<HH", len(dataset), ~len(dataset) & 0xFFFF) + dataset
    assert to_explicit_little_endian(part10(stream, DEFLATED)) == part10(dataset, EXPLICIT)


def test_a_deflate_bomb_is_refused() -> None:
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = deflate.compress(bytes(50_000_000)) + deflate.flush()
    with pytest.raises(CannotTranscode, match="too large"):
        to_explicit_little_endian(part10(bomb, DEFLATED), max_inflated_bytes=1_000_000)


def test_an_explicit_dataset_called_implicit() -> None:
    elements: Elements = [(0x00080005, "CS", b"ISO_IR 100"), (0x00100020, "LO", b"ID")]
    dataset = encode(elements, implicit=False, order="<", undefined=False)
    assert to_explicit_little_endian(part10(dataset, IMPLICIT)) == part10(dataset, EXPLICIT)


def test_group_lengths_go_and_padding_stays() -> None:
    padding = (0xFFFCFFFC, "OB", bytes(6))
    check(
        implicit([(0x00080000, "UL", [99]), (0x00080060, "CS", b"CT"), padding]), [(0x00080060, "CS", b"CT"), padding]
    )


@pytest.mark.parametrize(("order", "syntax"), [("<", IMPLICIT), (">", BIG_ENDIAN)])
def test_what_the_reader_passes_over_is_left_out(order: str, syntax: str) -> None:
    """Delimiters too many, and zeros behind the dataset."""
    dataset = encode([(0x00080060, "CS", b"CT")], implicit=syntax == IMPLICIT, order=order, undefined=False)
    delimiters = [struct.pack(order + "HHI", 0xFFFE, number, 0) for number in (0xE00D, 0xE0DD)]
    expected = part10(encode([(0x00080060, "CS", b"CT")], implicit=False, order="<", undefined=False), EXPLICIT)
    for behind in (*delimiters, bytes(3), bytes(8), bytes(1000), b" ", delimiters[1] + bytes(9)):
        assert to_explicit_little_endian(part10(dataset + behind, syntax)) == expected
    assert to_explicit_little_endian(part10(delimiters[1] + dataset, syntax)) == expected
    for refused in (struct.pack(order + "HHI", 0xFFFE, 0xE000, 0), bytes(8) + dataset):
        with pytest.raises(CannotTranscode):
            to_explicit_little_endian(part10(dataset + refused, syntax))


def test_file_meta_with_long_headers() -> None:
    address = struct.pack("<HH2sHI", 2, 0x26, b"UR", 0, 4) + b"a://"
    dataset = encode([(0x00080060, "CS", b"CT")], implicit=True, order="<", undefined=False)
    made = to_explicit_little_endian(bytes(128) + b"DICM" + _syntax(IMPLICIT) + address + dataset)
    assert address in made
    assert made.endswith(encode([(0x00080060, "CS", b"CT")], implicit=False, order="<", undefined=False))


def _syntax(uid: str) -> bytes:
    return struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid) + 1) + uid.encode() + b"\0"


def test_text_is_not_looked_at() -> None:
    odd: Elements = [
        (0x00080005, "CS", b"NO SUCH SET "),
        (0x00100030, "DA", b"\x1b\0\xff "),
        (0x00201208, "IS", b"1.x "),
    ]
    check(implicit(odd), odd)
    check(big_endian(odd), odd)


def test_odd_lengths_are_padded_as_the_vr_wants() -> None:
    check(
        implicit([(0x00080018, "UI", b"1.2"), (0x00100020, "LO", b"ID1"), (0x00420011, "OB", b"PDF")]),
        [(0x00080018, "UI", b"1.2\0"), (0x00100020, "LO", b"ID1 "), (0x00420011, "OB", b"PDF\0")],
    )


@pytest.mark.parametrize(("representation", "vr"), [([0], "US"), ([1], "SS"), ([], "US")])
def test_pixel_representation_decides_and_is_inherited(representation: list[int], vr: str) -> None:
    rest: Elements = [(0x00280103, "US", representation)]
    for_items: Elements = [(0x00409211, vr, [7])]
    elements: Elements = [
        (0x00189810, vr, [1]),
        (0x00280103, "US", representation),
        (0x00280120, vr, [3]),
        (0x00409096, "SQ", [for_items, [(0x00280103, "US", [1]), (0x00409211, "SS", [7])]]),
    ]
    check(implicit(elements), elements)
    check(implicit(elements[:1]), [(0x00189810, "US", [1])])
    check(implicit(rest), rest)


def test_lut_data_of_one_entry_is_a_number() -> None:
    one: Elements = [(0x00283002, "US", [1, 0, 16]), (0x00283006, "US", [5])]
    many: Elements = [(0x00283002, "US", [2, 0, 16]), (0x00283006, "OW", [5, 6])]
    check(implicit(one), one)
    check(implicit(many), many)


@pytest.mark.parametrize("creator", [b"NOBODY", None])
def test_private_elements_nobody_knows_become_un(creator: bytes | None) -> None:
    head: Elements = [] if creator is None else [(0x00290010, "LO", creator)]
    inner = encode([(0x00100020, "LO", b"ID")], implicit=True, order="<", undefined=False)
    check(implicit([*head, (0x00291001, "UN", inner)]), [*head, (0x00291001, "UN", inner)])


def test_a_private_sequence_of_undefined_length_is_a_sequence() -> None:
    elements: Elements = [(0x00291001, "SQ", [[(0x00100020, "LO", b"ID")]])]
    source = part10(encode(elements, implicit=True, order="<", undefined=True), IMPLICIT)
    expected = part10(encode(elements, implicit=False, order="<", undefined=True), EXPLICIT)
    assert to_explicit_little_endian(source) == expected


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (0x00280010, b"abc"),  # Rows in three bytes
        (0x00081140, b"no item."),  # a sequence without items
        (0x00081030, b"x" * 70_000),  # more than a 16-bit length can say
        (0x00080099, b"no such attribute"),
    ],
)
def test_what_does_not_fit_its_vr_becomes_un(tag: int, value: bytes) -> None:
    padded = value + b"\0" * (len(value) % 2)
    check(implicit([(tag, "UN", value)]), [(tag, "UN", padded)])


def test_un_in_a_big_endian_file() -> None:
    known: Elements = [
        (0x00280010, "UN", b"\1\0"),
        (0x00091001, "UN", b"\1\0"),
        (0x00081140, "UN", b"\xff\xfe\xe0\0" + bytes(4)),
    ]
    expected: Elements = [(0x00280010, "US", [256]), *known[1:]]
    check(big_endian(known), expected)


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4", "<u8"])
@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_samples_of_a_big_endian_image(dtype: str, vr: str) -> None:
    samples = np.arange(12, dtype=dtype).reshape(3, 4) * 3
    if vr == "OB" and samples.itemsize > 1:
        return  # PS3.5 §A.2 allows OB for samples of up to 8 bits
    if vr == "OB":
        in_file = samples.tobytes()
    else:
        in_file = samples.byteswap().tobytes() if samples.itemsize > 1 else samples.view("<u2").byteswap().tobytes()
    elements: Elements = [(0x00280010, "US", [3]), (0x00280011, "US", [4]), (0x00280100, "US", [samples.itemsize * 8])]
    check(big_endian([*elements, (0x7FE00010, vr, in_file)]), [*elements, (0x7FE00010, vr, samples.tobytes())])


@pytest.mark.parametrize(("bits", "vr", "expected"), [(16, "OW", b"\1\0\3\2"), (8, "OB", b"\0\1\2\3")])
def test_samples_of_sixteen_bits_that_are_called_bytes(bits: int, vr: str, expected: bytes) -> None:
    elements: Elements = [(0x00280100, "US", [bits])]
    out = io.BytesIO()
    transcode(memoryview(explicit([*elements, (0x7FE00010, "OB", b"\0\1\2\3")])), out, BIG_ENDIAN)
    assert out.getvalue() == big_endian([*elements, (0x7FE00010, vr, expected)])


# --- refusals ----------------------------------------------------------------------------------------------------


def test_a_compressed_instance_without_pixel_data_keeps_its_dataset() -> None:
    elements: Elements = [(0x00100020, "LO", b"ID"), (0x00291001, "UN", b"\1\2")]
    dataset = encode(elements, implicit=False, order="<", undefined=False)
    assert to_explicit_little_endian(part10(dataset, JPEG)) == part10(dataset, EXPLICIT)


PIXELS = struct.pack("<HH2sHIHHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0)


@pytest.mark.parametrize(
    ("dataset", "uid"),
    [
        (PIXELS, JPEG),
        (encode([(0x7FE00010, "OB", b"ab")], implicit=False, order="<", undefined=False), JPEG),
        (struct.pack("<HHIHHI", 0x7FE0, 0x10, 0xFFFFFFFF, 0xFFFE, 0xE000, 0), IMPLICIT),
        (b"", "1.2.840.10008.1.2.4.94"),
        (b"", "1.2.3.4"),
        (b"\x08\0\x60", IMPLICIT),
        (b"\x08\0\x60\0\x09\0\0\0CT", IMPLICIT),
        (b"\0\x08\0\x60??\0\2CT", BIG_ENDIAN),
        (b"\0\x28\0\x10US\0\1a", BIG_ENDIAN),
        (b"\x08\0\x40\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0", IMPLICIT),  # no end
        (b"\x08\0\x40\x11\x08\0\0\0\xfe\xff\x00\xe0\x09\0\0\0", IMPLICIT),  # item longer than its sequence
        (b"\xfe\xff\x00\xe0\0\0\0\0" + bytes(8), IMPLICIT),  # an item outside any sequence
        (b"\x08\0\x40\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 3000, IMPLICIT),  # too deep
    ],
)
def test_refusals_name_the_pair_and_are_406(dataset: bytes, uid: str) -> None:
    with pytest.raises(CannotTranscode) as refusal:
        to_explicit_little_endian(part10(dataset, uid))
    assert isinstance(refusal.value, NotAcceptable)
    assert uid in refusal.value.message
    assert EXPLICIT in refusal.value.message


def test_a_refusal_holds_no_values() -> None:
    with pytest.raises(CannotTranscode) as refusal:
        to_explicit_little_endian(implicit([(0x00100010, "PN", b"Doe^John")])[:-1])
    assert "Doe" not in refusal.value.message
    assert "(0010,0010)" in refusal.value.message
