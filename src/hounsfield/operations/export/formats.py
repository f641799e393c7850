"""What is written for what is exported: files one by one, a zip file, or volumes."""

import logging
import traceback
from collections.abc import AsyncIterator, Callable, Sequence

from hounsfield import faults
from hounsfield.archive.zip_archive import Entry, ZipWriter
from hounsfield.errors import HounsfieldError, InternalError
from hounsfield.index.instances import StoredInstance
from hounsfield.operations.export.destinations import Content, Destination
from hounsfield.operations.export.sources import Sources, whole
from hounsfield.storage.errors import ObjectMissing
from hounsfield.storage.object_store import Buffer

logger = logging.getLogger(__name__)

WHOLE_BYTES = 1 << 20
"""Files up to this size are put into a zip file from memory, with their checksum in front."""

Pages = Callable[[], AsyncIterator[Sequence[StoredInstance]]]
"""The instances of an identifier, page by page, from the start each time it is called."""
Skip = Callable[[StoredInstance, str], None]
"""Notes that an instance was left out, and why."""


async def put_file(destination: Destination, sources: Sources, instance: StoredInstance) -> None:
    """Write an instance as a file. Raises what keeps it from being written."""
    study, series, sop = sources.place(instance)
    await destination.put(f"results/{study}/{series}/{sop}.dcm", await sources.content(instance))
    faults.point("export: file written")


async def put_zip(destination: Destination, sources: Sources, identifier: str, pages: Pages, skip: Skip) -> int:
    """Write all instances of an identifier as one zip file, ``study[/series[/instance]].zip``; returns how many.

    Memory does not depend on how many, or how large, but for 100 bytes of directory each.
    """
    written = 0

    async def chunks() -> AsyncIterator[Buffer]:
        nonlocal written
        written = 0
        writer = ZipWriter()
        async for page in pages():
            for instance in page:
                try:
                    entry, content = await _entry(sources, instance)
                except Exception as error:
                    skip(instance, sentence(error))
                    continue
                async for piece in _zipped(writer, entry, content):
                    yield piece
                written += 1
        yield writer.end()

    await destination.put(f"results/{sources.identifier(identifier)}.zip", Content(chunks, None))
    faults.point("export: file written")
    return written


async def _entry(sources: Sources, instance: StoredInstance) -> tuple[Entry, Content]:
    content = await sources.content(instance)
    assert content.size is not None
    study, series, sop = sources.place(instance)
    is_small = content.size <= WHOLE_BYTES
    if is_small:
        content = await whole(content)
    elif await sources.archive.files.missing([instance.file_key]):
        raise ObjectMissing
    return Entry(f"{study}/{series}/{sop}.dcm", content.size, is_small), content


async def _zipped(writer: ZipWriter, entry: Entry, content: Content) -> AsyncIterator[Buffer]:
    if not entry.whole:
        yield writer.begin(entry)
    async for chunk in content.chunks():
        if entry.whole:
            yield writer.begin(entry, chunk)
        writer.add(chunk)
        yield chunk
    try:
        behind = writer.finish(entry)
    except ValueError as error:
        raise InternalError("A file has another size than the index says.") from error
    if behind:
        yield behind


def sentence(error: Exception) -> str:
    """What may be said of an error in the log of an export: our own sentences name no patient, others may."""
    if isinstance(error, HounsfieldError):
        return error.message
    place = "".join(traceback.format_tb(error.__traceback__))
    logger.error("Something cannot be exported: %s\n%s", type(error).__name__, place)
    return f"It cannot be exported: {type(error).__name__}."
