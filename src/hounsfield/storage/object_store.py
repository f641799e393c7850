"""The interface of every object store: keys to immutable bytes."""

import builtins
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

from hounsfield.errors import StoreUnavailable
from hounsfield.storage.descriptor import Descriptor, FileRange
from hounsfield.storage.errors import InvalidKey
from hounsfield.storage.spool import TEMPORARY_PREFIX, Upload

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Splice:
    """An object made of another: bytes, and ranges (offset, length) of the object ``key``, one behind the other.

    Ranges are copied where they lie, or streamed; they are never held as a whole but in objects below ``small`` bytes.
    """

    key: str
    pieces: Sequence[bytes | tuple[int, int]]
    small: int = 1 << 20
    window: int = 4 << 20
    """Bytes read at a time where they have to be."""

    @property
    def size(self) -> int:
        """Bytes of the object to be made."""
        return sum(len(piece) if isinstance(piece, bytes) else piece[1] for piece in self.pieces)


Source = Buffer | Sequence[Buffer] | Upload | Splice
"""What can be put: bytes in memory (one piece, or several that follow each other), a received upload, or parts of
another object."""

PROBE_FOLDER = "health/"
"""Where ``check`` puts its objects; no instance has a key there."""


_NOT_PARTS = frozenset(("", ".", ".."))


class StoredObject(NamedTuple):
    """One row of a listing."""

    key: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970."""


class ObjectStore(Protocol):
    """Where files live. Keys are relative paths (``a/b/c``); objects are written once, whole, and never changed.

    Every method raises StoreUnavailable when the store cannot be reached, is full or refuses, and InvalidKey for a
    key that is empty, absolute, climbs (``..``) or looks like a temporary file.
    """

    async def put(self, key: str, source: Source, written: Callable[[], None] | None = None) -> None:
        """Store ``source`` under ``key``; durable when this returns, nothing to be seen of it if this raises.

        ``written`` is called, in any thread, once the content is durable, though a power cut may still lose its name:
        it begins other work that has to become durable before anybody is told. What raises after that leaves the
        object where it is.

        An upload in a file may be moved into the store; it can still be read afterwards, but not put again. Of a
        splice, raises ObjectMissing, ObjectTruncated.
        """

    def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of an object, or the part of it that begins at ``offset``, in chunks of a few MiB at most.

        Raises ObjectMissing with the first chunk, ObjectTruncated if the object ends before the part does.
        """

    async def get_many(self, keys: Sequence[str]) -> builtins.list[bytes]:
        """Whole objects in the order of ``keys``; for small ones. Raises ObjectMissing."""

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``. Raises ObjectMissing, ObjectTruncated if the object ends before."""

    def at_hand(self, key: str, offset: int, into: memoryview) -> bool:
        """Fill ``into`` with the bytes from ``offset`` if that needs no waiting for a disk or a network.

        Cheaper than a hop to a thread; blocks no longer than copying the bytes takes. False where the object is not
        at hand, is missing or ends before; part of ``into`` may have been written then.
        """

    async def missing(self, keys: Sequence[str]) -> builtins.list[str]:
        """Those of ``keys`` that name no object."""

    async def size(self, key: str) -> int:
        """Bytes of an object. Raises ObjectMissing."""

    def local_path(self, key: str) -> Path | None:
        """The file that is the object, whether it exists or not; None where objects are not local files."""

    def open_range(self, key: str, offset: int, length: int) -> FileRange | None:
        """Part of an object as part of an open file; None where objects are not local files.

        Raises ObjectMissing, ObjectTruncated if the object ends before the part does.
        """

    def open_each(self, keys: Sequence[str]) -> Iterator[Descriptor] | None:
        """Objects as open files, each opened when it is asked for; None where objects are not local files.

        How long they are is for the reader to see. Asking for one that is not there raises ObjectMissing.
        """

    async def delete_many(self, keys: Iterable[str]) -> None:
        """Remove objects; a key without one is a success. Gone durably when this returns."""

    def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[StoredObject]:
        """Objects in the order of their keys (by code point), those greater than ``start_after`` only.

        ``prefix`` is a folder: empty, or ending with ``/``. Objects put or deleted meanwhile may or may not appear.
        """

    async def sweep_temporary(self, older_than: timedelta) -> int:
        """Remove what puts that were killed left behind more than ``older_than`` ago; returns how many."""

    async def check(self) -> None:
        """Write, read and delete a small object. Raises StoreUnavailable."""

    async def close(self) -> None:
        """Finish what is under way and let go of everything. The store cannot be used afterwards."""


def check_key(key: str) -> None:
    """Raises InvalidKey as described at ObjectStore."""
    parts = key.split("/")
    if not _NOT_PARTS.isdisjoint(parts) or "\0" in key or parts[-1].startswith(TEMPORARY_PREFIX):
        raise InvalidKey


def check_keys(keys: Sequence[str]) -> None:
    """``check_key`` for many at once."""
    together = "/".join(keys)
    if not _NOT_PARTS.isdisjoint(together.split("/")) or "\0" in together or TEMPORARY_PREFIX in together:
        for key in keys:
            check_key(key)


async def probe(store: ObjectStore) -> None:
    """What ``check`` does, for any store."""
    key = PROBE_FOLDER + secrets.token_hex(8)
    written = secrets.token_bytes(32)
    await store.put(key, written)
    try:
        (read,) = await store.get_many([key])
    finally:
        await store.delete_many([key])
    if read != written:
        raise StoreUnavailable("The object store returned other bytes than were written.")
