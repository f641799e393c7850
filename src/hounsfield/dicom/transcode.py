"""Whole instances in another transfer syntax, without touching what else they say (retrieve.md §5).

Element values are copied byte for byte (or byte-swapped), never parsed, so that a name in a strange character set or a
number that is no number comes out as it went in. Of the file meta, the transfer syntax and the group length change;
group lengths in the dataset (retired, PS3.5 §7.2) are dropped, because they would be wrong. No UID is added but to a
file without file meta. Where pixel data is decoded or encoded, the attributes that describe it follow; only a lossy
syntax adds any: those of lossy compression (PS3.3 §C.7.6.1.1.5).

Frames go through one at a time, so memory depends on the size of a frame and of the header.
"""

import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import BinaryIO, Protocol

from hounsfield.dicom.codecs.capabilities import ENCODED
from hounsfield.dicom.file_meta import (
    GROUP_LENGTH,
    TRANSFER_SYNTAX_UID,
    MetaElements,
    file_meta,
    meta_text,
    new_elements,
    read_file_meta,
)
from hounsfield.dicom.fragments import PixelData
from hounsfield.dicom.frame_conversion import Converted, convert
from hounsfield.dicom.frames import FrameIndex
from hounsfield.dicom.image_elements import (
    EXTENDED_LENGTHS,
    EXTENDED_TABLE,
    LOSSY_RATIO,
    RATIO_BYTES,
    described,
    frame_index,
    holds_fragments,
    image_values,
    pixel_format,
)
from hounsfield.dicom.native_dataset import (
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED,
    AnyElement,
    DatasetError,
    Element,
    Encoding,
    Item,
    NewElement,
    Writer,
    header,
    looks_explicit,
    marker,
    read_elements,
    read_items,
)
from hounsfield.dicom.pixels import PixelFormat
from hounsfield.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, TransferSyntax, find
from hounsfield.errors import NotAcceptable

MAX_INFLATED_BYTES = 100 * 1024 * 1024
"""What a deflated dataset may grow to: a few kilobytes of deflate stream can hold gigabytes."""
MAX_FRAME_BYTES = 100 * 1024 * 1024
"""Largest frame that is decoded (retrieve.md §10.8)."""

_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_FLOAT_PIXELS = (0x7FE00008, 0x7FE00009)
_ITEM = 0xFFFEE000
_LARGEST_OFFSET = 0xFFFFFFFF


class CannotTranscode(NotAcceptable):
    """No representation of an instance in the asked transfer syntax can be made."""

    def __init__(self, source: str, target: str, reason: str = "") -> None:
        super().__init__(f"The instance cannot be transcoded from {source} to {target}{reason and ': ' + reason}.")
        self.source = source
        self.target = target


def can_be_written(source: TransferSyntax, target: TransferSyntax) -> bool:
    """Whether a dataset in one syntax can be written in the other, if its pixel data can."""
    return target.uid in ENCODED and (source.native or source.encapsulated)


class Output(Protocol):
    """Where a transcoded file is written."""

    def write(self, data: bytes | bytearray | memoryview, /) -> object:
        """Append ``data``."""


def transcode(
    data: memoryview,
    out: BinaryIO,
    target_uid: str,
    *,
    source_uid: str | None = None,
    max_frame_bytes: int = MAX_FRAME_BYTES,
    max_inflated_bytes: int = MAX_INFLATED_BYTES,
    each_frame: Callable[[], None] = lambda: None,
) -> None:
    """Write a whole Part 10 file in another syntax to ``out``, an empty file that can be written at random.

    ``source_uid`` is the transfer syntax of a file whose file meta names none. The new file starts with 128 zero bytes.
    ``each_frame`` is called when one is done. Raises ``CannotTranscode``, also for bytes that are not what the syntax
    promises; ``out`` then holds anything.
    """
    try:
        meta, start = read_file_meta(data)
    except DatasetError as problem:
        raise CannotTranscode("unknown", target_uid, str(problem)) from None
    uid = (meta_text(meta, TRANSFER_SYNTAX_UID) or source_uid or "unknown").rstrip(" \0")
    source, target = find(uid), find(target_uid)
    if source is None or target is None or not can_be_written(source, target):
        raise CannotTranscode(uid, target_uid)
    job = _Job(data[start:], meta, source, target, out, max_frame_bytes, max_inflated_bytes, each_frame)
    try:
        job.run()
    except NotAcceptable as problem:
        raise CannotTranscode(uid, target_uid, problem.message.rstrip(".")) from problem
    except (DatasetError, zlib.error) as problem:
        raise CannotTranscode(uid, target_uid, str(problem)) from None
    except RecursionError:
        raise CannotTranscode(uid, target_uid, "sequences are nested too deep") from None


@dataclass(slots=True)
class _Job:
    """One instance on its way: the dataset read, its frames converted, the new file written."""

    dataset: memoryview
    meta: MetaElements
    source: TransferSyntax
    target: TransferSyntax
    out: BinaryIO
    max_frame_bytes: int
    max_inflated_bytes: int
    each_frame: Callable[[], None]

    def run(self) -> None:
        """See transcode."""
        if self.source.deflated:
            self.dataset = memoryview(inflated(self.dataset, self.max_inflated_bytes))
            if self.target.uid == EXPLICIT_VR_LITTLE_ENDIAN:
                # Every byte as it was.
                self.out.write(_new_file_meta(self.meta, [], self.target.uid))
                self.out.write(self.dataset)
                return
        implicit = self.source.implicit and not looks_explicit(self.dataset)
        encoding = Encoding(implicit, self.source.little_endian)
        elements = read_elements(self.dataset, encoding)
        self.out.write(_new_file_meta(self.meta, elements, self.target.uid))
        pixels = next((element for element in elements if element.tag == PIXEL_DATA), None)
        body: Output = _Deflating(self.out) if self.target.deflated else self.out
        if pixels is None or (self.source.native and self.target.native):
            if self.target.encapsulated and any(element.tag in _FLOAT_PIXELS for element in elements):
                raise DatasetError("floating point pixel data cannot be encapsulated")
            self._write(body, encoding, elements, elements)
        elif self.source.encapsulated is not isinstance(pixels.value, PixelData):
            raise DatasetError("its pixel data is not of that syntax")
        else:
            self._write_image(body, encoding, elements, pixels)
        if isinstance(body, _Deflating):
            body.finish()

    def _write(
        self, body: Output, encoding: Encoding, part: Sequence[AnyElement], elements: Sequence[AnyElement]
    ) -> None:
        target = Encoding(self.target.implicit, self.target.little_endian)
        gathered, size = [], 0
        for chunk in Writer(encoding, target).dataset(part, elements):
            gathered.append(chunk)
            size += len(chunk)
            if size > 1 << 20:
                body.write(b"".join(gathered))
                gathered, size = [], 0
        body.write(b"".join(gathered))

    def _write_image(self, body: Output, encoding: Encoding, elements: list[Element], pixels: Element) -> None:
        values = image_values(elements, encoding)
        form = pixel_format(values)
        if form.decoded_bytes > self.max_frame_bytes:
            raise DatasetError("a frame is larger than this server decodes")
        index = frame_index(self.dataset, elements, pixels, values, big_endian=not encoding.little_endian)
        converted = self._frames(index, form)
        first = next(converted)
        frames = chain([first], converted)
        nested = [self._with_native_icons(element, encoding) for element in elements if element is not pixels]
        changed = described(nested, form, first, self.target.uid)
        before = [element for element in changed if element.tag < PIXEL_DATA]
        behind = [element for element in changed if element.tag > PIXEL_DATA]
        if self.target.encapsulated:
            self._write_encapsulated(encoding, before, elements, frames, index.count, form)
        else:
            self._write(body, encoding, before, elements)
            self._write_native(body, frames, index.count, first.form)
        self._write(body, encoding, behind, elements)

    def _frames(self, index: FrameIndex, form: PixelFormat) -> Iterator[Converted]:
        first: PixelFormat | None = None
        for number in range(1, index.count + 1):
            offset, length = index.span(number)
            data = index.frame(number, self.dataset[offset : offset + length], little_endian=True)
            converted = convert(data, self.source.uid, self.target.uid, form)
            first = first or converted.form
            if converted.form != first:
                raise DatasetError("the frames differ in their colours")
            self.each_frame()
            yield converted

    def _write_native(self, body: Output, frames: Iterator[Converted], count: int, form: PixelFormat) -> None:
        encoding = Encoding(self.target.implicit, self.target.little_endian)
        length = (count * form.frame_bits + 7) // 8
        if length >= UNDEFINED - 1:
            raise DatasetError("uncompressed pixel data would be larger than an element may be")
        vr = "OW" if form.bits_allocated > 8 or encoding.implicit else "OB"
        body.write(header(PIXEL_DATA, vr, length + length % 2, encoding))
        word = form.bits_allocated // 8 if not encoding.little_endian else 1
        rest = rest_bits = 0
        for frame in frames:
            data = frame.data
            if len(data) < form.frame_bytes:
                raise DatasetError("a frame is shorter than the dataset says")
            data = data[: form.frame_bytes]
            if form.frame_bits % 8:  # frames follow each other without a gap (PS3.5 §8.1.1)
                rest |= (int.from_bytes(data, "little") & (1 << form.frame_bits) - 1) << rest_bits
                rest_bits += form.frame_bits
                data = (rest & (1 << rest_bits // 8 * 8) - 1).to_bytes(rest_bits // 8, "little")
                rest >>= rest_bits // 8 * 8
                rest_bits %= 8
            body.write(_swapped(data, word) if word > 1 else data)
        if rest_bits:
            body.write(rest.to_bytes(1, "little"))
        body.write(b"\0" * (length % 2))

    def _write_encapsulated(
        self,
        encoding: Encoding,
        before: list[AnyElement],
        elements: Sequence[AnyElement],
        frames: Iterator[Converted],
        count: int,
        form: PixelFormat,
    ) -> None:
        """What precedes pixel data, and these; what is known only then is filled in at the end."""
        extended = count * (form.frame_bytes + form.frame_bytes // 8 + 4096) > _LARGEST_OFFSET
        if extended:
            room = bytes(8 * count)
            before += [NewElement(EXTENDED_TABLE, "OV", room), NewElement(EXTENDED_LENGTHS, "OV", room)]
        places: dict[int, int] = {}
        for element in before:
            self._write(self.out, encoding, [element], elements)
            places[element.tag] = self.out.tell()
        self.out.write(header(PIXEL_DATA, "OB", UNDEFINED))
        table_at = self.out.tell() + 8
        self.out.write(marker(_ITEM, 0 if extended else 4 * count) + bytes(0 if extended else 4 * count))
        base = self.out.tell()
        offsets, lengths = array("Q"), array("Q")
        lossy = False
        for frame in frames:
            offsets.append(self.out.tell() - base)
            lengths.append(len(frame.data))
            lossy = frame.lossy
            self.out.write(marker(_ITEM, len(frame.data)))
            self.out.write(frame.data)
        self.out.write(marker(SEQUENCE_END, 0))
        end = self.out.tell()
        if extended:
            self._fill(places[EXTENDED_TABLE] - 8 * count, struct.pack(f"<{count}Q", *offsets))
            self._fill(places[EXTENDED_LENGTHS] - 8 * count, struct.pack(f"<{count}Q", *lengths))
        elif offsets[-1] > _LARGEST_OFFSET:
            raise DatasetError("compressed pixel data is larger than its offset table can say")
        else:
            self._fill(table_at, struct.pack(f"<{count}I", *offsets))
        if lossy:
            ratio = count * form.frame_bytes / sum(lengths)
            text = f"{ratio:.6f}"[:RATIO_BYTES].ljust(RATIO_BYTES).encode()
            self._fill(places[LOSSY_RATIO] - RATIO_BYTES, text)
        self.out.seek(end)

    def _fill(self, place: int, data: bytes) -> None:
        self.out.seek(place)
        self.out.write(data)

    def _with_native_icons(self, element: AnyElement, encoding: Encoding) -> AnyElement:
        """The element, compressed pixel data inside (of an icon) decoded: another syntax could not hold them."""
        if not isinstance(element, Element) or element.raw is None or not holds_fragments(element.raw):
            return element
        items = element.value
        if isinstance(items, memoryview) and element.vr == "SQ":
            items = read_items(self.dataset, element, encoding)
        if not isinstance(items, list):
            return element  # the bytes only look like fragments
        return Element(element.tag, "SQ", [replace(item, elements=self._decoded_item(item)) for item in items])

    def _decoded_item(self, item: Item) -> list[AnyElement]:
        found: list[AnyElement] = []
        values = image_values(item.elements, item.encoding)
        for element in item.elements:
            if not isinstance(element, Element) or not isinstance(element.value, PixelData):
                found.append(self._with_native_icons(element, item.encoding))
                continue
            form = pixel_format(values)
            index = frame_index(self.dataset, item.elements, element, values, big_endian=False)
            offset, length = index.span(1)
            frame = index.frame(1, self.dataset[offset : offset + length])
            icon = convert(frame, self.source.uid, EXPLICIT_VR_LITTLE_ENDIAN, form)
            found = described(found, form, icon, EXPLICIT_VR_LITTLE_ENDIAN)
            found.append(NewElement(PIXEL_DATA, "OW" if form.bits_allocated > 8 else "OB", bytes(icon.data)))
        return found


class _Deflating:
    """Writes a raw deflate stream (PS3.5 §A.5)."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See Output."""
        self._put(self._stream.compress(data))

    def finish(self) -> None:
        """End the stream, at an even length."""
        self._put(self._stream.flush())
        self._out.write(b"\0" * (self._size % 2))

    def _put(self, data: bytes) -> None:
        self._size += len(data)
        self._out.write(data)


def _swapped(data: bytes | bytearray | memoryview, word: int) -> bytes:
    words = array({2: "H", 4: "I"}[word], bytes(data))
    words.byteswap()
    return words.tobytes()


def inflated(dataset: memoryview, max_bytes: int) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)  # no zlib header, PS3.5 §A.5
    inflated = stream.decompress(dataset, max_bytes)
    if not stream.eof:
        raise DatasetError("the deflated dataset is incomplete or too large")
    return inflated


def _new_file_meta(meta: MetaElements, elements: list[Element], target: str) -> bytes:
    """Preamble, prefix and group 2 naming the new syntax; a new group if the file had none."""
    kept = {tag: element for tag, element in meta.items() if tag != GROUP_LENGTH}
    if kept:
        return file_meta(kept | {TRANSFER_SYNTAX_UID: ("UI", target.encode())})
    uids = {element.tag: element.value for element in elements if isinstance(element.value, memoryview)}
    return file_meta(new_elements(target, uids.get(_SOP_CLASS), uids.get(_SOP_INSTANCE)))
