"""Admitting an upload to the store: reading and validating it, and what the index will say of it (store.md §§2, 3)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from hounsfield.archive.archive import Archive
from hounsfield.archive.index_values import instance_number, series_values, sop_class_uid, study_values
from hounsfield.archive.recompression import can_be_recompressed
from hounsfield.archive.tag_values import checked, tag_values
from hounsfield.dicom import uid
from hounsfield.dicom.dataset_reader import LongHeader
from hounsfield.dicom.json_model import metadata_json
from hounsfield.dicom.part10 import Instance, read_instance
from hounsfield.dicom.source import UnreadableInstance
from hounsfield.dicom.validation import validate_for_store
from hounsfield.index.fragments import pack
from hounsfield.index.instances import InstancePath
from hounsfield.index.new_instances import NewInstance
from hounsfield.index.partitions import Partition
from hounsfield.index.query_tags import TagSet
from hounsfield.storage.layout import file_key
from hounsfield.storage.spool import Upload

_SOP_CLASS_UID = "00080016"
_SOP_INSTANCE_UID = "00080018"
_STUDY_INSTANCE_UID = "0020000D"
_SERIES_INSTANCE_UID = "0020000E"

INLINE_BYTES = 1024 * 1024
"""Uploads up to this size are read on the event loop if their header is short: cheaper than a hop to a thread."""


class FailureReason(IntEnum):
    """Values of FailureReason (0008,1197), store.md §5."""

    PROCESSING_FAILURE = 272
    VALIDATION = 43264
    ALREADY_EXISTS = 45070


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What holds for every instance of one request. ``study_uid`` is the path's, None where it names no study."""

    partition: Partition
    api_version: int
    study_uid: str | None


@dataclass(slots=True)
class Outcome:
    """What became of one instance. UIDs are as the file spells them, None where they cannot be read."""

    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    path: InstancePath | None = None
    """Where it was stored; None if it was not."""
    failure: FailureReason | None = None
    warning: int | None = None
    comments: Sequence[str] = ()
    multiple_values: bool = False


@dataclass(slots=True)
class Prepared:
    """An instance that passed validation, on its way to the store."""

    outcome: Outcome
    upload: Upload
    """What is stored under the key of ``new``."""
    new: NewInstance
    tag_generation: int
    """Of the extended query tags it was read with."""
    recompress: bool
    received: Upload | None = None
    """What came, where ``upload`` is something made of it."""
    is_written: bool = False
    """Whether its files are on disk, but perhaps for their names."""

    @property
    def keys(self) -> list[str]:
        """Of its files."""
        received = self.new.received
        others = [] if received is None or received.file_key is None else [received.file_key]
        return [self.new.file_key, *others]


async def prepare(archive: Archive, upload: Upload, request: StoreRequest) -> tuple[Outcome, Prepared | None]:
    """What became of an upload so far, and the instance if it may be stored.

    Small ones are read on the event loop, large ones and those with a long header in a thread. Raises StoreUnavailable.
    """
    tags = archive.tags.current
    while True:
        try:
            if upload.size > INLINE_BYTES:
                raise LongHeader
            outcome, found = prepare_with(archive, upload, request, tags, only_short=True)
        except LongHeader:
            outcome, found = await asyncio.to_thread(prepare_with, archive, upload, request, tags)
        if found is not None or not tags.tags:
            return outcome, found
        # It may have failed by the rule for a tag that is gone.
        known, tags = tags, await archive.tags.read(archive.database)
        if tags.generation == known.generation:
            return outcome, None


def prepare_with(
    archive: Archive, upload: Upload, request: StoreRequest, tags: TagSet, *, only_short: bool = False
) -> tuple[Outcome, Prepared | None]:
    """:func:`prepare` with these extended query tags, in the calling thread. ``only_short`` as for read_instance."""
    try:
        instance = read_instance(upload, only_short=only_short)
    except UnreadableInstance:
        return Outcome(failure=FailureReason.VALIDATION), None
    verdict = validate_for_store(
        instance,
        api_version=request.api_version,
        expected_study=request.study_uid,
        full=archive.full_validation,
        indexed_extra=checked(instance.dataset, tags.tags),
    )
    outcome = Outcome(
        sop_class_uid=instance.first(_SOP_CLASS_UID),
        sop_instance_uid=instance.first(_SOP_INSTANCE_UID),
        comments=verdict.comments,
        multiple_values=verdict.multi_value_warning,
    )
    if verdict.failed:
        outcome.failure = FailureReason.VALIDATION
        return outcome, None
    outcome.warning = verdict.warning_reason
    path = _path(instance, request.partition.key)
    if instance.has_preamble:
        upload.zero_preamble()
    assert path.series_uid is not None and path.sop_uid is not None
    new = NewInstance(
        path=path,
        transfer_syntax=instance.transfer_syntax,
        file_key=file_key(request.partition.name, path.study_uid, path.series_uid, path.sop_uid),
        file_size=upload.size,
        study=study_values(verdict.dataset),
        series=series_values(verdict.dataset),
        metadata=pack(metadata_json(verdict.dataset)),
        frames=None if instance.frames is None else instance.frames.to_bytes(),
        sop_class_uid=sop_class_uid(verdict.dataset),
        instance_number=instance_number(verdict.dataset),
        tags=tag_values(verdict.dataset, tags.tags),
    )
    return outcome, Prepared(outcome, upload, new, tags.generation, can_be_recompressed(archive, instance, upload.size))


def _path(instance: Instance, partition_key: int) -> InstancePath:
    study, series, sop = (instance.first(key) for key in (_STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID, _SOP_INSTANCE_UID))
    assert study is not None and series is not None and sop is not None
    return InstancePath(partition_key, uid.normalise(study), uid.normalise(series), uid.normalise(sop))
