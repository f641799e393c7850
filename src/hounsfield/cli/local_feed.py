"""Our own change feed as cast reads it, straight from the index."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from hounsfield.cast.feed import Action, FeedEntry, FeedPage, State
from hounsfield.database.engine import Database
from hounsfield.index import feed

PAGE_BYTES = 16 * 1024 * 1024
"""A page ends early when the metadata in it grow beyond this; one dose report or segmentation can have megabytes."""
STEP = 100
"""Entries read from the index at a time."""

_elements = msgspec.json.Decoder(dict[str, msgspec.Raw])
_element = msgspec.json.Decoder()


class LocalFeedReader:
    """See :class:`~hounsfield.cast.feed.FeedReader`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def latest(self) -> int:
        return await feed.latest_sequence(self._database)

    async def page(self, after: int, limit: int) -> FeedPage:
        entries: list[FeedEntry] = []
        through, size = after, 0
        while through < after + limit and size < PAGE_BYTES:
            width = min(STEP, after + limit - through)
            found = await feed.after(self._database, through, width, include_metadata=True)
            size += sum(len(entry.metadata or b"") for entry in found)
            entries += [_entry(entry) for entry in found]
            if len(found) < width:
                # Sequences have no gaps, so this is the end of the feed; the position moves with what was read.
                return FeedPage(entries, found[-1].sequence if found else through)
            through += width
        return FeedPage(entries, through)

    async def close(self) -> None:
        """Nothing to release: the database belongs to the process."""


def _entry(entry: feed.Entry) -> FeedEntry:
    return FeedEntry(
        sequence=entry.sequence,
        study_uid=entry.study_uid,
        series_uid=entry.series_uid,
        sop_uid=entry.sop_uid,
        action=Action(entry.action.name.capitalize()),
        state=State(entry.state.value),
        partition=entry.partition_name,
        metadata=None if entry.metadata is None else _Metadata(entry.metadata),
    )


class _Metadata(Mapping[str, Any]):
    """DICOM JSON whose elements are decoded when they are asked for: cast looks at few of them.

    Measured beside storing clients, decoding all of them was a third of what cast costs, most of it the garbage
    collector's.
    """

    __slots__ = ("_elements",)

    def __init__(self, text: bytes) -> None:
        self._elements = _elements.decode(text)

    def __getitem__(self, tag: str) -> Any:
        return _element.decode(self._elements[tag])

    def get(self, tag: str, default: Any = None) -> Any:
        """The element ``tag``, or ``default``."""
        element = self._elements.get(tag)
        return default if element is None else _element.decode(element)

    def __iter__(self) -> Iterator[str]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)
