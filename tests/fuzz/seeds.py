"""Where fuzzing begins: one small input for each way a file, a body or a header can be put together."""

import json
import zlib
from collections.abc import Callable
from struct import pack
from typing import Any

from tests.dicom import native_model
from tests.dicom.elements import (
    BIG_ENDIAN,
    DEFLATED,
    IDENTITY,
    IMPLICIT,
    RLE,
    element,
    file,
    fragments,
    item,
    meta,
    sequence,
)


def seeds(target: str) -> list[bytes]:
    """The seeds of a target."""
    return _SEEDS[target]()


def _files() -> list[bytes]:
    return [*_native(), *_others(), *(file(IDENTITY + content) for content in _contents())]


def _native() -> list[bytes]:
    """The same small image in every native syntax, with and without what stands around a dataset."""
    explicit, implicit, big = _image("<", explicit=True), _image("<", explicit=False), _image(">", explicit=True)
    deflate = zlib.compressobj(wbits=-15)
    return [
        file(explicit),
        file(implicit, IMPLICIT),
        file(big, BIG_ENDIAN),
        file(deflate.compress(explicit) + deflate.flush(), DEFLATED),
        meta() + explicit,
        explicit,
        bytes(128) + b"DICM" + big,
        file(explicit) + bytes(9),
    ]


def _image(endian: str, *, explicit: bool) -> bytes:
    """Two frames of 2 × 2 pixels of 16 bits, signed."""
    numbers = {0x00280002: 1, 0x00280010: 2, 0x00280011: 2, 0x00280100: 16, 0x00280103: 1, 0x00280106: 0xFFFF}
    values: dict[int, tuple[str, bytes | str]] = {
        0x00080016: ("UI", "1.2.840.10008.5.1.4.1.1.7"),
        0x00080018: ("UI", "1.2.3.3"),
        0x00100020: ("LO", "P1"),
        0x0020000D: ("UI", "1.2.3.1"),
        0x0020000E: ("UI", "1.2.3.2"),
        0x00280004: ("CS", "MONOCHROME2"),
        0x00280008: ("IS", "2"),
        **{tag: ("US", pack(endian + "H", number)) for tag, number in numbers.items()},
        0x7FE00010: ("OW", bytes(16)),
    }
    made = b""
    for tag, (vr, value) in sorted(values.items()):
        value = element(tag, vr, value, endian)[12 if vr == "OW" else 8 :]
        made += element(tag, vr if explicit else "", value, endian)
    return made


def _others() -> list[bytes]:
    """Encapsulated frames, by every table."""
    image = _image("<", explicit=True)[:-28]  # without Pixel Data
    two = [b"\xff\xd8ab\xff\xd9", b"\xff\xd8cd\xff\xd9", b"ef"]
    tables = element(0x7FE00001, "OV", pack("<2Q", 0, 14)) + element(0x7FE00002, "OV", pack("<2Q", 6, 6))
    return [
        file(image + fragments(two), RLE),
        file(image + fragments(two, pack("<2I", 0, 14)), RLE),
        file(image + tables + fragments(two), RLE),
    ]


def _contents() -> list[bytes]:
    """Elements of every VR, character sets, private blocks, sequences of every kind."""
    text = element(0x00400007, "LO", "text")
    implicit = element(0x00400007, "", b"text") + element(0x00280106, "", b"\xff\xff")
    vrs = {
        "AE": b"AE", "AS": b"012Y", "AT": bytes(4), "CS": b"A\\B ", "DA": b"20200101", "DS": b"1.5\\-2e3",
        "DT": b"2020+0100", "FD": bytes(8), "FL": b"\0\0\xc0\x7f", "IS": b"12\\-3", "LO": b"a\\b ", "LT": b"a\r\n ",
        "PN": b"A^B=C=D\\E", "SH": b"ab", "SL": bytes(4), "SS": bytes(2), "ST": b"ab", "SV": bytes(8),
        "TM": b"120000.5", "UC": b"ab", "UI": b"1.2\0", "UL": bytes(4), "UR": b"ab", "US": bytes(2), "UT": b"ab",
        "UV": bytes(8), "OB": b"ab", "OD": bytes(8), "OF": bytes(4), "OL": bytes(4), "OV": bytes(8), "OW": b"ab",
        "UN": b"ab",
    }  # fmt: skip
    every = b"".join(element(0x00091001 + number, vr, raw) for number, (vr, raw) in enumerate(vrs.items()))
    japanese = b"Yamada=\x1b$B;3ED\x1b(B"
    return [
        element(0x00090010, "LO", "ACME") + every,
        element(0x00080005, "CS", "ISO 2022 IR 6\\ISO 2022 IR 87") + element(0x00100010, "PN", japanese),
        element(0x00080005, "CS", "ISO_IR 192") + element(0x00100010, "PN", "Ä漢".encode()),
        element(0x00080005, "CS", "GB18030") + element(0x00100010, "PN", "你好".encode("gb18030")),
        sequence(0x00400275, [item(text), item(b""), item(text, undefined=True)]),
        sequence(0x00400275, [item(text, undefined=True), item(sequence(0x00400275, [item(text)]))], undefined=True),
        sequence(0x00091001, [item(implicit, undefined=True)], "UN", undefined=True),
        element(0x00400275, "UN", item(implicit)) + element(0x00100010, "UN", b"A^B "),
        sequence(0x00880200, [item(fragments([b"ab"]))]),
        element(0x00189810, "UN", b"\xff\xff") + element(0x00280103, "US", b"\1\0"),
    ]


def _bodies() -> list[bytes]:
    """Multipart bodies behind the sizes of pieces and boundary (see targets.multipart)."""
    head = b"Content-Type: application/dicom\r\n\r\n"
    body = b"--b\r\n" + head + b"one\r\n--b \t\r\n" + head + b"two\r\n--bx\r\n--b--\r\nbehind"
    return [
        b"\x05\x00b" + body,
        b"\x01\x00b" + b"before\r\n" + body,
        b"\xff\x02a b" + b"--a b\r\nA: x\r\n y\r\nA:z\r\n\r\n\r\n--a b\r\n\r\n\r\n--a b--",
    ]


def _headers() -> list[bytes]:
    return [
        b'Multipart/Related; type="application/dicom"; boundary="a b;c"',
        b"multipart/related;type=application/dicom;boundary=x=y ; ; start=1",
        rb'a/b; c="say \"hi\" \\"; C=2',
    ]


def _json_datasets() -> list[bytes]:
    """Attributes of every VR, bulk values of each kind, sequences."""
    numbers = ("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV", "DS", "IS")
    texts = ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
    bulk = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")
    values: list[tuple[str, str, Any]] = [
        *((vr, "Value", [1, 2]) for vr in numbers),
        *((vr, "Value", ["1.5", None]) for vr in numbers),
        *((vr, "Value", ["12"]) for vr in texts),
        *((vr, "Value", ["Ä", None]) for vr in texts),
        *((vr, "InlineBinary", "AAAAAAAAAAA=") for vr in bulk),
        *((vr, "BulkDataURI", "bulkbulk") for vr in (*bulk, *numbers, *texts)),
        ("AT", "Value", ["0020000D"]),
        ("PN", "Value", [{"Alphabetic": "A^B", "Ideographic": "C", "Phonetic": "D"}, None]),
        ("SQ", "Value", [{"00400007": {"vr": "LO", "Value": ["Ä"]}}, {}]),
    ]
    whole: dict[str, Any] = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"]},
        "00080018": {"vr": "UI", "Value": ["1.2.3.3"]},
        "00083002": {"vr": "UI", "Value": ["1.2.840.10008.1.2.5"]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3.1"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3.2"]},
        "00280008": {"vr": "IS", "Value": [2]},
        "00280010": {"vr": "US", "Value": [1]},
        "00280011": {"vr": "US", "Value": [4]},
        "00280100": {"vr": "US", "Value": [8]},
        "7FE00010": {"vr": "OB", "BulkDataURI": "pix/els"},
    }
    native = whole | {"7FE00010": {"vr": "OW", "BulkDataURI": "eightlng"}}
    single = [{"00091001": {"vr": vr, name: value}} for vr, name, value in values]
    return [json.dumps(dataset).encode() for dataset in (whole, native, *single)]


def _documents() -> list[bytes]:
    """Documents of the Native DICOM Model with everything it has."""
    return [
        native_model.EXAMPLE,
        b"<NativeDicomModel/>",
        '<?xml version="1.0" encoding="UTF-16"?><NativeDicomModel><DicomAttribute tag="00100020" vr="LO"><Value '
        'number="2">é</Value></DicomAttribute></NativeDicomModel>'.encode("utf-16"),
        b'<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel>&b;</NativeDicomModel>',
        b'<NativeDicomModel><DicomAttribute tag="00290001" vr="UN" privateCreator="A"><BulkData uri="x"/>'
        b"</DicomAttribute></NativeDicomModel>",
    ]


_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "reader": _files,
    "transcode": _files,
    "multipart": _bodies,
    "content_type": _headers,
    "json_dataset": _json_datasets,
    "native_model": _documents,
}
