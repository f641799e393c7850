"""Where the elements of a dataset lie in its source, without what they say.

Sees a dataset as the reader of uploads does (dataset_reader.py), which has read every stored file before.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple

from hounsfield.dicom.dataset_reader import FIRST_WINDOW, LARGEST_WINDOW, MAX_DEPTH, MAX_ELEMENTS, UNDEFINED
from hounsfield.dicom.encodings import EXPLICIT_LITTLE, IMPLICIT_LITTLE, VRS, Encoding, Entry, Kind
from hounsfield.dicom.fragments import walk_items
from hounsfield.dicom.source import ByteSource, UnreadableInstance

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
ICON_IMAGE_SEQUENCE, PIXEL_DATA = 0x00880200, 0x7FE00010


class Place(NamedTuple):
    """One element: it begins at ``begin``, its value at ``data``, and what follows it at ``end``.

    ``items`` is how the items of a sequence are written; None for what is no sequence. ``undefined``: its length is.
    """

    tag: int
    vr: str
    begin: int
    data: int
    end: int
    undefined: bool
    items: Encoding | None


class ItemPlace(NamedTuple):
    """One item of a sequence: its content lies between ``data`` and ``stop``, what follows it begins at ``end``."""

    data: int
    stop: int
    end: int
    undefined: bool


class ElementWalker:
    """Walks through one source. Raises UnreadableInstance where that makes no sense."""

    def __init__(self, source: ByteSource, window: bytes = b"") -> None:
        """``window``: the first bytes of the source, if they have been read."""
        self.source = source
        self._window = window
        self._base = 0
        self._count = 0

    def elements(self, pos: int, stop: int, encoding: Encoding, depth: int = 0, below: int = 1 << 32) -> list[Place]:
        """The elements between ``pos`` and ``stop``, up to the first whose tag is not ``below``.

        At the top (``depth`` 0) also up to padding or delimiters too many.
        """
        unpack, known = encoding.unpack, encoding.entries.get
        window, base, places = self._window, self._base, list[Place]()
        while pos + 8 <= stop:
            at = pos - base
            if at < 0 or at + 8 > len(window):
                at = self._load(pos, 8)
                window, base = self._window, self._base
            head, length = unpack(window, at)
            entry = known(head)
            if entry is not None and entry.simple:
                end = pos + 8 + length
                if end > stop:
                    raise UnreadableInstance("The dataset is cut off or an element's length is wrong.")
                found: Place | None = Place(entry.tag, entry.vr, pos, pos + 8, end, False, None)
            else:
                found = self._element(pos, stop, encoding, depth)
                window, base = self._window, self._base
            if found is None:
                if depth:
                    raise UnreadableInstance("An item or delimiter stands where an element should be.")
                break
            if found.tag >= below:
                break
            places.append(found)
            pos = found.end
        self._count += len(places)
        if self._count > MAX_ELEMENTS:
            raise UnreadableInstance("The dataset has more elements than this server reads.")
        return places

    def find(
        self, pos: int, stop: int, encoding: Encoding, tags: Sequence[int], others: Collection[int], below: int
    ) -> tuple[list[Place], int]:
        """Of what ``elements`` gives at the top, the elements of ``tags`` (ascending) and ``others``, and for each of
        ``tags`` the first whose tag is greater; ``others`` behind all these may be left out. Then where the last
        element ends, if it had to be gone so far.

        Several times as fast: elements are only stepped over, and none of those that come last in most files.
        """
        unpack, known = encoding.unpack, encoding.entries.get
        window, base, places = self._window, self._base, list[Place]()
        passed = iter((*tags, below - 1))
        following, wanted = next(passed), {*tags, *others}
        while pos + 8 <= stop:
            at = pos - base
            if at + 8 > len(window):
                at = self._load(pos, 8)
                window, base = self._window, self._base
            head, length = unpack(window, at)
            entry = known(head)
            found: Place | None
            if entry is not None and entry.simple:
                tag, end = entry.tag, pos + 8 + length
                if end > stop:
                    raise UnreadableInstance("The dataset is cut off or an element's length is wrong.")
                if tag <= following and tag not in wanted:
                    pos = end
                    continue
                found = Place(tag, entry.vr, pos, pos + 8, end, False, None)
            else:
                found = self._element(pos, stop, encoding, 0)
                window, base = self._window, self._base
            if found is None or found.tag >= below:
                break
            if found.tag > following or found.tag in wanted:
                places.append(found)
                while found.tag > following:
                    following = next(passed)
                    if following == below - 1 and self._none_behind(found.end, encoding, tags):
                        return places, found.end
            pos = found.end
        return places, pos

    def _none_behind(self, pos: int, encoding: Encoding, tags: Sequence[int]) -> bool:
        """Whether the bytes of none of ``tags`` stand between ``pos`` and pixel data, which are in the window.

        Where there may be an icon, pixel data may be its own, with more of the dataset behind: then nobody knows.
        """
        order: Literal["little", "big"] = "little" if encoding.endian == "<" else "big"
        window, at = self._window, pos - self._base

        def written(tag: int) -> bytes:
            return (tag >> 16).to_bytes(2, order) + (tag & 0xFFFF).to_bytes(2, order)

        end = window.rfind(written(PIXEL_DATA), at)
        return end >= 0 and all(window.find(written(tag), at, end) < 0 for tag in (*tags, ICON_IMAGE_SEQUENCE))

    def items(self, place: Place, depth: int) -> Iterator[ItemPlace]:
        """The items of a sequence."""
        if place.items is None or depth >= MAX_DEPTH:
            raise UnreadableInstance("Sequences are nested deeper than this server reads.")
        pos = place.data
        while pos < place.end:
            item = self._item(pos, place.end, place.items, depth)
            if item is None:
                return
            yield item
            pos = item.end

    def read(self, pos: int, end: int) -> bytes:
        """The bytes between two positions."""
        if self._base <= pos and end <= self._base + len(self._window):
            return self._window[pos - self._base : end - self._base]
        return self.source.read_at(pos, end - pos)

    def _element(self, pos: int, stop: int, encoding: Encoding, depth: int) -> Place | None:
        """The element at ``pos``; None for what is none."""
        at = self._load(pos, 8)
        head, _ = encoding.unpack(self._window, at)
        entry = encoding.entries.get(head) or encoding.learn(head)
        if entry.kind == Kind.END:
            return None
        if entry.header == 12:
            at = self._load(pos, 12)
            length = encoding.length(self._window, at + 8)[0]
        elif entry.kind == Kind.IMPLICIT:
            length = encoding.length(self._window, at + 4)[0]
            entry = encoding.implicit_entry(entry.tag)
        else:
            length = encoding.short_length(self._window, at + encoding.length_at)[0]
        data = pos + entry.header
        if length == UNDEFINED:
            return self._undefined(entry, pos, data, stop, encoding, depth)
        if data + length > stop:
            raise UnreadableInstance("The dataset is cut off or an element's length is wrong.")
        items = encoding if entry.kind == Kind.SEQUENCE else None
        if items is not None and not encoding.explicit and length and self.source.read_at(data, 4) != b"\xfe\xff\0\xe0":
            items = None  # only the dictionary takes it for a sequence
        return Place(entry.tag, entry.vr, pos, data, data + length, undefined=False, items=items)

    def _undefined(self, entry: Entry, pos: int, data: int, stop: int, encoding: Encoding, depth: int) -> Place:
        if entry.kind == Kind.BULK and not (entry.vr == "UN" and entry.tag != 0x7FE00010):
            end = walk_items(self.source, encoding.item, data, stop, MAX_ELEMENTS, b"", data)[2]
            return Place(entry.tag, entry.vr, pos, data, end, undefined=True, items=None)
        inside = encoding
        if entry.vr == "UN":  # PS3.5 §6.2.2: in implicit VR, though some write it explicitly
            letters = self.source.read_at(data + 12, 2).decode("latin_1")
            inside = EXPLICIT_LITTLE if letters in VRS else IMPLICIT_LITTLE
        at = data
        while (item := self._item(at, stop, inside, depth)) is not None:
            at = item.end
        return Place(entry.tag, entry.vr, pos, data, at + 8, undefined=True, items=inside)

    def _item(self, pos: int, stop: int, encoding: Encoding, depth: int) -> ItemPlace | None:
        """The item at ``pos``; None for the end of the sequence."""
        at = self._load(pos, 8)
        group, number, length = encoding.item(self._window, at)
        tag = group << 16 | number
        if tag == SEQUENCE_END:
            return None
        if tag != ITEM or depth >= MAX_DEPTH:
            raise UnreadableInstance("A sequence holds something that is not an item.")
        data = pos + 8
        if length != UNDEFINED:
            if data + length > stop:
                raise UnreadableInstance("A sequence is cut off or its length is wrong.")
            return ItemPlace(data, data + length, data + length, undefined=False)
        end = data
        while (found := self._element(end, stop, encoding, depth + 1)) is not None:
            end = found.end
        return ItemPlace(data, end, end + 8, undefined=True)

    def _load(self, pos: int, need: int) -> int:
        """Have the window hold ``need`` bytes from ``pos``; returns where they begin in it."""
        if self._base <= pos and pos + need <= self._base + len(self._window):
            return pos - self._base
        known = self._base <= pos <= self._base + len(self._window)
        size = min(max(len(self._window) * 2, FIRST_WINDOW), LARGEST_WINDOW) if known else FIRST_WINDOW // 4
        self._window, self._base = self.source.read_at(pos, max(need, size)), pos
        if len(self._window) < need:
            raise UnreadableInstance("The dataset is cut off.")
        return 0
