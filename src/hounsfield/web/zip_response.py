"""A study, series or instance as a zip file (retrieve.md §10.7)."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from hounsfield.archive import retrieve
from hounsfield.archive.archive import Archive
from hounsfield.archive.retrieve import READ_AHEAD_BYTES, File
from hounsfield.archive.zip_archive import Entry, ZipWriter, zip_length
from hounsfield.index.instances import InstancePath
from hounsfield.storage.object_store import Buffer
from hounsfield.web.negotiation import ZIP
from hounsfield.web.streamed_response import StreamedResponse, gathered


async def zip_response(archive: Archive, path: InstancePath, planned: Sequence[File]) -> StreamedResponse:
    """The files as ``<study>/<series>/<instance>.dcm`` in a zip file. Raises InternalError if one is gone."""
    await retrieve.require_files(archive, planned)
    entries = [_entry(file) for file in planned]
    name = path.sop_uid or path.series_uid or path.study_uid
    headers = [(b"content-disposition", f'attachment; filename="{name}.zip"'.encode())]
    return StreamedResponse(
        gathered(_zipped(archive, planned, entries)), ZIP, length=zip_length(entries), headers=headers
    )


def _entry(file: File) -> Entry:
    instance = file.instance
    uids = (instance.study_uid, instance.series_uid, instance.sop_uid)
    # Small files come in one piece (retrieve.contents), with the checksum where the simplest of readers looks for it.
    whole = file.size is not None and file.size <= READ_AHEAD_BYTES
    return Entry("/".join(uid.rstrip(" \0") for uid in uids) + ".dcm", file.size, whole)


async def _zipped(archive: Archive, planned: Sequence[File], entries: Sequence[Entry]) -> AsyncGenerator[Buffer, None]:
    writer = ZipWriter()
    following = iter(entries)
    async with aclosing(retrieve.contents(archive, planned)) as contents:
        async for _, chunks in contents:
            entry = next(following)
            if not entry.whole:
                yield writer.begin(entry)
            async for chunk in chunks:
                if entry.whole:
                    yield writer.begin(entry, chunk)
                writer.add(chunk)
                yield chunk
            if behind := writer.finish(entry):
                yield behind
    yield writer.end()
