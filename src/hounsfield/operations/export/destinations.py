"""Where an export goes: what every kind of destination does, and how it is opened."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hounsfield.errors import BadRequest, HounsfieldError
from hounsfield.storage.object_store import Buffer

ERRORS = "errors.log"
"""Name of the file with a line for each item that was skipped."""


class DestinationRefused(BadRequest):
    """The destination cannot be reached, does not exist or does not let us in; an operation that meets this is retried
    and then fails, a request is answered with it."""


class FileRefused(HounsfieldError):
    """The destination failed to take one file; the export goes on without it."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is written to one file."""

    chunks: Callable[[], AsyncIterator[Buffer]]
    """Its bytes from the start, each time it is called."""
    size: int | None
    """Bytes; None where nobody knows beforehand."""
    path: Path | None = None
    """A local file with the same bytes, where there is one."""


class Destination(Protocol):
    """The folder of one export. Names are relative, ``a/b/c``, of UIDs and words of ours.

    Every method raises DestinationRefused.
    """

    @property
    def errors_href(self) -> str:
        """Where the log of skipped items is, without credentials."""

    async def begin(self) -> None:
        """Make sure that it can be written to: create the log, empty."""

    async def put(self, name: str, content: Content) -> None:
        """Write a file, over one of that name. All of it appears at once. Raises FileRefused."""

    async def append(self, place: str, lines: bytes) -> None:
        """Add whole lines to the log. ``place`` names the step they come from, for destinations that cannot append."""

    async def settle(self) -> None:
        """Make durable what was written."""

    async def close(self) -> None:
        """Let go of connections."""


def split_lines(lines: bytes, most: int) -> Sequence[bytes]:
    """``lines`` in pieces of at most ``most`` bytes that end with a line each; a longer line stands alone."""
    pieces: list[bytes] = []
    for line in lines.splitlines(keepends=True):
        if pieces and len(pieces[-1]) + len(line) <= most:
            pieces[-1] += line
        else:
            pieces.append(line)
    return pieces
