"""The files that are exported: as stored, or de-identified on the way."""

import asyncio
import mmap
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from hounsfield.archive.archive import Archive
from hounsfield.dicom.deidentification import CannotDeidentify, Deidentifier
from hounsfield.errors import HounsfieldError
from hounsfield.index.instances import StoredInstance
from hounsfield.operations.export.destinations import Content
from hounsfield.operations.export.request import Deidentification
from hounsfield.storage.errors import ObjectTruncated
from hounsfield.storage.object_store import Buffer

READ_BYTES = 1 << 20


class ItemSkipped(HounsfieldError):
    """An instance or series cannot be exported as was asked; the sentence goes into the log of the export."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Gives what is written of instances. ``work`` is a directory for files under way."""

    archive: Archive
    work: Path
    deidentifier: Deidentifier | None = None

    def place(self, instance: StoredInstance) -> tuple[str, str, str]:
        """The UIDs an instance is known by at the destination."""
        uids = instance.study_uid, instance.series_uid, instance.sop_uid
        known = tuple(uid.rstrip(" \0") for uid in uids)
        if self.deidentifier is not None:
            known = tuple(self.deidentifier.uid(uid) for uid in known)
        return known[0], known[1], known[2]

    def identifier(self, identifier: str) -> str:
        """A requested identifier as it is known at the destination."""
        if self.deidentifier is None:
            return identifier
        return "/".join(self.deidentifier.uid(uid) for uid in identifier.split("/"))

    async def content(self, instance: StoredInstance) -> Content:
        """What is written of an instance. Raises ItemSkipped, and what the object store raises."""
        stored = self._stored(instance)
        if self.deidentifier is None:
            return stored
        return await self._deidentified(stored, instance)

    def _stored(self, instance: StoredInstance) -> Content:
        files, key, size = self.archive.files, instance.file_key, instance.file_size
        return Content(lambda: files.get(key), size, files.local_path(key))

    async def _deidentified(self, stored: Content, instance: StoredInstance) -> Content:
        assert self.deidentifier is not None
        if stored.path is None:
            copy = await self._copied(stored)
        else:
            copy = await asyncio.to_thread(open, stored.path, "rb")
        out = await asyncio.to_thread(self._temporary)
        try:
            with copy:
                await asyncio.to_thread(_write, self.deidentifier, copy.fileno(), out, instance.transfer_syntax)
        except CannotDeidentify as error:
            out.close()
            raise ItemSkipped(error.message) from error
        except BaseException:
            out.close()
            raise
        # The file has no name, and is gone when nobody reads it any more.
        return Content(lambda: _chunks(out), os.fstat(out.fileno()).st_size)

    async def _copied(self, content: Content) -> BinaryIO:
        copy = await asyncio.to_thread(self._temporary)
        try:
            async for chunk in content.chunks():
                await asyncio.to_thread(copy.write, chunk)
            await asyncio.to_thread(copy.flush)
        except BaseException:
            copy.close()
            raise
        return copy

    def _temporary(self) -> BinaryIO:
        return cast("BinaryIO", tempfile.TemporaryFile(dir=self.work))


def deidentifier_of(asked: Deidentification | None, key: bytes) -> Deidentifier | None:
    """What de-identifies the files of an export, by the key of that export."""
    return None if asked is None else Deidentifier(key, retain_uids=asked.retain_uids)


def _write(deidentifier: Deidentifier, source: int, out: BinaryIO, transfer_syntax: str) -> None:
    size = os.fstat(source).st_size
    if size == 0:
        raise CannotDeidentify("The file is empty.")
    # Not closed by hand: it goes with the last of the many views of it.
    deidentifier.write(memoryview(mmap.mmap(source, size, prot=mmap.PROT_READ)), out, transfer_syntax)
    out.flush()


async def _chunks(file: BinaryIO) -> AsyncIterator[Buffer]:
    offset = 0
    while chunk := await asyncio.to_thread(os.pread, file.fileno(), READ_BYTES, offset):
        yield chunk
        offset += len(chunk)


async def whole(content: Content) -> Content:
    """``content`` with its bytes in memory; for small ones. Raises ObjectTruncated."""
    data = b"".join([chunk async for chunk in content.chunks()])
    if content.size is not None and len(data) != content.size:
        raise ObjectTruncated

    async def one() -> AsyncIterator[Buffer]:
        yield data

    return replace(content, chunks=one, size=len(data), path=None)
