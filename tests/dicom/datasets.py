"""Arbitrary datasets that pydicom writes: hypothesis strategies for the properties of the reader.

A dataset is described by plain values first (`Described`), so that what a failing test prints can be typed in again;
`built` makes a pydicom Dataset of it, `written` a file.
"""

import io
import warnings
from dataclasses import dataclass
from struct import pack
from typing import Any

from hypothesis import strategies as st
from pydicom import config, dcmwrite
from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID

from tests.dicom.elements import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, RLE, UNDEFINED, element, header

NATIVE = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)
SYNTAXES = (*NATIVE, RLE)

TEXT = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
NUMBERS = {"FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
BULK = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")
_SINGLE = {"LT", "ST", "UR", "UT"}

CHARACTER_SETS: dict[tuple[str, ...], tuple[str, ...]] = {
    (): ("ascii",),
    ("ISO_IR 6",): ("ascii",),
    ("ISO_IR 13",): ("ascii", "ｱｲｳｴｵｶｷﾟ"),
    ("ISO_IR 100",): ("latin_1",),
    ("ISO_IR 101",): ("iso8859_2",),
    ("ISO_IR 109",): ("iso8859_3",),
    ("ISO_IR 110",): ("iso8859_4",),
    ("ISO_IR 126",): ("iso8859_7",),
    ("ISO_IR 127",): ("iso8859_6",),
    ("ISO_IR 138",): ("iso8859_8",),
    ("ISO_IR 144",): ("iso8859_5",),
    ("ISO_IR 148",): ("iso8859_9",),
    ("ISO_IR 166",): ("iso8859_11",),
    ("ISO_IR 192",): ("latin_1", "漢字\u0301한글Ωж😀\ufeff"),
    ("GB18030",): ("ascii", "你好世界丂乗俓亊😀"),
    ("GBK",): ("ascii", "你好世界丂乗俓亊"),
    ("", "ISO 2022 IR 87"): ("ascii", "漢字山田太郎"),
    ("ISO 2022 IR 13", "ISO 2022 IR 87"): ("ascii", "ｱｲｳｴｵ", "漢字山田太郎"),
    ("", "ISO 2022 IR 87", "ISO 2022 IR 159"): ("ascii", "漢字山田", "龔躔"),
    ("", "ISO 2022 IR 149"): ("ascii", "한글김희중"),
    ("", "ISO 2022 IR 58"): ("ascii", "你好世界"),
    ("ISO 2022 IR 100", "ISO 2022 IR 144", "ISO 2022 IR 126"): ("latin_1", "жЖяЯ", "ΩαβΔ"),
    ("ISO 2022 IR 6", "ISO 2022 IR 127", "ISO 2022 IR 138"): ("ascii", "ابت", "אבג"),
}
"""Values of Specific Character Set, and the letters to write with: names of codecs of one byte, or letters."""


MISREAD = ("ISO 2022 IR 100", "ISO 2022 IR 144", "ISO 2022 IR 126")
"""pydicom does not go back to the first set behind the delimiters of a name (PS3.5 §6.1.2.5.3)."""
_SETS = sorted(CHARACTER_SETS.keys() - {MISREAD})


def _letters(source: str) -> str:
    if not source.isascii():
        return source
    top = 0x7F if source == "ascii" else 0x100
    decoded = bytes(code for code in range(0x20, top) if code != 0x5C).decode(source, "ignore")
    return "".join(letter for letter in decoded if letter.isprintable() and letter not in "^=")


def _text(character_set: tuple[str, ...], *, size: int = 12) -> st.SearchStrategy[str]:
    """Words in one script after the other."""
    words = [st.text(_letters(source), max_size=size) for source in CHARACTER_SETS[character_set]]
    return st.lists(st.one_of(words), max_size=3).map(" ".join)


def _name(character_set: tuple[str, ...]) -> st.SearchStrategy[str]:
    group = st.lists(_text(character_set, size=6), max_size=5).map("^".join)
    return st.lists(group, max_size=3).map("=".join)


_ascii = st.text([chr(code) for code in range(0x20, 0x7F) if code != 0x5C], max_size=20)
_digits = st.text("0123456789", max_size=20)
_decimals = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: f"{number:.10g}"[:16]),
    st.decimals(-9999, 9999, places=3).map(str),
    st.integers(-(10**11), 10**11).map(str),
    st.sampled_from(["", "0", "-0", "+1", ".5", "5.", "1e5", "1E-300", "00012", " 7 "]),
)
_integers = st.one_of(st.integers(-(2**31), 2**31 - 1).map(str), st.sampled_from(["", "+5", "-0", "007", " 3 "]))
_dates = st.one_of(
    st.dates().map(lambda day: day.strftime("%Y%m%d")), st.sampled_from(["", "20200101-", "1999"]), _digits
)
_times = st.one_of(
    st.times().map(lambda time: time.strftime("%H%M%S.%f")), st.sampled_from(["", "12", "0959", "235960"]), _digits
)
_moments = st.builds("{}{}{}".format, _dates, _times, st.sampled_from(["", "+0100", "-1200", "&"]))
_uids = st.one_of(
    st.lists(st.integers(0, 10**9).map(str), min_size=1, max_size=6).map(".".join), st.sampled_from(["", "1.02", "x"])
)
_FORMATTED: dict[str, st.SearchStrategy[str]] = {
    "AE": _ascii,
    "AS": st.one_of(st.sampled_from(["", "012Y", "3W"]), _ascii),
    "CS": st.one_of(st.text("ABCXYZ019_ ", max_size=18), _ascii),
    "DA": _dates,
    "DS": _decimals,
    "DT": _moments,
    "IS": _integers,
    "TM": _times,
    "UI": _uids,
    "UR": _ascii,
}


def _number(vr: str) -> st.SearchStrategy[float]:
    if vr in ("FD", "FL"):
        return st.floats(width=64 if vr == "FD" else 32)
    bits = 8 * NUMBERS[vr]
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if vr[0] == "S" else st.integers(0, (1 << bits) - 1)


def _one(vr: str, character_set: tuple[str, ...]) -> st.SearchStrategy[Any]:
    if vr in NUMBERS:
        return _number(vr)
    if vr == "AT":
        return st.integers(0, 2**32 - 1)
    if vr in _FORMATTED:
        return _FORMATTED[vr]
    if vr == "PN":
        return _name(character_set)
    if vr in _SINGLE:
        return st.one_of(
            _text(character_set), st.lists(_text(character_set), max_size=3).map("\r\n".join), _ascii.map("\\".join)
        )
    return _text(character_set)


def text_values(vr: str, character_set: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """One value or a list of values of a text VR, in letters of that character set."""
    return st.one_of(_one(vr, character_set), st.lists(_one(vr, character_set), max_size=3))


def _value(vr: str, character_set: tuple[str, ...]) -> st.SearchStrategy[Any]:
    if vr in BULK:
        unit = {"OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2}.get(vr, 1)
        return st.binary(max_size=64 // unit).map(lambda raw: raw * unit)
    one = _one(vr, character_set)
    if vr in _SINGLE:
        return one
    return st.one_of(one, st.lists(one, max_size=4), st.none())


_SPECIAL = {0x00080005, 0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280103}
_TAGS: dict[str, list[int]] = {}
for _tag, _row in DicomDictionary.items():
    if _tag >> 16 not in (0, 2, 0xFFFE, 0x7FE0) and _tag & 0xFFFF and _tag not in _SPECIAL:
        _TAGS.setdefault(_row[0], []).append(_tag)
_REPEATED = [
    int(mask.replace("x", "0"), 16) | 0x00020000
    for mask, row in RepeatersDictionary.items()
    if mask[:2] in ("50", "60") and row[0] != "SQ"
]
"""Tags of the dictionary by VR; those that mean something to reading are set by `described`."""

_PLAIN_TAGS = [tag for vr in (*TEXT, *NUMBERS, "AT") for tag in _TAGS[vr]]

ALL_VRS = (*TEXT, *NUMBERS, *BULK, "AT")
Described = dict[int, tuple[str, Any, bool]]
"""Tag → VR, value (of a sequence: a list of these), undefined length."""


@st.composite
def described(
    draw: st.DrawFn, character_set: tuple[str, ...] = (), depth: int = 3, most: int = 8, top: bool = True
) -> Described:
    """A dataset: standard attributes of their VR and of any other, unknown ones, private blocks, sequences."""
    own = draw(st.sampled_from(_SETS)) if draw(st.booleans()) else None
    content: Described = {}
    if own is not None:
        character_set = own
        content[0x00080005] = "CS", list(own) if own else None, False
    if top and draw(st.integers(0, 4)) == 0:  # in items pydicom sometimes takes that of the one before
        content[0x00280103] = "US", draw(st.integers(0, 1)), False
    for _ in range(draw(st.integers(0, most))):
        kind = draw(st.integers(0, 11))
        if kind == 0 and depth:
            tag = draw(st.one_of(st.sampled_from(_TAGS["SQ"]), st.just(0x00091001)))
            items = draw(
                st.lists(st.tuples(described(character_set, depth - 1, 3, top=False), st.booleans()), max_size=3)
            )
            content[tag] = "SQ", items, draw(st.booleans())
        elif kind == 1:
            _add_private(draw, content, character_set)
        elif kind == 2:
            signed = draw(st.booleans())
            tag = draw(st.sampled_from(_TAGS["US or SS"]))
            content[tag] = "SS" if signed else "US", draw(_number("SS" if signed else "US")), False
        else:
            vr = draw(st.sampled_from(ALL_VRS))
            tags = _TAGS.get(vr) if kind > 3 else _REPEATED
            # pydicom reads UN of a known attribute by the dictionary, so it gets one that nobody knows
            tag = draw(st.sampled_from(tags)) if tags and vr != "UN" else 0x00500003
            content[tag] = vr, draw(_value(vr, character_set)), False
    return content


def _add_private(draw: st.DrawFn, content: Described, character_set: tuple[str, ...]) -> None:
    group = draw(st.sampled_from([0x0009, 0x0029, 0x7FE1])) << 16
    block = draw(st.integers(0x10, 0xFF))
    if draw(st.booleans()):
        content[group | block] = "LO", draw(st.sampled_from(["SIEMENS CSA HEADER", "ACME 1", ""])), False
    vr = draw(st.sampled_from(ALL_VRS))
    content[group | block << 8 | draw(st.integers(0, 0xFF))] = vr, draw(_value(vr, character_set)), False


def built(content: Described) -> Dataset:
    """The pydicom dataset."""
    dataset = Dataset()
    for tag, (vr, value, undefined) in content.items():
        if vr == "SQ":
            value = Sequence([_item(*each) for each in value])
        element = DataElement(Tag(tag), vr, value, validation_mode=config.IGNORE)
        element.is_undefined_length = undefined
        dataset[tag] = element
    return dataset


def _item(content: Described, undefined: bool) -> Dataset:
    dataset = built(content)
    dataset.is_undefined_length_sequence_item = undefined
    return dataset


_ODD = [bytes([code]) for code in b" \\1-Aa.^=e+\t\0\x7f\xe4"] + [b"\r\n", b"\x1b(B", b"\x1b$B"]
_raw_values = st.one_of(st.lists(st.sampled_from(_ODD), max_size=12).map(b"".join), st.binary(max_size=24))
"""Value fields of any VR, most of them not what it promises."""


Raw = dict[int, tuple[str, bytes]]
"""Tag → VR and value field."""


@st.composite
def raw_datasets(draw: st.DrawFn) -> Raw:
    """A few elements of any VR with any bytes for a value."""
    content: Raw = {}
    for _ in range(draw(st.integers(1, 4))):
        vr = draw(st.sampled_from((*TEXT, *NUMBERS, *BULK, "AT")))
        own = vr in _TAGS and draw(st.booleans())
        content[draw(st.sampled_from(_TAGS[vr] if own else _PLAIN_TAGS))] = vr, draw(_raw_values)
    return content


def raw_built(content: Raw, syntax: str) -> Dataset:
    """The dataset that pydicom takes for one it has read in that syntax, and writes without a look at the values."""
    dataset = Dataset()
    implicit, little = syntax == IMPLICIT, syntax != BIG_ENDIAN
    for tag, (vr, raw) in content.items():
        dataset._dict[Tag(tag)] = RawDataElement(Tag(tag), vr, len(raw), raw, 0, implicit, little)
    dataset.set_original_encoding(implicit, little, "iso8859")
    return dataset


@dataclass(frozen=True)
class Image:
    """Pixel data: what the file says of them, and what each frame must be when it is read again."""

    dataset: Dataset
    frames: list[bytes]
    table: str


@st.composite
def native_images(draw: st.DrawFn) -> Image:
    """Uncompressed pixel data of whole bytes or single bits, sometimes with more behind them."""
    rows, columns, samples, count = (draw(st.integers(1, most)) for most in (5, 5, 3, 4))
    allocated = draw(st.sampled_from([1, 8, 16, 32, 64]))
    bits = rows * columns * samples * allocated
    size = (bits * count + 7) // 8
    raw = draw(st.binary(min_size=size, max_size=size))
    bitmap = int.from_bytes(raw, "little")
    frames = [
        (bitmap >> number * bits & (1 << bits) - 1).to_bytes((bits + 7) // 8, "little") for number in range(count)
    ]
    dataset = _image(rows, columns, samples, allocated, count)
    more = draw(st.sampled_from([b"", bytes(2)])) if allocated > 1 and size > 2 else b""
    dataset[0x7FE00010] = DataElement(0x7FE00010, "OW" if allocated > 8 else "OB", raw + more)
    return Image(dataset, frames, "")


@st.composite
def encapsulated_images(draw: st.DrawFn) -> Image:
    """Frames that look like JPEG streams in one fragment or several, with and without offset tables."""
    frames = [
        b"\xff\xd8" + draw(st.binary(max_size=30)).replace(b"\xff", b"\0") + b"\xff\xd9"
        for _ in range(draw(st.integers(1, 5)))
    ]
    dataset = _image(4, 4, 1, 8, len(frames))
    table = draw(st.sampled_from(["none", "basic", "extended"]))
    if table == "extended":
        value, offsets, lengths = encapsulate_extended(frames)
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    else:
        value = encapsulate(frames, fragments_per_frame=draw(st.integers(1, 2)), has_bot=table == "basic")
    dataset[0x7FE00010] = DataElement(0x7FE00010, "OB", value)
    return Image(dataset, frames, table)


def _image(rows: int, columns: int, samples: int, allocated: int, frames: int) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.7"), UID("1.2.3")
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.BitsAllocated = rows, columns, samples, allocated
    dataset.NumberOfFrames, dataset.PhotometricInterpretation = frames, "RGB" if samples == 3 else "MONOCHROME2"
    return dataset


@st.composite
def spoiled(draw: st.DrawFn, files: st.SearchStrategy[bytes]) -> bytes:
    """A file with a few things done to it: bits flipped, lengths changed, pieces cut out, doubled or put in."""
    data = bytearray(draw(files))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        piece = draw(st.integers(1, 40))
        match draw(st.integers(0, 7)):
            case 0 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                data[at : at + 2] = pack(draw(st.sampled_from("<>")) + "H", draw(st.sampled_from(_LENGTHS)) & 0xFFFF)
            case 2:
                data[at : at + 4] = pack(draw(st.sampled_from("<>")) + "I", draw(st.sampled_from(_LENGTHS)))
            case 3:
                del data[at:]
            case 4:
                del data[at : at + piece]
            case 5:
                data[at:at] = data[at : at + piece]
            case 6:
                other = draw(files)
                begin = draw(st.integers(0, len(other)))
                data[at:at] = other[begin : begin + piece]
            case 7:
                data[at:at] = draw(st.sampled_from(_PIECES))
    return bytes(data)


_LENGTHS = [0, 1, 2, 3, 4, 8, 0x10, 0x7F, 0x80, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF]
_PIECES = [
    header(0xFFFEE000, "", UNDEFINED), header(0xFFFEE000, "", 0), header(0xFFFEE00D, "", 0), header(0xFFFEE0DD, "", 0),
    header(0x00091001, "SQ", UNDEFINED), header(0x00400275, "UN", UNDEFINED), header(0x00400275, "", UNDEFINED),
    header(0x7FE00010, "OB", UNDEFINED), element(0x00080005, "CS", "ISO 2022 IR 87"),
    element(0x00280103, "US", b"\1\0"), element(0x00280008, "IS", "-1"), element(0x00280010, "UV", b"\xff" * 8),
    bytes(8), b"DICM",
]  # fmt: skip


def written(dataset: Dataset, syntax: str, *, preamble: bool = True) -> bytes:
    """The file pydicom makes of it."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    meta.SourcePresentationAddress = "dicom://here"  # UR: a long header
    dataset.file_meta = meta
    dataset.preamble = bytes(128) if preamble else None
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcmwrite(buffer, dataset, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG_ENDIAN)
    return buffer.getvalue()
