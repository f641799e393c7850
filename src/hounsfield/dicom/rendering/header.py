"""The attributes of an image, read leniently: a value that is no number is as good as absent.

Functional groups of enhanced multi-frame objects (PS3.3 C.7.6.16) are looked into: per frame first, then shared, then
the dataset itself.
"""

import contextlib
import logging
import math
import struct
import warnings
from collections.abc import Callable, Collection, Iterator
from io import BytesIO
from typing import Any

from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag

from hounsfield.dicom.element_walker import ElementWalker
from hounsfield.dicom.encodings import EXPLICIT_LITTLE, Encoding
from hounsfield.dicom.part10 import open_file
from hounsfield.dicom.rendering.frame_groups import FrameGroups
from hounsfield.dicom.source import BytesSource, InflatedSource, UnreadableInstance
from hounsfield.errors import NotAcceptable

_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_GROUPS = frozenset((0x0028, 0x2050, 0x5200, *range(0x6000, 0x6020, 2)))
_TAGS = frozenset((0x00080005, 0x00082144, 0x00180040, 0x00181063, 0x00480105, 0x0062000E))
"""With these groups, all of the top of a dataset that pictures are drawn from."""
_UNREADABLE = (
    *(InvalidDicomError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError),
    *(EOFError, OSError, struct.error),
)
"""What pydicom raises of a dataset it cannot read."""


class CannotRender(NotAcceptable):
    """No picture can be made of an instance, or not of the kind that is asked for; the text says why."""


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Within, pydicom neither rejects odd values nor repeats them in warnings and logs: they may be about a patient."""
    mode = config.settings.reading_validation_mode
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    config.settings.reading_validation_mode = config.IGNORE
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode = mode
        logger.disabled = disabled


def read_header(data: bytes, *, inflated: bool) -> Dataset:
    """The dataset in ``data``: a whole file, or with ``inflated`` a bare Explicit VR Little Endian dataset.

    Raises CannotRender if it cannot be read.
    """
    if inflated:
        return _guarded(lambda: _bare(data, EXPLICIT_LITTLE, None))
    return _guarded(lambda: dcmread(BytesIO(data), force=True))


def read_image_header(data: bytes, *, inflated: bool, also: Collection[int] = ()) -> Dataset:
    """As ``read_header``, but of a dataset that ends where the value of its pixel data begins, and only what pictures
    are drawn from, with the tags of ``also``; what cannot be taken apart is read as it is.

    pydicom takes as long for the rest as drawing and encoding a usual picture does.
    """
    chosen = _chosen(data, inflated, also)
    if chosen is None and inflated:
        chosen = data, EXPLICIT_LITTLE
    if chosen is not None:
        return _guarded(lambda: _bare(*chosen, _is_pixel_data))
    return _guarded(lambda: dcmread(BytesIO(data), force=True, stop_before_pixels=True))


def _chosen(data: bytes, inflated: bool, also: Collection[int]) -> tuple[bytes, Encoding] | None:
    """The elements pictures are drawn from, and how they are written."""
    start, encoding = 0, EXPLICIT_LITTLE
    try:
        if not inflated:
            opened = open_file(BytesSource(data))
            start, encoding = opened.start, opened.encoding
        stop = len(data) - (12 if encoding.explicit else 8)  # that is where pixel data begin
        places = ElementWalker(BytesSource(data), data).elements(start, stop, encoding)
    except UnreadableInstance:
        return None
    if not places or places[-1].end != stop:
        return None
    wanted = (place for place in places if place.tag >> 16 in _GROUPS or place.tag in _TAGS or place.tag in also)
    return b"".join([data[place.begin : place.end] for place in wanted]), encoding


def _bare(data: bytes, encoding: Encoding, stop: Callable[[BaseTag, str | None, int], bool] | None) -> Dataset:
    implicit, little = not encoding.explicit, encoding.endian == "<"
    return read_dataset(BytesIO(data), is_implicit_VR=implicit, is_little_endian=little, stop_when=stop)


def _guarded(read: Callable[[], Dataset]) -> Dataset:
    try:
        return read()
    except _UNREADABLE:
        raise CannotRender("The instance cannot be rendered: its attributes cannot be read.") from None


def inflated_dataset(data: bytes, limit: int) -> bytes:
    """The dataset of a whole deflated file (PS3.5 §A.5), of at most ``limit`` bytes. Raises CannotRender."""
    # Only the group length says where the stream begins (dicom.part10).
    if data[128:136] != b"DICM\2\0\0\0":
        raise CannotRender("The instance cannot be rendered: its attributes cannot be read.")
    try:
        source = InflatedSource(BytesSource(data), 144 + int.from_bytes(data[140:144], "little"))
    except UnreadableInstance:
        raise CannotRender("The instance cannot be rendered: its attributes cannot be read.") from None
    if source.size > limit:
        raise CannotRender("The instance cannot be rendered: it is larger than this server decodes.")
    return source.read_at(0, source.size)


def _is_pixel_data(tag: BaseTag, vr: str | None, length: int) -> bool:
    return int(tag) == 0x7FE00010


class Header:
    """Attributes of one frame of an image. ``groups`` are the functional groups that are not in the dataset."""

    def __init__(self, dataset: Dataset, frame: int = 1, groups: FrameGroups | None = None) -> None:
        self.dataset = dataset
        self.frame = frame
        self._frame_groups = groups
        self._groups = [group for group in (self._frame_group(), first_item(dataset, _SHARED)) if group is not None]

    def _frame_group(self) -> Dataset | None:
        if self._frame_groups is not None:
            return self._frame_groups.of(self.frame)
        items = sequence(self.dataset, _PER_FRAME)
        return items[self.frame - 1] if 0 < self.frame <= len(items) else None

    def macro(self, tag: int) -> Dataset:
        """The first item of a functional group's sequence for this frame; the dataset itself where there is none."""
        for group in self._groups:
            item = first_item(group, tag)
            if item is not None:
                return item
        return self.dataset

    def number(self, tag: int, default: float | None = None) -> float | None:
        """The first number of an attribute of the dataset."""
        return number(self.dataset, tag, default)

    def integer(self, tag: int, default: int = 0) -> int:
        """The first number of an attribute of the dataset, as an integer."""
        found = number(self.dataset, tag)
        return default if found is None else int(found)

    def text(self, tag: int) -> str:
        """The first value of an attribute of the dataset as text, stripped; empty where it is absent."""
        return text(self.dataset, tag)


def value_of(dataset: Dataset, tag: int) -> Any:
    """The value of an attribute; None where it is absent, empty or unreadable."""
    try:
        return dataset[tag].value if tag in dataset else None
    except Exception:  # whatever pydicom meets in a broken value
        return None


def values_of(dataset: Dataset, tag: int) -> list[Any]:
    """The values of an attribute, none where it is absent."""
    value = value_of(dataset, tag)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def number(dataset: Dataset, tag: int, default: float | None = None) -> float | None:
    """The first value of an attribute, if it is a finite number."""
    for value in values_of(dataset, tag)[:1]:
        try:
            found = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(found):
            return found
    return default


def text(dataset: Dataset, tag: int) -> str:
    """The first value of an attribute as text, stripped of padding."""
    for value in values_of(dataset, tag)[:1]:
        if not isinstance(value, bytes | DicomSequence):
            return str(value).strip(" \0")
    return ""


def sequence(dataset: Dataset, tag: int) -> list[Dataset]:
    """The items of a sequence, none where it is absent or something else."""
    value = value_of(dataset, tag)
    return list(value) if isinstance(value, DicomSequence) else []


def first_item(dataset: Dataset, tag: int) -> Dataset | None:
    """The first item of a sequence."""
    items = sequence(dataset, tag)
    return items[0] if items else None
