"""What the index knows about the pixel data of instances: enough to tell beforehand whether they can be transcoded."""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import msgspec

from hounsfield.database.engine import Database
from hounsfield.dicom.pixels import PixelFailure, PixelFormat, from_json
from hounsfield.index.fragments import unpack

PAGE = 500
"""Instances read from the database at a time."""


class Pixels(NamedTuple):
    """The pixel data of an instance."""

    form: PixelFormat | None
    """None where no image is described, or one that cannot be decoded (then ``described``)."""
    described: bool
    located: bool
    """Whether the places of its frames are known."""


class _Attribute(msgspec.Struct):
    value: list[object] = msgspec.field(default_factory=list, name="Value")


_Image = msgspec.defstruct(
    "_Image",
    [
        (f"t{tag}", _Attribute, msgspec.field(default_factory=_Attribute, name=tag))
        for tag in (
            *("00280002", "00280004", "00280006", "00280010", "00280011"),
            *("00280100", "00280101", "00280102", "00280103"),
        )
    ],
)
_decode = msgspec.json.Decoder(_Image).decode


async def pixel_formats(database: Database, versions: Iterable[int]) -> dict[int, Pixels]:
    """By version, what is known; instances that are gone are left out."""
    found: dict[int, Pixels] = {}
    same: dict[Pixels, Pixels] = {}
    rest = iter(versions)
    while page := list(islice(rest, PAGE)):
        marks = ", ".join("?" * len(page))
        columns = "metadata, CASE WHEN frames IS NULL THEN 0 ELSE 1 END"
        rows = await database.fetch(
            f"SELECT instance_id, {columns} FROM instance_content WHERE instance_id IN ({marks}) "
            f"UNION ALL SELECT version, {columns} FROM instance_version WHERE version IN ({marks})",
            *page,
            *page,
        )
        for version, metadata, located in rows:
            pixels = _pixels(unpack([metadata]), located=bool(located))
            found[version] = same.setdefault(pixels, pixels)
    return found


def _pixels(json: bytes, *, located: bool) -> Pixels:
    image = _decode(json)
    values = {name[1:]: {"Value": getattr(image, name).value} for name in image.__struct_fields__}
    described = bool(values["00280010"]["Value"] and values["00280100"]["Value"])
    try:
        return Pixels(from_json(values) if described else None, described, located)
    except PixelFailure:
        return Pixels(None, described, located)
