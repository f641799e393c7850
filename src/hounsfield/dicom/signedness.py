"""US or SS: numbers of implicit VR whose sign Pixel Representation (0028,0103) decides, before or behind them.

It holds for the dataset it stands in and the items inside that have none of their own (PS3.3 §C.7.6.3.1). Some of these
numbers, and most sequences that hold some, come first in the file; they are made again once it is known.
"""

from typing import NamedTuple

from hounsfield.dicom.encodings import Encoding, Entry
from hounsfield.dicom.values import Element

PIXEL_REPRESENTATION = 0x00280103
_KEY = f"{PIXEL_REPRESENTATION:08X}"


class _Waiting(NamedTuple):
    """An element made too early: where it stands, and all it takes to make it again."""

    path: tuple[tuple[str, int], ...]
    out: dict[str, Element]
    entry: Entry
    element: Element
    raw: bytes
    encoding: Encoding


class Signedness:
    """What is known of it at one place of a dataset, and who waits to know."""

    __slots__ = ("_waiting", "signed")

    def __init__(self) -> None:
        self.signed = False
        self._waiting: list[_Waiting] = []

    def entry(self, tag: int, encoding: Encoding) -> Entry:
        """What is to be made of the tag as far as is known."""
        return encoding.typed_entry(tag, "SS" if self.signed else "US")

    def made(
        self,
        path: tuple[tuple[str, int], ...],
        out: dict[str, Element],
        top: dict[str, Element],
        entry: Entry,
        raw: bytes,
        encoding: Encoding,
    ) -> None:
        """Takes note of an element just put into ``out``, the dataset at ``path`` inside ``top``."""
        if _KEY not in out and _KEY not in top:
            self._waiting.append(_Waiting(path, out, entry, out[entry.key], raw, encoding))

    def decided(self, path: tuple[tuple[str, int], ...], signed: bool) -> None:
        """Pixel Representation has been read in the dataset at ``path``: makes again what waits there and inside.

        Whatever waits at the end of the list was read since this dataset began, so nothing is looked at twice.
        """
        self.signed = signed
        while self._waiting and self._waiting[-1].path[: len(path)] == path:
            _, out, entry, element, raw, encoding = self._waiting.pop()
            known = self.entry(entry.tag, encoding)
            if known is not entry and out.get(entry.key) is element:
                out[entry.key], _ = known.make(raw, ())
