"""Store instances: read, validate, write the file, make it visible (store.md §§2–6).

File first, index second: an instance becomes visible in the transaction that also writes its feed entry, after its
file has been synced; the directory is synced beside that commit, or before it where the file system needs that
(storage/local.py), and always before anybody is told. What a crash leaves is a file nobody refers to, swept later.
Whoever finishes the last file of a request begins the transaction: no turn of the event loop comes between the two.
"""

import asyncio
import logging
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from hounsfield import faults
from hounsfield.archive.admission import (
    INLINE_BYTES,
    FailureReason,
    Outcome,
    Prepared,
    StoreRequest,
    prepare,
    prepare_with,
)
from hounsfield.archive.archive import Archive
from hounsfield.archive.recompression import HTJ2K_LOSSLESS, recompressed
from hounsfield.database.engine import PendingWrite, Shortcut, Transaction, Unit
from hounsfield.errors import StoreUnavailable
from hounsfield.index import instances, new_instances, next_instance
from hounsfield.index.instances import Received
from hounsfield.index.query_tags import TagsChanged
from hounsfield.storage.layout import original_key
from hounsfield.storage.spool import Upload

logger = logging.getLogger(__name__)

GROUP = 32
"""Instances of one request that share a commit; their files are written side by side."""


async def store(archive: Archive, uploads: Sequence[Upload], request: StoreRequest) -> list[Outcome]:
    """Store ``uploads`` in order and say what became of each; they are discarded when this returns.

    Raises StoreUnavailable when the database or the object store failed and nothing at all was stored.
    """
    faults.point("store: received")
    outcomes: list[Outcome] = []
    unavailable: StoreUnavailable | None = None
    try:
        for start in range(0, len(uploads), GROUP):
            found, error = await _store_group(archive, uploads[start : start + GROUP], request)
            outcomes += found
            unavailable = unavailable or error
    finally:
        for upload in uploads:
            upload.discard()
    faults.point("store: done")
    if unavailable is not None and all(outcome.path is None for outcome in outcomes):
        raise unavailable
    return outcomes


async def _store_group(
    archive: Archive, uploads: Sequence[Upload], request: StoreRequest
) -> tuple[list[Outcome], StoreUnavailable | None]:
    outcomes: list[Outcome] = []
    ready: list[Prepared] = []
    error: StoreUnavailable | None = None
    for upload in uploads:
        is_first_of_many = not outcomes and len(uploads) > 1
        outcome, prepared, problem = await _admit(archive, upload, request, asks=is_first_of_many)
        outcomes.append(outcome)
        error = error or problem
        if prepared is not None:
            ready.append(prepared)
    if not ready:
        return outcomes, error
    faults.point("store: read")
    try:
        if archive.recompression is not None:
            await asyncio.gather(*(_recompress(archive, prepared) for prepared in ready if prepared.recompress))
        problem = await _keep(archive, ready, request)
    finally:
        for prepared in ready:
            if prepared.received is not None:
                prepared.upload.discard()
    return outcomes, error or problem


async def _recompress(archive: Archive, prepared: Prepared) -> None:
    """Have something smaller stored in place of what came, if that can be had."""
    new, upload = prepared.new, prepared.upload
    made = await recompressed(archive, upload, new.transfer_syntax)
    if made is None:
        return
    assert archive.recompression is not None
    kept = original_key(new.file_key) if archive.recompression.keep_original else None
    prepared.received, prepared.upload = upload, made.upload
    prepared.new = replace(
        new,
        transfer_syntax=HTJ2K_LOSSLESS,
        file_size=made.upload.size,
        frames=made.frames,
        received=Received(new.transfer_syntax, upload.size, kept),
    )


async def _keep(archive: Archive, ready: list[Prepared], request: StoreRequest) -> StoreUnavailable | None:
    """Write the files and make the instances visible; outcomes say of which that failed."""
    commit = archive.database.pending(_adding(ready), _shortcut(ready))
    files = _Files(ready, commit)
    if len(ready) == 1:
        problems = [await _put(archive, ready[0], files)]
    else:
        problems = await asyncio.gather(*(_put(archive, prepared, files) for prepared in ready))
    error = next((problem for problem in problems if problem is not None), None)
    written = [prepared for prepared in ready if prepared.is_written]
    try:
        if written:
            await _index(archive, commit, written, request)
        # Content that is on disk, under a name that may not be: what the index says of it cannot be relied on.
        for prepared, problem in zip(ready, problems, strict=True):
            if problem is not None and prepared.is_written:
                raise problem
    except StoreUnavailable as problem:
        # Whether the commit went through may be unknown, so the files stay: unused ones are swept as orphans. Where it
        # certainly did not, as on a full disk, they must not make matters worse.
        error = problem
        if problem.undone:
            await _remove(archive, written)
        for prepared in written:
            prepared.outcome.path = None
            prepared.outcome.failure = FailureReason.PROCESSING_FAILURE
    return error


class _Files:
    """Counts the files that are still to be written, from any thread, and has the commit begun after the last."""

    def __init__(self, ready: Sequence[Prepared], commit: PendingWrite[list[bool]]) -> None:
        self._left = len(ready)
        self._any_written = False
        self._commit = commit
        self._lock = threading.Lock()

    def written(self, prepared: Prepared) -> None:
        """The files of an instance are on disk."""
        prepared.is_written = True
        self._one_less(True)

    def failed(self) -> None:
        """Those of an instance will not be."""
        self._one_less(False)

    def _one_less(self, is_written: bool) -> None:
        with self._lock:
            self._left -= 1
            self._any_written |= is_written
            begins = not self._left and self._any_written
        if begins:
            faults.point("store: placed")
            self._commit.begin()


async def _admit(
    archive: Archive, upload: Upload, request: StoreRequest, *, asks: bool
) -> tuple[Outcome, Prepared | None, StoreUnavailable | None]:
    """Read and validate one instance, and see that it is not there already, if that is likely or ``asks``.

    Whatever goes wrong is this instance's failure: others of the request may be stored by now.
    """
    outcome = Outcome()
    try:
        outcome, prepared = await prepare(archive, upload, request)
        if prepared is None or not (asks or _may_be_there(archive, prepared)):
            return outcome, prepared, None
        if not await instances.exists(archive.database, prepared.new.path):
            return outcome, prepared, None
        archive.resent.add(prepared.new.path.study_key)
        outcome.failure = FailureReason.ALREADY_EXISTS
    except StoreUnavailable as error:
        outcome.failure = FailureReason.PROCESSING_FAILURE
        return outcome, None, error
    except Exception as error:
        # Class and place, not the text, which may quote values of the file.
        place = "".join(traceback.format_tb(error.__traceback__))
        logger.error("Unexpected error: %s\n%s", type(error).__name__, place)
        outcome.failure = FailureReason.PROCESSING_FAILURE
    return outcome, None, None


def _may_be_there(archive: Archive, prepared: Prepared) -> bool:
    """Whether it is worth while to look for the instance before its file is written.

    The transaction that makes it visible finds out anyway, so most are not looked for. But who sends one instance of a
    study again mostly sends them all, and nothing large is written, and nothing compressed, in vain.
    """
    is_dear = prepared.upload.size > INLINE_BYTES or prepared.recompress
    return is_dear or archive.resent.has(prepared.new.path.study_key)


async def _put(archive: Archive, prepared: Prepared, files: _Files) -> StoreUnavailable | None:
    """Write the files of an instance; what went wrong with that, if anything did."""
    key, *others = prepared.keys
    try:
        if others:
            assert prepared.received is not None
            await archive.files.put(others[0], prepared.received)
        await archive.files.put(key, prepared.upload, lambda: files.written(prepared))
    except StoreUnavailable as error:
        prepared.outcome.failure = FailureReason.PROCESSING_FAILURE
        if not prepared.is_written:
            files.failed()
            if others:
                await _remove(archive, [prepared])
        return error
    return None


async def _index(
    archive: Archive, commit: PendingWrite[list[bool]], written: list[Prepared], request: StoreRequest
) -> None:
    while True:
        try:
            added = await commit.result()
            break
        except TagsChanged:
            written = await _with_tags_of_now(archive, written, request)
            commit = archive.database.pending(_adding(written), _shortcut(written))
            commit.begin()
    duplicates: list[Prepared] = []
    for prepared, is_added in zip(written, added, strict=True):
        if not is_added:
            prepared.outcome.failure = FailureReason.ALREADY_EXISTS
            archive.resent.add(prepared.new.path.study_key)
            duplicates.append(prepared)
        else:
            prepared.outcome.path = prepared.new.path
    if duplicates:
        await _remove(archive, duplicates)


def _adding(prepared: Sequence[Prepared]) -> Unit[list[bool]]:
    """Makes those visible whose files have been written when it runs; False for one that was there."""

    async def unit(tx: Transaction) -> list[bool]:
        written = [one for one in prepared if one.is_written]
        generations = {one.tag_generation for one in written}
        if len(generations) > 1:
            raise TagsChanged
        new = [one.new for one in written]
        versions = await new_instances.add(tx, new, time.time_ns() // 1000, *generations)
        return [version is not None for version in versions]

    return unit


def _shortcut(prepared: Sequence[Prepared]) -> Shortcut[list[bool]] | None:
    """The same for one instance alone, begun when it has been written."""
    if len(prepared) != 1:
        return None
    return next_instance.adding(prepared[0].new, prepared[0].tag_generation)


async def _with_tags_of_now(archive: Archive, ready: Sequence[Prepared], request: StoreRequest) -> list[Prepared]:
    """The instances read again with the tags there are now; outcomes say which of them may not be stored any more."""
    tags = await archive.tags.read(archive.database)
    passed: list[Prepared] = []
    failed: list[Prepared] = []
    for prepared in ready:
        source = prepared.received or prepared.upload
        found, again = await asyncio.to_thread(prepare_with, archive, source, request, tags)
        outcome = prepared.outcome
        outcome.failure, outcome.comments, outcome.warning = found.failure, found.comments, found.warning
        outcome.multiple_values = found.multiple_values
        if again is None:
            failed.append(prepared)
        else:
            prepared.new = replace(prepared.new, tags=again.new.tags)
            prepared.tag_generation = tags.generation
            passed.append(prepared)
    await _remove(archive, failed)
    return passed


async def _remove(archive: Archive, unused: Sequence[Prepared]) -> None:
    """Remove files that no instance will refer to. Where that fails, too, they are swept as orphans."""
    with suppress(StoreUnavailable):
        await archive.files.delete_many([key for prepared in unused for key in prepared.keys])
