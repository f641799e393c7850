"""Tries skipped entries again when somebody asks for it (dicom-cast.md §5.1): same feed, same pipeline, once.

A request is a row; what it is about are the rows that its table had when it was made. An entry that succeeds loses its
row with the commit that records it, one that fails again gets a later date. So a request goes on after a crash with
what is left, and nothing is lost in between.
"""

import logging

from hounsfield.cast import error_tables
from hounsfield.cast.error_tables import RetryRequest
from hounsfield.cast.feed import FeedEntry, FeedReader, FeedUnreadable
from hounsfield.cast.later_entries import with_later
from hounsfield.cast.options import CastOptions
from hounsfield.cast.synchroniser import Synchroniser
from hounsfield.database.engine import Database

logger = logging.getLogger(__name__)

PAGE = 50
"""Entries at a time; between two pages what is new in the feed has its turn."""


class Replay:
    """Works off requests. ``synchroniser`` has the journal of the worker that this belongs to."""

    def __init__(self, feed: FeedReader, database: Database, synchroniser: Synchroniser, options: CastOptions) -> None:
        self._feed = feed
        self._database = database
        self._synchroniser = synchroniser
        self._options = options
        self._request: RetryRequest | None = None
        self._after = -1

    async def is_wanted(self) -> bool:
        """Whether there is a request."""
        return bool(await error_tables.retry_requests(self._database))

    async def page(self) -> bool:
        """Work off a page of the oldest request; False if there is none.

        Raises what the synchroniser does, and FeedUnavailable.
        """
        requests = await error_tables.retry_requests(self._database)
        if not requests:
            return False
        request = requests[0]
        if request != self._request:
            self._request, self._after = request, -1
        sequences = await error_tables.to_try_again(self._database, request, self._after, PAGE)
        found = [entry for sequence in sequences if (entry := await self._entry(sequence)) is not None]
        if found:
            together = await with_later(self._feed, found, self._database, self._options)
            await self._synchroniser.process_again(together, request)
        if len(sequences) < PAGE:
            await error_tables.end_request(self._database, request)
        else:
            self._after = sequences[-1]
        return True

    async def _entry(self, sequence: int) -> FeedEntry | None:
        """An entry as it reads now; None if the feed does not have it, or not in a readable form."""
        try:
            page = await self._feed.page(sequence - 1, 1)
        except FeedUnreadable:
            found = None
        else:
            found = next((entry for entry in page.entries if entry.sequence == sequence), None)
        if found is None:
            logger.warning("Change feed entry %d cannot be tried again: the feed does not give it.", sequence)
        return found
