"""Retrieve files and frames (retrieve.md §§4–6). All is streamed: memory does not depend on what is asked for."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import NamedTuple

from hounsfield.archive.archive import Archive
from hounsfield.archive.delete import not_found
from hounsfield.archive.transcoding import Transcoded, needs_pixels, refusal, transcoded
from hounsfield.dicom.transcode import CannotTranscode
from hounsfield.errors import HounsfieldError, InternalError
from hounsfield.index import instances
from hounsfield.index.instances import InstancePath, StoredInstance
from hounsfield.index.pixel_formats import Pixels, pixel_formats
from hounsfield.storage.object_store import Buffer

ORIGINAL = "*"
"""The target that means the stored transfer syntax."""
READ_AHEAD_BYTES = 2 * 1024 * 1024
"""Small files are read together up to this many bytes while the previous ones are being sent."""
AT_HAND_BYTES = 1024 * 1024
"""Files and frames up to this size are copied from the page cache at once, without a thread."""

logger = logging.getLogger(__name__)


class File(NamedTuple):
    """An instance to be sent: its transfer syntax as sent, and its size where it is sent as stored."""

    instance: StoredInstance
    transfer_syntax: str
    size: int | None


async def find(archive: Archive, path: InstancePath, *, original: bool = False) -> list[StoredInstance]:
    """The instances under ``path``, or what they were before any bulk update. Raises NotFound."""
    found = await instances.find(archive.database, path, original=original)
    if not found:
        raise not_found(path)
    return found


async def plan(archive: Archive, found: Sequence[StoredInstance], targets: Sequence[str]) -> tuple[int, list[File]]:
    """The first of ``targets`` every instance can be sent in (its position), and the files to send.

    The index tells without a look at the files. Raises CannotTranscode (406) naming a pair of syntaxes that cannot be
    converted, for the client's first choice.
    """
    first: CannotTranscode | None = None
    known: dict[int, Pixels] = {}
    for position, target in enumerate(targets):
        if target == ORIGINAL:
            return position, [File(instance, instance.transfer_syntax, instance.file_size) for instance in found]
        others = [item for item in found if not _is_held(item, target)]
        if not others:
            return position, [_file(instance, target) for instance in found]
        unknown = [
            item.version for item in others if item.version not in known and needs_pixels(item.transfer_syntax, target)
        ]
        known |= await pixel_formats(archive.database, unknown)
        limit = archive.max_transcoded_bytes
        refusals = (refusal(item, target, known.get(item.version), limit) for item in others)
        refused = next((reason for reason in refusals if reason is not None), None)
        if refused is None:
            return position, [_file(instance, target) for instance in found]
        first = first or refused
    assert first is not None
    raise first


def _is_held(instance: StoredInstance, target: str) -> bool:
    """Whether a file in that syntax is stored: the instance's own, or the one it was received as."""
    return target == instance.transfer_syntax or _original(instance, target) is not None


def _original(instance: StoredInstance, target: str) -> StoredInstance | None:
    """The instance with the file it was received as, if that was kept and is in ``target``."""
    received = instance.received
    if received is None or received.file_key is None or received.transfer_syntax != target:
        return None
    return instance._replace(transfer_syntax=target, file_key=received.file_key, file_size=received.file_size)


def _file(instance: StoredInstance, target: str) -> File:
    if target == instance.transfer_syntax:
        return File(instance, instance.transfer_syntax, instance.file_size)
    original = _original(instance, target)
    if original is not None:
        return File(original, target, original.file_size)
    return File(instance, target, None)


async def require_files(archive: Archive, files: Sequence[File]) -> None:
    """Raise InternalError if the file of an instance is gone, before the first byte of an answer (retrieve.md §4)."""
    if len(files) == 1 and archive.files.at_hand(files[0].instance.file_key, 0, memoryview(bytearray(1))):
        return
    missing = await archive.files.missing([file.instance.file_key for file in files])
    if missing:
        raise InternalError(f"{len(missing)} files of visible instances are missing from the object store.")


def at_hand(archive: Archive, key: str, offset: int, length: int) -> bytearray | None:
    """A small part of a file, if it lies in memory."""
    if length > AT_HAND_BYTES:
        return None
    data = bytearray(length)
    return data if archive.files.at_hand(key, offset, memoryview(data)) else None


async def contents(archive: Archive, files: Sequence[File]) -> AsyncGenerator[tuple[File, AsyncIterator[Buffer]], None]:
    """Each file, now with its size, and its bytes; the iterator of one must be used up before the next is asked for."""
    groups = _groups(files)
    ahead: asyncio.Task[Sequence[Buffer]] | None = None
    conversions = _Conversions(archive, files)
    try:
        for number, group in enumerate(groups):
            if group[0].size is None:
                made = await conversions.next()
                yield group[0]._replace(size=made.size), made.chunks()
                continue
            if not _is_small(group[0]):
                yield group[0], archive.files.get(group[0].instance.file_key)
                continue
            reading = ahead or asyncio.create_task(_read(archive, group))
            ahead = None
            bodies = await reading
            following = groups[number + 1] if number + 1 < len(groups) else None
            if following is not None and _is_small(following[0]):
                ahead = asyncio.create_task(_read(archive, following))
            for file, body in zip(group, bodies, strict=True):
                yield file, _one(body)
    finally:
        if ahead is not None:
            ahead.cancel()
        conversions.cancel()


async def converted(archive: Archive, file: File) -> Transcoded:
    """A file that is not sent as stored. Raises CannotTranscode or another NotAcceptable."""
    return await transcoded(archive, file.instance, file.transfer_syntax)


class _Conversions:
    """Transcodes files of an answer in their order, as many ahead of what is sent as there are codec processes."""

    def __init__(self, archive: Archive, files: Sequence[File]) -> None:
        self._archive = archive
        self._files = (file for file in files if file.size is None)
        self._ahead: deque[asyncio.Task[Transcoded]] = deque()
        self._several = len(files) > 1

    async def next(self) -> Transcoded:
        """The next one."""
        while len(self._ahead) <= self._archive.codecs.limits.processes:
            file = next(self._files, None)
            if file is None:
                break
            self._ahead.append(asyncio.create_task(converted(self._archive, file)))
        try:
            made = await self._ahead.popleft()
        except HounsfieldError as error:
            if self._several:  # it may be too late for a status: the connection breaks, and only the log says why
                logger.error("An answer of several instances fails: %s", error.message)
            raise
        return made

    def cancel(self) -> None:
        """Nobody wants the rest."""
        for task in self._ahead:
            task.cancel()
            task.add_done_callback(lambda done: None if done.cancelled() else done.exception())


def _is_small(file: File) -> bool:
    return file.size is not None and file.size <= READ_AHEAD_BYTES


def _groups(files: Sequence[File]) -> list[list[File]]:
    """Runs of small files to be read together; a large or transcoded one stands alone."""
    groups: list[list[File]] = []
    room = 0
    for file in files:
        if file.size is not None and _is_small(file) and groups and file.size <= room:
            groups[-1].append(file)
            room -= file.size
        else:
            groups.append([file])
            room = READ_AHEAD_BYTES - file.size if file.size is not None and _is_small(file) else 0
    return groups


async def _read(archive: Archive, group: Sequence[File]) -> Sequence[Buffer]:
    bodies: list[Buffer] = []
    for file in group:
        assert file.size is not None
        body = at_hand(archive, file.instance.file_key, 0, file.size)
        if body is None:
            # One that is not in memory is seldom alone: let a thread wait for the rest.
            rest = group[len(bodies) :]
            return bodies + await archive.files.get_many([file.instance.file_key for file in rest])
        bodies.append(body)
    return bodies


async def _one(body: Buffer) -> AsyncIterator[Buffer]:
    yield body
