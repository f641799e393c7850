"""What random bytes are thrown at: each function takes any bytes and raises only if the code under test is wrong.

They are run by the tests on the kept corpus and on spoiled files (hypothesis), and by ``make fuzz`` as long as asked.
"""

import io
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from hounsfield.archive.index_values import series_values, study_values
from hounsfield.dicom import encodings, uid
from hounsfield.dicom.dataset_reader import Dataset
from hounsfield.dicom.frames import HEADER_SIZE, FrameIndex, entry_range
from hounsfield.dicom.json_dataset import (
    Attribute,
    BadDataset,
    Bulk,
    JsonDataset,
    PixelDescription,
    Pixels,
    write_file,
)
from hounsfield.dicom.json_model import metadata_json
from hounsfield.dicom.native_dataset import PIXEL_DATA
from hounsfield.dicom.native_model import BadDocument, from_xml, to_xml
from hounsfield.dicom.part10 import Instance, read_instance
from hounsfield.dicom.source import ByteSource, BytesSource, FileSource, InflatedSource, UnreadableInstance
from hounsfield.dicom.transcode import CannotTranscode
from hounsfield.dicom.transcode import transcode as write_transcoded
from hounsfield.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, find
from hounsfield.dicom.validation import validate_for_store
from hounsfield.dicom.values import BULK_VRS, NUMBER_CODES
from hounsfield.index.fragments import pack
from hounsfield.storage.layout import DEFAULT_PARTITION, file_key
from hounsfield.web.content_type import MalformedMediaType, boundary_of, parse_content_type
from hounsfield.web.multipart import End, MalformedMultipart, MultipartReader, PartData, PartEnd, PartStart

RLE_LOSSLESS = "1.2.840.10008.1.2.5"

_decode_dataset = msgspec.json.Decoder(JsonDataset).decode
_scratch = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process: one is enough for a million inputs)


def reader(data: bytes) -> None:
    """All that is done with the bytes of an upload before it is stored, from memory and from a file."""
    warm = _read(BytesSource(data))
    forget()
    cold = _read(BytesSource(data))
    assert warm == cold, "what was read before changes what is read"
    os.ftruncate(_scratch.fileno(), 0)
    os.pwrite(_scratch.fileno(), data, 0)
    assert cold == _read(FileSource(_scratch.fileno(), len(data))), "memory and file are read differently"
    if isinstance(cold, Instance):
        _check_stored(cold)
        _check_frames(cold, data)


def forget() -> None:
    """Empties the memories of what was read before."""
    for encoding in (encodings.EXPLICIT_LITTLE, encodings.EXPLICIT_BIG, encodings.IMPLICIT_LITTLE):
        met = encoding.elements, encoding.runs_in, encoding.localised, encoding.sequences
        for memory in (*met, encoding.entries, encoding.typed):
            memory.clear()


def _read(source: ByteSource) -> Instance | str:
    """The instance, or why there is none."""
    try:
        return read_instance(source)
    except UnreadableInstance as error:
        return str(error)


def _check_stored(instance: Instance) -> None:
    """Validation under every setting, and what goes into the index and onto the disk."""
    assert list(instance.dataset) == sorted(instance.dataset)
    for api_version in (1, 2):
        for full in (False, True):
            verdict = validate_for_store(instance, api_version=api_version, expected_study=None, full=full)
            assert not verdict.failed or verdict.comments
            model = metadata_json(verdict.dataset)
            assert msgspec.json.decode(model, type=dict[str, Any]).keys() == verdict.dataset.keys()
            assert pack(model)
            if verdict.failed:
                continue
            study_values(verdict.dataset)
            series_values(verdict.dataset)
            uids = [instance.first(key) for key in ("0020000D", "0020000E", "00080018")]
            assert all(uids), "stored without a name"
            study, series, sop = (uid.normalise(each or "") for each in uids)
            assert file_key(DEFAULT_PARTITION, study, series, sop)


def _check_frames(instance: Instance, data: bytes) -> None:
    """The frame index survives its serialisation, and every frame it names can be had."""
    index = instance.frames
    if index is None:
        return
    serialised = index.to_bytes()
    assert FrameIndex.from_bytes(serialised) == index
    source: ByteSource = BytesSource(data)
    if index.stream_start is not None:
        source = InflatedSource(source, index.stream_start)
    assert index.count >= 1
    for number in {1, min(2, index.count), (index.count + 1) // 2, index.count}:
        offset, length = index.span(number)
        entry, size = entry_range(number)
        header = FrameIndex.from_bytes(serialised[:HEADER_SIZE])
        assert header.span(number, serialised[entry : entry + size]) == (offset, length)
        assert 0 <= offset <= offset + length <= source.size, "a frame outside the file"
        piece = source.read_at(offset, length)
        frame = index.frame(number, piece)
        assert len(index.frame(number, piece, little_endian=True)) == len(frame)
        assert index.encapsulated or len(frame) == (index.frame_bits + 7) // 8


def transcode(data: bytes) -> None:
    """Native files as Explicit VR Little Endian: done or refused, and what comes out is read as what went in."""
    before = _read(BytesSource(data))
    if isinstance(before, Instance):
        syntax = find(before.transfer_syntax)
        if syntax is None or not syntax.native or syntax.uid == EXPLICIT_VR_LITTLE_ENDIAN:
            return  # codecs of others are not ours to fuzz
    out = io.BytesIO()
    try:
        write_transcoded(memoryview(data), out, EXPLICIT_VR_LITTLE_ENDIAN)
    except CannotTranscode:
        return
    if not isinstance(before, Instance):
        return
    after = _read(BytesSource(out.getvalue()))
    assert isinstance(after, Instance), f"of a readable file an unreadable one was made: {after}"
    assert after.transfer_syntax == EXPLICIT_VR_LITTLE_ENDIAN
    _check_kept(before.dataset, after.dataset)


def _check_kept(before: Dataset, after: Dataset) -> None:
    """Every element is still there. There may be more: private ones get the VR that pydicom knows of them."""
    for key, element in before.items():
        made = after.get(key, {})
        if {element["vr"], made.get("vr")} == {"US", "SS"}:
            continue  # Pixel Representation may stand in a file twice, and say this and that
        if element["vr"] != "SQ" or made.get("vr") != "SQ":
            values = element.get("Value", [])
            if element["vr"] in (*NUMBER_CODES, "AT"):  # half a number at the end may have been padded to a whole one
                made = {"vr": made.get("vr"), "Value": made.get("Value", [])[: len(values)]}
            assert made == {"vr": element["vr"], "Value": values} or made == element, f"{key} has changed"
            continue
        for item, kept in zip(element.get("Value", ()), made.get("Value", ()), strict=True):
            _check_kept(item, kept)


def multipart(data: bytes) -> None:
    """A multipart body, in one piece and in many: the same parts or the same refusal.

    The first byte says into how small pieces the body is cut, the second how long the boundary is that follows.
    """
    if len(data) < 3:
        return
    step, length, body = data[0] or 1, data[1] % 70 + 1, data[2:]
    boundary, body = body[:length], body[length:]
    whole = _parts(boundary, [body])
    assert whole == _parts(boundary, [body[at : at + step] for at in range(0, len(body), step)])


def _parts(boundary: bytes, chunks: list[bytes]) -> list[tuple[dict[str, str], bytes]] | None:
    """Headers and content of the parts; None if the body is refused."""
    parser = MultipartReader(boundary, max_header_bytes=300, max_parts=50)
    parts: list[tuple[dict[str, str], bytes]] = []
    inside = ended = False
    try:
        for chunk in chunks:
            for event in parser.feed(chunk):
                assert not ended, "something behind the end"
                if isinstance(event, PartStart):
                    assert not inside
                    inside = True
                    parts.append((dict(event.headers), b""))
                elif isinstance(event, PartData):
                    assert inside
                    assert len(event.data) > 0
                    parts[-1] = parts[-1][0], parts[-1][1] + event.data
                elif isinstance(event, PartEnd):
                    assert inside
                    inside = False
                else:
                    assert isinstance(event, End)
                    ended = True
        parser.finish()
    except MalformedMultipart:
        return None
    assert ended
    assert not inside
    return parts


def content_type(data: bytes) -> None:
    """A Content-Type header: what is understood is understood again when it is written down properly."""
    value = data.decode("latin-1")
    try:
        media_type, parameters = parse_content_type(value)
    except MalformedMediaType:
        return
    with suppress(MalformedMediaType):
        assert 1 <= len(boundary_of(parameters)) <= 70
    quoted = (
        f'{name}="{text.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"'
        for name, text in parameters.items()
    )
    assert parse_content_type("; ".join([media_type, *quoted])) == (media_type, parameters)


class _Piece(NamedTuple):
    """A bulk value."""

    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)


class _Parts:
    """Every BulkDataURI is the value it refers to; one with slashes is compressed frames."""

    def value(self, tag: int, uri: str) -> Bulk:
        if not uri:
            raise BadDataset("refers to nothing", tag)
        return _Piece(uri.encode("utf-8", "replace"))

    def pixels(self, uri: str, described: PixelDescription) -> Pixels:
        pieces = [self.value(PIXEL_DATA, part) for part in uri.split("/")]
        if len(pieces) not in (1, described.frames or 1):
            raise BadDataset("has another number of parts than frames", PIXEL_DATA)
        return Pixels(pieces, RLE_LOSSLESS if "/" in uri else None)


def json_dataset(data: bytes) -> None:
    """A dataset of the DICOM JSON model: refused, or a file that is read as what the JSON says."""
    try:
        dataset = _decode_dataset(data)
        chunks = write_file(dataset, _Parts())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # no JSON
    except BadDataset as problem:
        assert str(problem).endswith(".")
        return
    pieces = [chunk.content if isinstance(chunk, _Piece) else chunk for chunk in chunks]
    file = b"".join(piece for piece in pieces if isinstance(piece, bytes | bytearray))
    instance = _read(BytesSource(file))
    assert isinstance(instance, Instance), f"an unreadable file was written: {instance}"
    _check_stored(instance)
    _check_frames(instance, file)
    for name, raw in dataset.items():
        key = name.upper()
        if key == "00083002" or key.startswith("0002") or key.endswith("0000"):
            continue  # not part of the instance, and not looked at
        vr = msgspec.json.decode(raw, type=Attribute).vr
        assert vr in BULK_VRS or instance.dataset[key]["vr"] == vr, f"{key} is not what it was"


def native_model(data: bytes) -> None:
    """A document of the Native DICOM Model: refused, or written again as what it said."""
    try:
        dataset = from_xml(data)
    except BadDocument as problem:
        assert len(str(problem)) < 200
        return
    document = to_xml(dataset)
    assert from_xml(document) == dataset, "what was written is read as something else"


TARGETS: dict[str, Callable[[bytes], None]] = {
    "reader": reader,
    "transcode": transcode,
    "multipart": multipart,
    "content_type": content_type,
    "json_dataset": json_dataset,
    "native_model": native_model,
}
"""Every target by its name, which is that of its folder in corpus/ as well."""
