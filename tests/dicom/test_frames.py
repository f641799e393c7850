"""Frame positions: every frame comes out by one range, and is the frame pydicom finds."""

import time
import zlib
from collections.abc import Callable
from struct import pack

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pack_bits

from hounsfield.dicom.frames import ENTRY_SIZE, HEADER_SIZE, FrameIndex, entry_range
from hounsfield.dicom.part10 import read_instance
from hounsfield.dicom.source import ByteSource, BytesSource, FileSource, InflatedSource
from hounsfield.errors import InternalError, NotFound
from tests.dicom.elements import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IDENTITY,
    RLE,
    UNDEFINED,
    element,
    file,
    fragments,
    header,
    item,
)
from tests.dicom.samples import LARGE_SET, SMALL_SET, Sample, pydicom_read


def image(
    pixels: bytes, *, rows: int = 4, columns: int = 4, allocated: int = 8, frames: int | None = 1, samples: int = 1,
    photometric: str = "MONOCHROME2", endian: str = "<", before: bytes = b"",
) -> bytes:  # fmt: skip
    """A dataset of an image; ``pixels`` is the whole Pixel Data element."""

    def number(tag: int, value: int) -> bytes:
        return element(tag, "US", pack(endian + "H", value), endian)

    parts = [number(0x00280002, samples), element(0x00280004, "CS", photometric, endian)]
    if frames is not None:
        parts.append(element(0x00280008, "IS", str(frames), endian))
    parts += [number(0x00280010, rows), number(0x00280011, columns), number(0x00280100, allocated)]
    return b"".join(parts) + before + pixels


def index_of(source: ByteSource) -> FrameIndex | None:
    return read_instance(source).frames


def indexed(data: bytes) -> FrameIndex:
    found = index_of(BytesSource(data))
    assert found is not None
    return found


def all_frames(source: ByteSource, index: FrameIndex, *, little_endian: bool = False) -> list[bytes]:
    """Every frame, each through the header and its own entry as a database would hand them out."""
    stored = index.to_bytes()
    found = []
    for number in range(1, index.count + 1):
        offset, length = entry_range(number)
        light = FrameIndex.from_bytes(stored[:HEADER_SIZE])
        at, size = light.span(number, stored[offset : offset + length])
        assert (at, size) == index.span(number) == FrameIndex.from_bytes(stored).span(number)
        found.append(bytes(light.frame(number, source.read_at(at, size), little_endian=little_endian)))
    return found


# --- native


@pytest.mark.parametrize("frames", [None, 1])
def test_final_padding_is_no_part_of_the_frame(frames: int | None) -> None:
    data = file(image(element(0x7FE00010, "OB", bytes(range(9)) + b"\0"), rows=3, columns=3, frames=frames))
    assert all_frames(BytesSource(data), indexed(data)) == [bytes(range(9))]


@given(
    rows=st.integers(1, 9), columns=st.integers(1, 9), frames=st.integers(1, 9), samples=st.sampled_from([1, 3]),
    allocated=st.sampled_from([8, 16, 32, 64]),
)  # fmt: skip
def test_native_frames(rows: int, columns: int, frames: int, samples: int, allocated: int) -> None:
    size = rows * columns * samples * allocated // 8
    whole = np.random.default_rng(size).bytes(size * frames)
    pixels = element(0x7FE00010, "OW", whole + b"\0" * (len(whole) % 2))
    data = file(image(pixels, rows=rows, columns=columns, allocated=allocated, frames=frames, samples=samples))
    index = indexed(data)
    assert len(index.to_bytes()) == HEADER_SIZE
    assert all_frames(BytesSource(data), index) == [whole[n * size : (n + 1) * size] for n in range(frames)]


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), frames=st.integers(1, 9))
def test_bit_frames_are_realigned(rows: int, columns: int, frames: int) -> None:
    bits = np.random.default_rng(rows * columns * frames).integers(0, 2, (frames, rows * columns), dtype="u1")
    data = file(
        image(element(0x7FE00010, "OB", pack_bits(bits)), rows=rows, columns=columns, allocated=1, frames=frames)
    )
    found = all_frames(BytesSource(data), indexed(data))
    assert found == [pack_bits(frame, pad=False) for frame in bits]


@pytest.mark.parametrize(("allocated", "kind"), [(16, "u2"), (32, "u4"), (64, "u8")])
def test_big_endian_samples(allocated: int, kind: str) -> None:
    samples = np.arange(100, 124, dtype=kind).reshape(2, 12) * 257
    pixels = element(0x7FE00010, "OW", samples.astype(">" + kind).tobytes(), ">")
    data = file(image(pixels, rows=3, columns=4, allocated=allocated, frames=2, endian=">"), BIG_ENDIAN)
    source, index = BytesSource(data), indexed(data)
    assert all_frames(source, index) == [frame.astype(">" + kind).tobytes() for frame in samples]
    assert all_frames(source, index, little_endian=True) == [frame.astype("<" + kind).tobytes() for frame in samples]


def test_bytes_in_big_endian_words() -> None:
    plain = bytes(range(27)) + b"\0"
    swapped = b"".join(plain[n + 1 : n + 2] + plain[n : n + 1] for n in range(0, 28, 2))
    data = file(image(element(0x7FE00010, "OW", swapped, ">"), rows=3, columns=3, frames=3, endian=">"), BIG_ENDIAN)
    found = all_frames(BytesSource(data), indexed(data), little_endian=True)
    assert found == [plain[:9], plain[9:18], plain[18:27]]


def test_subsampled_colour() -> None:
    pixels = element(0x7FE00010, "OB", bytes(range(64)))
    data = file(image(pixels, samples=3, photometric="YBR_FULL_422", frames=2))
    assert all_frames(BytesSource(data), indexed(data)) == [bytes(range(32)), bytes(range(32, 64))]


def test_deflated_offsets_count_in_the_inflated_dataset() -> None:
    dataset = image(element(0x7FE00010, "OW", bytes(range(64))), allocated=16, frames=2)
    deflate = zlib.compressobj(wbits=-15)
    data = file(deflate.compress(dataset) + deflate.flush(), DEFLATED)
    index = indexed(data)
    assert index.stream_start is not None
    inflated = InflatedSource(BytesSource(data), index.stream_start)
    assert all_frames(inflated, index) == [bytes(range(32)), bytes(range(32, 64))]


def test_frames_that_are_not_there() -> None:
    data = file(image(element(0x7FE00010, "OB", bytes(40)), frames=5))
    index = indexed(data)
    assert index.count == 2
    for number in (0, -1, 3, 1 << 40):
        with pytest.raises(NotFound):
            index.span(number)


@pytest.mark.parametrize(
    "dataset",
    [
        IDENTITY,
        image(element(0x7FE00010, "OB", b"")),
        image(element(0x7FE00010, "OB", bytes(4))),
        image(element(0x7FE00010, "OB", bytes(16)), rows=0),
        image(element(0x7FE00010, "OB", bytes(16)), allocated=0),
        element(0x7FE00010, "OB", bytes(16)),
        image(element(0x7FE00008, "OF", bytes(64)), allocated=32),
        image(element(0x7FE00009, "OD", bytes(128)), allocated=64),
        image(fragments([]), frames=1),
        image(fragments([b"a" * 10] * 5), frames=2),
    ],
    ids=[
        "no pixels", "empty", "too short", "no rows", "no bits", "no description", "float", "double", "no fragment",
        "five fragments for two frames",
    ],
)  # fmt: skip
def test_instances_without_frames(dataset: bytes) -> None:
    assert index_of(BytesSource(file(dataset))) is None


def test_native_bytes_under_a_compressed_syntax_are_no_frames() -> None:
    assert index_of(BytesSource(file(image(element(0x7FE00010, "OB", bytes(16))), RLE))) is None


def test_image_description_behind_the_pixels_or_of_another_kind() -> None:
    odd = element(0x00280010, "UN", b"\1\0") + element(0x00280011, "US", pack("<H", 4)) + element(0x00280100, "LO", "x")
    assert index_of(BytesSource(file(odd + element(0x7FE00010, "OB", bytes(16))))) is None


# --- encapsulated

FRAMES = [bytes([n]) * (2 * n + 20) for n in range(1, 8)]


def encapsulated(value: bytes) -> bytes:
    return header(0x7FE00010, "OB", UNDEFINED) + value + header(0xFFFEE0DD, "", 0)


@pytest.mark.parametrize("has_table", [False, True])
@pytest.mark.parametrize("per_frame", [1, 3])
def test_fragments_and_the_basic_offset_table(has_table: bool, per_frame: int) -> None:
    value = encapsulate(FRAMES, fragments_per_frame=per_frame, has_bot=has_table)
    data = file(image(encapsulated(value), frames=len(FRAMES)), RLE)
    index = index_of(BytesSource(data))
    if per_frame > 1 and not has_table:
        assert index is None
        return
    assert index is not None
    assert len(index.to_bytes()) == HEADER_SIZE + ENTRY_SIZE * len(FRAMES)
    assert all_frames(BytesSource(data), index) == FRAMES == list(generate_frames(value, number_of_frames=len(FRAMES)))


def test_all_fragments_belong_to_a_single_frame() -> None:
    data = file(image(fragments([b"aa", b"bbbb", b"cc"]), frames=1), RLE)
    assert all_frames(BytesSource(data), indexed(data)) == [b"aabbbbcc"]


def test_extended_offset_table() -> None:
    value, offsets, lengths = encapsulate_extended(FRAMES)
    tables = element(0x7FE00001, "OV", offsets) + element(0x7FE00002, "OV", lengths)
    data = file(image(encapsulated(value), frames=len(FRAMES), before=tables), RLE)
    assert all_frames(BytesSource(data), indexed(data)) == FRAMES


def test_extended_offset_table_groups_fragments() -> None:
    parts = [b"11", b"1111", b"22", b"33", b"33"]
    starts = [0, 22, 32]
    tables = element(0x7FE00001, "OV", pack("<3Q", *starts)) + element(0x7FE00002, "OV", pack("<3Q", 6, 2, 4))
    data = file(image(fragments(parts), frames=3, before=tables), RLE)
    assert all_frames(BytesSource(data), indexed(data)) == [b"111111", b"22", b"3333"]


@pytest.mark.parametrize(
    "table",
    [
        pack("<3I", 0, 11, 22),
        pack("<3I", 10, 20, 40),
        pack("<3I", 0, 20, 20),
        pack("<3I", 0, 40, 20),
        pack("<3I", 0, 20, 0xFFFFFFF0),
        pack("<2I", 0, 20),
        b"\0\0\0",
    ],
)
def test_tables_that_lie_are_not_believed(table: bytes) -> None:
    parts = [bytes([n]) * 2 for n in range(5)]
    data = file(image(fragments(parts, table + b"\0" * (len(table) % 2)), frames=3), RLE)
    assert index_of(BytesSource(data)) is None
    data = file(image(fragments(parts, table + b"\0" * (len(table) % 2)), frames=5), RLE)
    assert all_frames(BytesSource(data), indexed(data)) == parts  # one fragment a frame: no table needed


def test_frames_without_tables_by_how_jpeg_begins() -> None:
    parts = [b"\xff\xd8aa", b"bb", b"\xff\xd8cc", b"\xff\xd8dd", b"ee\xff\xd9"]
    data = file(image(fragments(parts), frames=3), "1.2.840.10008.1.2.4.50")
    assert all_frames(BytesSource(data), indexed(data)) == [b"\xff\xd8aabb", b"\xff\xd8cc", b"\xff\xd8ddee\xff\xd9"]


def test_fewer_fragments_than_frames() -> None:
    data = file(image(fragments([b"aa", b"bb"]), frames=9), RLE)
    assert all_frames(BytesSource(data), indexed(data)) == [b"aa", b"bb"]


def test_bytes_of_another_span_are_noticed() -> None:
    data = file(image(fragments([b"aaaa", b"bbbb"]), frames=2), RLE)
    index = indexed(data)
    offset, length = index.span(1)
    for wrong in (data[offset + 2 : offset + 2 + length], data[offset : offset + length - 1]):
        with pytest.raises(InternalError):
            index.frame(1, wrong)
    native = indexed(file(image(element(0x7FE00010, "OB", bytes(16)))))
    with pytest.raises(InternalError):
        native.frame(1, bytes(15))


@pytest.mark.parametrize("damaged", [b"", b"\0" * HEADER_SIZE, b"\1" * (HEADER_SIZE - 1), b"\2" * (HEADER_SIZE + 1)])
def test_damaged_index(damaged: bytes) -> None:
    with pytest.raises(InternalError):
        FrameIndex.from_bytes(damaged)


# --- size


class Sparse:
    """A large file of which only some stretches are not zero."""

    def __init__(self, size: int, stretches: dict[int, bytes]) -> None:
        self.size = size
        self.stretches = stretches
        self.asked = 0

    def read_at(self, offset: int, length: int) -> bytes:
        length = max(min(length, self.size - offset), 0)
        self.asked += length
        found = bytearray(length)
        for start, content in self.stretches.items():
            low, high = max(start, offset), min(start + len(content), offset + length)
            if low < high:
                found[low - offset : high - offset] = content[low - start : high - start]
        return bytes(found)


def test_native_frames_beyond_four_gigabytes() -> None:
    length, count = 4_000_000_000, 1000
    start = file(image(header(0x7FE00010, "OW", length), rows=1000, columns=2000, allocated=16, frames=count))
    source = Sparse(len(start) + length, {0: start})
    index = index_of(source)
    assert index is not None
    assert index.span(count) == (len(start) + 999 * 4_000_000, 4_000_000)
    assert source.asked < 1 << 20


def test_fragments_beyond_four_gigabytes() -> None:
    start = file(image(header(0x7FE00010, "OB", UNDEFINED), frames=5) + item(b""), RLE)
    length = 3_000_000_000
    stretches = {0: start}
    at = len(start)
    for _ in range(5):
        stretches[at] = header(0xFFFEE000, "", length)
        at += 8 + length
    stretches[at] = header(0xFFFEE0DD, "", 0)
    source = Sparse(at + 8, stretches)
    index = index_of(source)
    assert index is not None
    assert index.span(5) == (len(start) + 4 * (length + 8), length + 8)
    assert source.asked < 1 << 20


@pytest.mark.parametrize("size", [100, 20_000])
def test_ten_thousand_frames(size: int) -> None:
    value = encapsulate([bytes(size)] * 10_000, has_bot=False)
    source = Counting(file(image(encapsulated(value), frames=10_000), RLE))
    started = time.process_time()
    index = index_of(source)
    assert time.process_time() - started < 1
    assert index is not None
    assert (index.count, len(index.to_bytes())) == (10_000, HEADER_SIZE + 10_000 * ENTRY_SIZE)
    assert source.asked < 2_000_000
    offset, length = index.span(9_999)
    assert index.frame(9_999, source.read_at(offset, length)) == bytes(size)


class Counting(BytesSource):
    """Counts the bytes asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked = 0

    def read_at(self, offset: int, length: int) -> bytes:
        found = super().read_at(offset, length)
        self.asked += len(found)
        return found


# --- real files


def _native_array(sample: Sample) -> Callable[[int], bytes]:
    """pydicom's decoded native frames, as little-endian bytes."""
    dataset = pydicom_read(sample.path, force=True)
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)

    def frame(number: int) -> bytes:
        array, _ = decoder.as_array(dataset, index=number - 1, raw=True)
        if dataset.BitsAllocated == 1:
            return pack_bits(array.reshape(-1), pad=False)
        return bytes(array.astype(array.dtype.newbyteorder("<")).tobytes())

    return frame


NATIVE = {EXPLICIT, "1.2.840.10008.1.2", BIG_ENDIAN, DEFLATED}


IMAGES = [
    sample
    for sample in [*SMALL_SET, *LARGE_SET]
    if sample.frames and sample.outcomes[2] != "either" and "broken" not in sample.path.parts
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("sample", IMAGES, ids=lambda sample: sample.name)
def test_real_files(sample: Sample) -> None:
    with FileSource(sample.path) as file_source:
        source: ByteSource = file_source
        instance = read_instance(source)
        index = instance.frames
        if index is None:
            assert "7FE00010" not in instance.left_out
            return
        assert index.count == sample.frames
        if index.stream_start is not None:
            source = InflatedSource(source, index.stream_start)
        numbers = sorted({1, index.count // 2 + 1, index.count})
        found = {n: index.frame(n, source.read_at(*index.span(n)), little_endian=True) for n in numbers}
        dataset = pydicom_read(sample.path, force=True)
        if instance.transfer_syntax in NATIVE:
            if dataset.get("PlanarConfiguration") == 1 or dataset.PhotometricInterpretation.endswith("422"):
                return  # pydicom reorders these
            expected = _native_array(sample)
            assert found == {n: expected(n) for n in numbers}
        else:
            theirs = list(generate_frames(dataset.PixelData, number_of_frames=index.count))
            assert found == {n: theirs[n - 1] for n in numbers}
