"""What every use case works on."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from hounsfield.archive.codec_processes import CodecProcesses
from hounsfield.database.engine import Database
from hounsfield.index.query_tags import KnownTags
from hounsfield.storage.object_store import ObjectStore
from hounsfield.storage.spool import Spool

RESENT_STUDIES = 1_000


@dataclass(frozen=True, slots=True)
class Recompression:
    """DicomServer:Services:Recompression: images that come uncompressed are compressed before they are stored."""

    keep_original: bool
    """Whether the file is kept as it was received, beside the one that is made of it."""
    minimum_bytes: int
    """Smaller files are left alone."""
    turns: asyncio.Semaphore
    """Files of one process that are recompressed at a time: some codec processes are left to those who want to see."""


class ResentStudies:
    """Studies, by partition and UID, of which somebody lately sent an instance that was there already."""

    def __init__(self) -> None:
        self._studies: dict[tuple[int, str], None] = {}

    def add(self, study: tuple[int, str]) -> None:
        """Such an instance was met; of too many studies the first is forgotten."""
        self._studies[study] = None
        if len(self._studies) > RESENT_STUDIES:
            del self._studies[next(iter(self._studies))]

    def has(self, study: tuple[int, str]) -> bool:
        """Whether one was."""
        return study in self._studies


@dataclass(frozen=True, slots=True)
class Archive:
    """The index database, the object store and the limits that belong to them."""

    database: Database
    files: ObjectStore
    delete_delay: timedelta
    """How long the file of a deleted instance is kept (store.md §7)."""
    max_transcoded_bytes: int
    """Most that is decoded at once: a frame, or a file that is rewritten as a whole (retrieve.md §5, §10.8)."""
    full_validation: bool = False
    """EnableFullDicomItemValidation (store.md §3.2)."""
    spool: Spool | None = None
    """Where transcoded instances wait until they are sent; processes that answer no requests have none."""
    recompression: Recompression | None = None
    """None where files are stored as they come."""
    codecs: CodecProcesses = field(default_factory=CodecProcesses)
    """Where images are decoded, encoded and drawn; starts nothing before there is something to do."""
    tags: KnownTags = field(default_factory=KnownTags)
    """The extended query tags that stores index."""
    resent: ResentStudies = field(default_factory=ResentStudies)
    """Studies whose instances are looked for before their files are written."""
