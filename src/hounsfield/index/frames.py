"""Frame positions of instances (written at store time, dicom.frames)."""

from collections.abc import Sequence

from hounsfield.database.engine import Database
from hounsfield.dicom.frames import HEADER_SIZE, FrameIndex, entry_range
from hounsfield.index.instance_versions import content_of

FEW = 8
"""Up to so many frames, only their own entries are read; beyond, the whole index."""


async def spans(
    database: Database, version: int, numbers: Sequence[int]
) -> tuple[FrameIndex, list[tuple[int, int]]] | None:
    """The frame index of an instance and, for each of ``numbers`` (1-based), offset and length of its bytes.

    The index may hold its header only. None where the instance has no frames; raises NotFound for a number above the
    number of frames.
    """
    if len(numbers) > FEW:
        row = await database.fetch_one(content_of("frames"), version, version)
        if row is None or row[0] is None:
            return None
        whole = FrameIndex.from_bytes(row[0])
        return whole, [whole.span(number) for number in numbers]
    row = await database.fetch_one(content_of(f"substr(frames, 1, {HEADER_SIZE})"), version, version, quick=True)
    if row is None or row[0] is None:
        return None
    index = FrameIndex.from_bytes(row[0])
    found = []
    for number in numbers:
        entry = b""
        if index.encapsulated and 1 <= number <= index.count:
            offset, length = entry_range(number)
            entry_row = await database.fetch_one(
                content_of(f"substr(frames, {offset + 1}, {length})"),
                version,
                version,
                quick=True,
            )
            if entry_row is None or entry_row[0] is None:
                return None
            entry = entry_row[0]
        found.append(index.span(number, entry))
    return index, found
