"""Retrieve files and frames (retrieve.md §§4–6). All is streamed: memory does not depend on what is asked for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from hounsfield.archive.archive import Archive
from hounsfield.archive.delete import not_found
from hounsfield.dicom.transcode import CannotTranscode, can_transcode, to_explicit_little_endian
from hounsfield.errors import InternalError
from hounsfield.index import instances
from hounsfield.index.instances import InstancePath, StoredInstance
from hounsfield.storage.object_store import Buffer

ORIGINAL = "*"
"""The target that means the stored transfer syntax."""
READ_AHEAD_BYTES = 2 * 1024 * 1024
"""Small files are read together up to this many bytes while the previous ones are being sent."""
AT_HAND_BYTES = 1024 * 1024
"""Files and frames up to this size are copied from the page cache at once, without a thread."""
MAX_TRANSCODES = 2
"""Transcodings of one process at a time: each holds a whole file in memory."""

_transcodes = asyncio.Semaphore(MAX_TRANSCODES)


@dataclass(frozen=True, slots=True)
class File:
    """An instance to be sent: its transfer syntax as sent, and its size where it is sent as stored."""

    instance: StoredInstance
    transfer_syntax: str
    size: int | None


async def find(archive: Archive, path: InstancePath) -> list[StoredInstance]:
    """The instances under ``path``. Raises NotFound."""
    found = await instances.find(archive.database, path)
    if not found:
        raise not_found(path)
    return found


def plan(archive: Archive, found: Sequence[StoredInstance], targets: Sequence[str]) -> tuple[int, list[File]]:
    """The first of ``targets`` every instance can be sent in (its position), and the files to send.

    Raises CannotTranscode (406) naming a pair of syntaxes that cannot be converted, for the client's first choice.
    """
    refusal: CannotTranscode | None = None
    for position, target in enumerate(targets):
        try:
            return position, [_file(archive, instance, target) for instance in found]
        except CannotTranscode as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _file(archive: Archive, instance: StoredInstance, target: str) -> File:
    if target in (ORIGINAL, instance.transfer_syntax):
        return File(instance, instance.transfer_syntax, instance.file_size)
    if not can_transcode(instance.transfer_syntax, target) or instance.file_size > archive.max_transcoded_bytes:
        raise CannotTranscode(instance.transfer_syntax, target)
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
    """Each file with its bytes; the iterator of one must be used up before the next is asked for."""
    groups = _groups(files)
    ahead: asyncio.Task[Sequence[Buffer]] | None = None
    try:
        for number, group in enumerate(groups):
            if not _is_small(group[0]):
                yield group[0], _chunks(archive, group[0])
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


async def _chunks(archive: Archive, file: File) -> AsyncIterator[Buffer]:
    if file.size is not None:
        async for chunk in archive.files.get(file.instance.file_key):
            yield chunk
        return
    async with _transcodes:
        (stored,) = await archive.files.get_many([file.instance.file_key])
        yield await asyncio.to_thread(to_explicit_little_endian, stored, source_uid=file.instance.transfer_syntax)
