"""Our own change feed as cast reads it, straight from the index."""

import msgspec

from hounsfield.cast.feed import Action, FeedEntry, FeedPage, State
from hounsfield.database.engine import Database
from hounsfield.index import feed

PAGE_BYTES = 16 * 1024 * 1024
"""A page ends early when the metadata in it grow beyond this; one dose report or segmentation can have megabytes."""
STEP = 100
"""Entries read from the index at a time."""


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
        metadata=None if entry.metadata is None else msgspec.json.decode(entry.metadata),
    )
