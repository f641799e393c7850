"""Hostile bytes: the reader refuses them, quickly and without taking memory."""

import io
import random
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from struct import pack

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from hounsfield.dicom import dataset_reader
from hounsfield.dicom import source as source_module
from hounsfield.dicom.dataset_reader import LongHeader
from hounsfield.dicom.json_model import metadata_json
from hounsfield.dicom.part10 import Instance, read_instance
from hounsfield.dicom.source import BytesSource, UnreadableInstance
from hounsfield.dicom.validation import validate_for_store
from tests.dicom.elements import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IDENTITY,
    IMPLICIT,
    UNDEFINED,
    element,
    file,
    fragments,
    header,
    item,
    sequence,
)
from tests.dicom.samples import SMALL_SET, Sample


def read(data: bytes) -> Instance:
    return read_instance(BytesSource(data))


@contextmanager
def within(megabytes: float, seconds: float) -> Iterator[None]:
    tracemalloc.start()
    started = time.process_time()
    try:
        yield
    finally:
        spent = time.process_time() - started
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < megabytes * 1e6
    assert spent < seconds


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_a_hundred_thousand_sequences_inside_each_other(vr: str, undefined: bool) -> None:
    depth = 100_000
    if undefined:
        nested = (header(0x00091001, vr, UNDEFINED) + header(0xFFFEE000, "", UNDEFINED)) * depth
    else:
        nested = b"".join(
            header(0x00091001, vr, 20 * n + 8) + header(0xFFFEE000, "", 20 * n) for n in range(depth, 0, -1)
        )
    with within(megabytes=20, seconds=5):
        try:
            read(file(IDENTITY + nested))
        except UnreadableInstance:
            return
    assert vr == "UN"  # of known length and private: opaque bytes, nothing to descend into
    assert not undefined


def test_depth_limit_is_exact() -> None:
    def nested(levels: int) -> bytes:
        content = b""
        for _ in range(levels):
            content = sequence(0x00400275, [item(content, undefined=True)], undefined=True)
        return file(IDENTITY + content)

    instance = read(nested(dataset_reader.MAX_DEPTH))
    assert metadata_json(instance.dataset).count(b"00400275") == dataset_reader.MAX_DEPTH
    with pytest.raises(UnreadableInstance):
        read(nested(dataset_reader.MAX_DEPTH + 1))


@pytest.mark.parametrize("vr", ["UT", "OB", "SQ", "UC", "UN", "OW"])
@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFF, 100_000])
def test_lying_lengths_allocate_nothing(vr: str, length: int) -> None:
    data = file(IDENTITY + header(0x00091001, vr, length) + bytes(1000))
    with within(megabytes=1, seconds=1), pytest.raises(UnreadableInstance):
        read(data)


class Huge:
    """A file of 5 GB, none of it in memory but its beginning; the rest reads as zeros."""

    size = 5_000_000_000

    def __init__(self, start: bytes) -> None:
        self.start = start

    def read_at(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        return self.start[offset : offset + length].ljust(length, b"\0")


def test_text_of_gigabytes_is_refused_unread() -> None:
    start = file(IDENTITY + header(0x00324000, "UT", 4_000_000_000))
    with within(megabytes=1, seconds=1), pytest.raises(UnreadableInstance):
        read_instance(Huge(start))


def test_bulk_of_gigabytes_is_skipped() -> None:
    start = file(IDENTITY + header(0x00420011, "OB", 4_000_000_000))
    with within(megabytes=1, seconds=1):
        assert read_instance(Huge(start)).left_out == {"00420011": "OB"}


def test_element_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_reader, "MAX_ELEMENTS", 10_000)
    many_items = sequence(0x00400275, [item(b"")] * 20_000)
    many_nested = sequence(0x00400275, [item(element(0x00400007, "LO") + element(0x00400008, "SQ"))] * 5_000)
    many_elements = b"".join(element(0x00091000 + n % 0xF000, "LO") for n in range(40_000))
    many_fragments = fragments([b""] * 20_000)
    many_numbers = element(0x00091001, "US", b"\1\2" * 30_000)
    for dataset in (many_items, many_nested, many_elements, many_fragments, many_numbers * 5 + many_items[:-8]):
        with pytest.raises(UnreadableInstance):
            read(file(IDENTITY + dataset))


def test_header_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_reader, "MAX_HEADER_BYTES", 100_000)
    read(file(IDENTITY + element(0x00091001, "UT", "x" * 60_000)))
    for dataset in (element(0x00091001, "UT", "x" * 120_000), element(0x00091001, "LT", "x" * 60_000) * 3):
        with pytest.raises(UnreadableInstance):
            read(file(IDENTITY + dataset))


def test_deflate_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "INFLATED_LIMIT", 1 << 26)
    deflate = zlib.compressobj(9, wbits=-15)
    zeros = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(100)) + deflate.flush()
    with within(megabytes=4, seconds=5), pytest.raises(UnreadableInstance):
        read(file(zeros, DEFLATED))


def test_offset_table_of_gigabytes() -> None:
    start = file(IDENTITY + header(0x7FE00010, "OB", UNDEFINED) + header(0xFFFEE000, "", 4_000_000_000))
    with within(megabytes=1, seconds=1), pytest.raises(UnreadableInstance):
        read_instance(Huge(start))


FILES = [sample.path.read_bytes() for sample in SMALL_SET if sample.path.stat().st_size < 20_000]


def check_anything(data: bytes) -> None:
    """Reads bytes of any kind: either refused as unreadable, or usable to the end."""
    try:
        instance = read(data)
    except UnreadableInstance:
        return
    for api_version in (1, 2):
        for full in (False, True):
            verdict = validate_for_store(instance, api_version=api_version, expected_study="1.2", full=full)
            assert metadata_json(verdict.dataset)
    assert list(instance.dataset) == sorted(instance.dataset)
    if instance.frames is not None:
        for number in (1, instance.frames.count):
            offset, length = instance.frames.span(number)
            if instance.frames.stream_start is None:
                instance.frames.frame(number, data[offset : offset + length])


@given(st.binary(max_size=600))
@example(b"\0" * 600)
def test_random_bytes(data: bytes) -> None:
    check_anything(data)
    check_anything(file(data))
    check_anything(file(data, IMPLICIT))
    check_anything(file(data, BIG_ENDIAN))
    check_anything(file(data, DEFLATED))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_mutated_files(data: st.DataObject) -> None:
    original = data.draw(st.sampled_from(FILES))
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(128, min(len(mutated) - 1, 4000)))
        mutated[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    check_anything(bytes(mutated))


@pytest.mark.parametrize("sample", SMALL_SET, ids=lambda sample: sample.name)
def test_truncated_and_flipped_files(sample: object) -> None:
    original: bytes = sample.path.read_bytes()  # type: ignore[attr-defined]
    chance = random.Random(sample.name)  # type: ignore[attr-defined]
    for _ in range(25):
        check_anything(original[: chance.randrange(len(original))])
        flipped = bytearray(original)
        for _ in range(6):
            flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        check_anything(bytes(flipped))


# --- what pydicom writes is read the same in every native transfer syntax

_words = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", min_size=1, max_size=16)
_names = st.text("abcdefghijklmnopqrstuvwxyzÄÖÜéß", min_size=1, max_size=20)
_attributes = st.fixed_dictionaries(
    {},
    optional={
        "ImageType": st.lists(_words, min_size=2, max_size=4),
        "Modality": _words,
        "PatientName": st.builds("{}^{}".format, _names, _names),
        "InstitutionName": _names,
        "StudyDate": st.dates().map(lambda day: day.strftime("%Y%m%d").rjust(8, "0")),
        "PatientWeight": st.integers(-9999, 9999).map(lambda n: n / 16),
        "SeriesNumber": st.integers(-(2**31), 2**31 - 1),
        "Rows": st.integers(0, 65535),
        "AcquisitionMatrix": st.lists(st.integers(0, 65535), min_size=4, max_size=4),
        "SelectorSSValue": st.integers(-32768, 32767),
        "SelectorULValue": st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3),
        "SelectorSVValue": st.integers(-(2**63), 2**63 - 1),
        "SelectorFDValue": st.floats(allow_nan=False, allow_infinity=False),
        "SelectorFLValue": st.floats(allow_nan=False, allow_infinity=False, width=32),
        "SelectorATValue": st.integers(0, 2**32 - 1),
        "SelectorUTValue": st.text("xyz \\", max_size=200).map(lambda text: text + "."),
        "RedPaletteColorLookupTableData": st.binary(min_size=2, max_size=20).map(lambda raw: raw + raw),
    },
)  # fmt: skip


def _filled(values: dict[str, object], nested: list[dict[str, object]]) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    for keyword, content in values.items():
        setattr(dataset, keyword, content)
    if nested:
        dataset.ContentSequence = Sequence([_filled(values, []) for values in nested])
        dataset.ContentSequence.is_undefined_length = len(nested) % 2 == 0
    return dataset


def _written(dataset: Dataset, syntax: str) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.file_meta = meta
    dataset.preamble = bytes(128)
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG_ENDIAN)
    return buffer.getvalue()


@settings(max_examples=60, deadline=None)
@given(_attributes, st.lists(_attributes, max_size=3))
def test_every_native_syntax_reads_the_same(values: dict[str, object], nested: list[dict[str, object]]) -> None:
    dataset = _filled(values, nested)
    models = []
    for syntax in (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED):
        instance = read(_written(dataset, syntax))
        assert instance.transfer_syntax == syntax
        models.append(instance.dataset)
    assert models[0] == models[1] == models[2] == models[3]
    expected = {f"{int(each.tag):08X}" for each in dataset if each.VR != "OW"}
    assert set(models[0]) == expected
    if "SelectorFLValue" in values:
        assert pack("<f", models[0]["00720076"]["Value"][0]) == pack("<f", values["SelectorFLValue"])
    if "SelectorFDValue" in values:
        assert models[0]["00720074"]["Value"] == [values["SelectorFDValue"]]
    if "PatientName" in values:
        assert models[0]["00100010"]["Value"] == [{"Alphabetic": values["PatientName"]}]
    if "SeriesNumber" in values:
        assert models[0]["00200011"]["Value"] == [values["SeriesNumber"]]


def _long_headers() -> Iterator[tuple[str, bytes]]:
    """Files of less than a megabyte that take the reader long."""
    yield "elements never met", b"".join(header(0x00290010 + n, "LO", 0) for n in range(60_000))
    yield "items", sequence(0x00081115, [item(b"")] * 60_000)
    yield "items without length", sequence(0x00081115, [item(b"", undefined=True)] * 40_000, undefined=True)
    yield "sequences", b"".join(sequence(0x00290010 + n, []) for n in range(40_000))
    yield "bulk values", b"".join(element(0x00290010 + n, "OB") for n in range(40_000))
    yield "numbers", b"".join(element(0x30060050 + n, "DS", b"1\\" * 32_000) for n in range(10))
    yield "text", element(0x00189908, "UC", b"a\\" * 400_000)


@pytest.mark.parametrize(("data"), [pytest.param(data, id=name) for name, data in _long_headers()])
def test_where_only_short_headers_are_wanted_long_ones_are_given_up_soon(data: bytes) -> None:
    source = BytesSource(file(IDENTITY + data))
    assert source.size < 1 << 20
    read_instance(source)
    with within(megabytes=40, seconds=1), pytest.raises(LongHeader):
        read_instance(source, only_short=True)


def test_where_only_short_headers_are_wanted_nothing_is_inflated() -> None:
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    pieces = [compressor.compress(IDENTITY + header(0x7FE00010, "OB", 200 << 20))]
    pieces += [compressor.compress(bytes(1 << 20)) for _ in range(200)]
    source = BytesSource(file(b"".join(pieces) + compressor.flush(), DEFLATED))
    with within(megabytes=1, seconds=0.1), pytest.raises(LongHeader):
        read_instance(source, only_short=True)
    assert read_instance(source).transfer_syntax == DEFLATED


@pytest.mark.parametrize("sample", SMALL_SET, ids=lambda sample: sample.name)
def test_short_headers_are_read_the_same_either_way(sample: Sample) -> None:
    source = BytesSource(sample.path.read_bytes())
    try:
        whole = read_instance(source)
    except UnreadableInstance:
        with pytest.raises(UnreadableInstance):
            read_instance(source, only_short=True)
        return
    try:
        short = read_instance(source, only_short=True)
    except LongHeader:
        assert whole.transfer_syntax == DEFLATED or len(metadata_json(whole.dataset)) > 50_000
        return
    assert (short.dataset, short.problems, short.left_out) == (whole.dataset, whole.problems, whole.left_out)
    assert (short.frames and short.frames.to_bytes()) == (whole.frames and whole.frames.to_bytes())
