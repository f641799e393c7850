"""The transfer syntax of a JPEG stream, read from its markers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from hounsfield.dicom.jpeg import transfer_syntax_of
from hounsfield.dicom.source import BytesSource
from tests.dicom.samples import pydicom_read

BASELINE, EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS, LOSSLESS_FIRST_ORDER = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"


def segment(code: int, content: bytes = b"") -> bytes:
    return bytes((0xFF, code)) + (len(content) + 2).to_bytes(2) + content


def stream(frame: int, predictor: int = 0, components: int = 1, before: bytes = b"") -> bytes:
    scan = bytes([components]) + bytes(2 * components) + bytes([predictor, 0, 0])
    return b"\xff\xd8" + before + segment(frame, bytes(9)) + segment(0xDA, scan) + b"data" * 10


def syntax(data: bytes) -> str | None:
    return transfer_syntax_of(BytesSource(data))


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize(
    ("frame", "predictor", "uid"),
    [
        (0xC0, 0, BASELINE),
        (0xC1, 0, EXTENDED),
        (0xC3, 1, LOSSLESS_FIRST_ORDER),
        (0xC3, 4, LOSSLESS),
        (0xC2, 0, None),  # progressive
        (0xC9, 0, None),  # arithmetic coding
        (0xF7, 0, None),  # JPEG-LS
    ],
)
def test_the_frame_header_and_the_predictor_decide(
    frame: int, predictor: int, uid: str | None, components: int
) -> None:
    assert syntax(stream(frame, predictor, components)) == uid


def test_what_is_in_front_of_the_frame_header_does_not_matter() -> None:
    profile = b"".join(segment(0xE2, bytes(65_000)) for _ in range(50))
    tables = segment(0xC4, b"\xff\xc3") + segment(0xDB, b"\xff\xda") + segment(0xCC, bytes(4))
    assert syntax(stream(0xC0, before=profile + b"\xff\xff\xff" + tables + b"\xff\x01")) == BASELINE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8" + b"\xff" * 100_000,
        b"\xff\xd8" + segment(0xE0) * 100_000,
        b"\xff\xd8" + segment(0xC3, bytes(9)) + segment(0xDA, b"\xff"),
        stream(0xC0)[1:],
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\xff\x4f\xff\x51" + bytes(100),  # JPEG 2000
        b"\xff\xd8no marker",
    ],
)
def test_others_have_none(data: bytes) -> None:
    found = syntax(data)
    assert found is None or (found == LOSSLESS and b"\xff\xc3" in data)


@given(st.binary(max_size=200))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    assert syntax(b"\xff\xd8" + data) in (None, BASELINE, EXTENDED, LOSSLESS, LOSSLESS_FIRST_ORDER)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["SC_rgb_jpeg_dcmtk.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm", "JPEG-lossy.dcm"])
def test_real_streams_are_of_the_syntax_of_their_file(name: str) -> None:
    ds = pydicom_read(Path(str(get_testdata_file(name, download=False))))
    assert syntax(next(generate_frames(ds.PixelData, number_of_frames=1))) == ds.file_meta.TransferSyntaxUID
