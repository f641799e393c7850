"""What cast reads: the change feed as a sequence of entries, wherever it comes from (change-feed.md, v1 windows)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

DEFAULT_PARTITION = "Microsoft.Default"
"""Name of the partition that exists without data partitions (change-feed.md, Entry)."""


class Action(Enum):
    """What happened to the instance."""

    CREATE = "Create"
    DELETE = "Delete"
    UPDATE = "Update"


class State(Enum):
    """How the entry stands to the instance as it is now."""

    CURRENT = "Current"
    REPLACED = "Replaced"
    DELETED = "Deleted"


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One entry; ``metadata`` is the DICOM JSON of the instance's *current* version, None where there is none."""

    sequence: int
    study_uid: str
    series_uid: str
    sop_uid: str
    action: Action
    state: State
    partition: str = DEFAULT_PARTITION
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A part of the feed: ``entries`` holds every readable entry after the asked position up to ``through``."""

    entries: list[FeedEntry]
    through: int


class FeedUnavailable(Exception):
    """The feed cannot be read now; the message says why, without patient data."""


class FeedAway(FeedUnavailable):
    """The DICOM server, or who gives us tokens for it, does not answer: wait until it is back."""


class FeedRefused(FeedUnavailable):
    """The DICOM server does not take our credentials, or nobody gives us a token: somebody has to act.

    ``name`` is the exception class name of the reference (dicom-cast.md §5), ``status`` that of the answer.
    """

    def __init__(self, name: str, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.status = status


class FeedUnreadable(FeedUnavailable):
    """The feed answered with something that is not a change feed, or not DICOM JSON."""


class FeedReplaced(FeedUnavailable):
    """The feed ends before what was read of it: it is another one, or was put back to an earlier state."""


class FeedReader(Protocol):
    """One change feed. Methods raise FeedUnavailable, or StoreUnavailable for a feed read from the database."""

    async def latest(self) -> int:
        """Sequence of the newest entry; 0 while there is none."""

    async def page(self, after: int, limit: int) -> FeedPage:
        """Entries with ``after < sequence <= after + limit``, metadata included.

        A reader may stop earlier to keep a page small in memory; ``through`` tells how far it came.
        """

    async def close(self) -> None:
        """Release connections."""
