"""What every use case works on."""

from dataclasses import dataclass, field
from datetime import timedelta

from hounsfield.archive.codec_processes import CodecProcesses
from hounsfield.database.engine import Database
from hounsfield.storage.object_store import ObjectStore
from hounsfield.storage.spool import Spool


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
    codecs: CodecProcesses = field(default_factory=CodecProcesses)
    """Where images are decoded, encoded and drawn; starts nothing before there is something to do."""
