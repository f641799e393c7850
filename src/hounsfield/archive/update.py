"""New versions of instances with some attributes set anew (operations.md §2): their files, and what the index has to
show."""

import asyncio
import logging
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hounsfield.archive.archive import Archive
from hounsfield.archive.bulk_data import source_of
from hounsfield.archive.codec_processes import CodecFailure
from hounsfield.archive.index_values import study_values
from hounsfield.archive.tag_values import tag_values
from hounsfield.archive.version_files import Making, UpdateOptions, make_files, make_files_apart, prepared
from hounsfield.dicom.attribute_changes import Change, read_changes
from hounsfield.dicom.source import UnreadableInstance
from hounsfield.errors import InternalError, StoreUnavailable
from hounsfield.index.instance_versions import Filled, NewValues, Source
from hounsfield.index.instances import StoredInstance
from hounsfield.index.query_tags import QueryTag
from hounsfield.index.tag_keys import Indexed
from hounsfield.storage.local import LocalStore

logger = logging.getLogger(__name__)

TOGETHER = 8
"""Objects written at the same time where they are no local files."""
WORTH_PROCESSES = 64
"""Local files from which on processes make them: starting those takes half a second."""
PIECE = 32
"""Files that a process makes at a time: little to do again when it dies, little to wait for at the end."""

_COLUMNS = {
    "00100020": "patient_id",
    "00100010": "patient_name",
    "00100030": "patient_birth_date",
    "00100040": "patient_sex",
    "00080050": "accession_number",
    "00080090": "referring_physician_name",
    "00081030": "study_description",
}
"""Columns of a study's row, by the attribute that stands there."""


def changes_of(dataset: Mapping[str, Any]) -> Sequence[Change]:
    """The changes of a dataset that was found valid when the update was asked for."""
    return read_changes(dataset)[0]


def new_values(changes: Sequence[Change]) -> NewValues:
    """What the index has to show of a study with ``changes``."""
    dataset = {change.key: change.element for change in changes}
    given = study_values(dataset)

    def tag_value(tag: QueryTag) -> Indexed | None:
        return next((found.value for found in tag_values(dataset, [tag])), None)

    study = {column: getattr(given, column) for key, column in _COLUMNS.items() if key in dataset}
    return NewValues(study, frozenset(dataset), tag_value)


async def make_versions(
    archive: Archive, sources: Sequence[Source], changes: Sequence[Change], options: UpdateOptions
) -> list[Filled | None]:
    """Write the files of versions; durable when this returns, and harmless when repeated.

    None for one whose file cannot be made, however often one tries. Raises StoreUnavailable.
    """
    making = Making(changes, archive.max_transcoded_bytes, options)
    made: Sequence[Filled | str]
    if not isinstance(archive.files, LocalStore):
        made = await _make_remote(archive, making, sources)
    elif len(sources) < WORTH_PROCESSES:
        made = await asyncio.to_thread(make_files, archive.files, making, sources)
    else:
        made = await _make_apart(archive, archive.files.root, making, sources)
    for each in made:
        if isinstance(each, str):
            logger.warning("An instance cannot be updated: %s", each)
    return [None if isinstance(each, str) else each for each in made]


async def _make_apart(archive: Archive, root: Path, making: Making, sources: Sequence[Source]) -> list[Filled | str]:
    """``make_files`` by processes, which take a piece after the other."""
    arguments = str(root), making
    gate = asyncio.Semaphore(archive.codecs.limits.processes)

    async def one(piece: Sequence[Source]) -> list[Filled | str]:
        async with gate:
            found = await archive.codecs.run(make_files_apart, *arguments, piece)
        made: list[Filled | str] = pickle.loads(found)  # noqa: S301 - from a process of our own
        return made

    pieces = [asyncio.ensure_future(one(sources[start : start + PIECE])) for start in range(0, len(sources), PIECE)]
    try:
        return [each for made in await asyncio.gather(*pieces) for each in made]
    except CodecFailure as error:
        raise StoreUnavailable("A process that makes new versions of instances has failed.") from error
    finally:
        for piece in pieces:
            piece.cancel()


async def _make_remote(archive: Archive, making: Making, sources: Sequence[Source]) -> list[Filled | str]:
    gate = asyncio.Semaphore(TOGETHER)

    async def one(source: Source) -> Filled | str:
        async with gate:
            stored = StoredInstance(
                source.version, "", source.series_uid, source.sop_uid, source.transfer_syntax, source.file_key,
                source.file_size,
            )  # fmt: skip
            try:
                filled, new = await asyncio.to_thread(prepared, making, source_of(archive, stored), source)
                # Durable, name and all, as all objects are that are no local files.
                await archive.files.put(source.new_key, new)
            except (UnreadableInstance, InternalError) as error:
                return error.message
            return filled

    return await asyncio.gather(*map(one, sources))
