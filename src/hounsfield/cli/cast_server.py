"""The HTTP side of a ``hounsfield cast`` that was given a port: it can be looked at while it casts."""

import asyncio
import socket
from contextlib import suppress

from hounsfield.cast.feed import FeedReader, FeedUnavailable
from hounsfield.cast.state import CastState
from hounsfield.cli.application import access, allowed_hosts
from hounsfield.cli.cast_settings import workitem_partitions
from hounsfield.cli.store_settings import names_table_store
from hounsfield.database.engine import Database
from hounsfield.serving.process import Serving
from hounsfield.settings import Settings
from hounsfield.web.cast_app import CastApplication, routes

DRAIN_SECONDS = 2.0
"""How long requests under way may take when the process is told to stop; none of them is long."""


class Newest:
    """How far the feed goes, as far as it is known: asking another server may fail, the status must not."""

    def __init__(self, feed: FeedReader, database: Database) -> None:
        self._feed = feed
        self._state = CastState(database)
        self._seen = 0

    async def __call__(self) -> int:
        """Sequence of the newest entry that is known of; at least the position."""
        with suppress(FeedUnavailable):
            self._seen = await self._feed.latest()
        return max(self._seen, await self._state.position())


async def run(
    settings: Settings,
    database: Database,
    feed: FeedReader,
    listener: socket.socket,
    roles_text: str,
    stop: asyncio.Event,
) -> None:
    """Answer at ``listener`` until ``stop`` is set; closes ``feed``, which is asked for its newest entry only."""
    served = routes(
        database,
        Newest(feed, database),
        has_table_store=names_table_store(settings),
        workitem_partitions=workitem_partitions(settings),
    )
    application = CastApplication(
        served,
        access(roles_text, settings),
        allowed_hosts(settings),
        behind_proxy=settings.flag("ASPNETCORE_FORWARDEDHEADERS_ENABLED"),
    )
    try:
        await Serving(application, listener, [0], 0).run(stop, DRAIN_SECONDS)
    finally:
        await feed.close()
