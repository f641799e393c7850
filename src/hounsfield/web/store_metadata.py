"""STOW-RS of metadata with bulk data (PS3.18 §10.5.2): DICOM JSON and parts become files, and these are stored.

The first part is an array of datasets, the others are the bulk data they refer to. The request is refused as a whole
where that does not hold together; a dataset that is wrong in itself fails by itself.
"""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from hounsfield.archive.admission import FailureReason, Outcome, StoreRequest
from hounsfield.archive.archive import Archive
from hounsfield.archive.store import store
from hounsfield.dicom.json_dataset import BadDataset, Chunk, JsonDataset, write_file
from hounsfield.errors import BadRequest, PayloadTooLarge
from hounsfield.storage.spool import Spool, Upload
from hounsfield.web.bulk_parts import BulkParts, check_headers
from hounsfield.web.content_type import require_media_type
from hounsfield.web.negotiation import DICOM_JSON
from hounsfield.web.request_body import MAX_BODY_BYTES
from hounsfield.web.spooled_body import SpooledPart

MAX_METADATA_BYTES = 64 * 1024 * 1024
"""Of the JSON part, which is read in one piece; that of an enhanced object of 10,000 frames has some 30 MB."""
MAX_OBJECTS = 1_000_000
"""JSON objects (datasets, attributes, items, names) in it: each costs some 200 bytes while it is read."""

_PIECE = 1 << 20  # bytes copied from a part at a time

_decode = msgspec.json.Decoder(list[JsonDataset]).decode

Plan = list[Chunk]
"""What a file is made of."""


def is_metadata(parameters: Mapping[str, str]) -> bool:
    """Whether a multipart/related body with these parameters has metadata and bulk data."""
    return parameters.get("type", "").strip().lower() == DICOM_JSON


def admit_part(max_bulk_bytes: int, headers: Mapping[str, str], number: int) -> int:
    """How many bytes a part of such a body may have. Raises UnsupportedMediaType, BadRequest."""
    if number == 0:
        require_media_type(headers.get("content-type", DICOM_JSON), DICOM_JSON)
        return MAX_METADATA_BYTES
    check_headers(headers)
    return max_bulk_bytes


class MetadataStore:
    """Makes files of metadata and bulk data and stores them. ``max_file_bytes`` is the limit of one."""

    def __init__(self, archive: Archive, spool: Spool, max_file_bytes: int) -> None:
        self._archive = archive
        self._spool = spool
        self._max_file_bytes = max_file_bytes
        self._reading = asyncio.Lock()  # what reading metadata takes in memory is needed once, not once a client

    async def store(self, parts: Sequence[SpooledPart], asked: StoreRequest) -> list[Outcome]:
        """Store the instances of a complete body and say what became of each, in the order of the metadata.

        Raises BadRequest, PayloadTooLarge, UnsupportedMediaType, and StoreUnavailable as archive.store does.
        """
        async with self._reading:
            plans = await asyncio.to_thread(_plans, parts[0].upload, BulkParts(parts[1:]))
        self._check_sizes(plans)
        uploads: list[Upload] = []
        try:
            for plan in plans:
                if not isinstance(plan, Outcome):
                    uploads.append(self._spool.receive())
                    await self._write(plan, uploads[-1])
            stored = iter(await store(self._archive, uploads, asked))
        finally:
            for upload in uploads:
                upload.discard()
        return [plan if isinstance(plan, Outcome) else next(stored) for plan in plans]

    def _check_sizes(self, plans: Sequence[Plan | Outcome]) -> None:
        # Parts may be referred to many times, so the files can be larger than the request.
        sizes = [_size(plan) for plan in plans if not isinstance(plan, Outcome)]
        if any(size > self._max_file_bytes for size in sizes):
            raise PayloadTooLarge(f"An instance would exceed the allowed limit of {self._max_file_bytes} bytes.")
        if sum(sizes) > MAX_BODY_BYTES:
            raise BadRequest(f"The instances together would exceed the limit of {MAX_BODY_BYTES} bytes.")

    async def _write(self, plan: Plan, upload: Upload) -> None:
        for chunk in plan:
            if isinstance(chunk, bytearray):
                await upload.write(chunk)
                continue
            assert isinstance(chunk, Upload)
            for offset in range(0, chunk.size, _PIECE):
                if chunk.memory is not None:
                    await upload.write(chunk.read_at(offset, _PIECE))
                else:
                    await upload.write(await self._spool.run(chunk.read_at, offset, _PIECE))
        await upload.finish()


def _size(plan: Plan) -> int:
    return sum(len(chunk) if isinstance(chunk, bytearray) else chunk.size for chunk in plan)


def _plans(metadata: Upload, bulk: BulkParts) -> list[Plan | Outcome]:
    """The files to be made, or for a dataset that cannot be one what to say of it. Raises BadRequest."""
    try:
        plans = [_plan(dataset, bulk) for dataset in _datasets(metadata.read_at(0, metadata.size))]
    except UnicodeDecodeError as error:
        raise BadRequest("The metadata are not in UTF-8.") from error
    # A dataset that failed may not have come to its references.
    if bulk.unused and not any(isinstance(plan, Outcome) for plan in plans):
        raise BadRequest(f"The metadata refer to all but {bulk.unused} of the bulk data parts of the request.")
    return plans


def _datasets(data: bytes) -> list[JsonDataset]:
    if data.count(b"{") > MAX_OBJECTS:
        raise BadRequest(f"The metadata have more than {MAX_OBJECTS} attributes and items.")
    try:
        datasets = _decode(data)
    except msgspec.ValidationError as error:
        raise BadRequest("The metadata are not an array of datasets.") from error
    except msgspec.DecodeError as error:
        raise BadRequest("The metadata are not valid JSON.") from error
    except RecursionError as error:
        raise BadRequest("The metadata are nested too deep.") from error
    if not datasets:
        raise BadRequest("The metadata have no dataset.")
    return datasets


def _plan(dataset: JsonDataset, bulk: BulkParts) -> Plan | Outcome:
    try:
        return write_file(dataset, bulk)
    except BadDataset as problem:
        return Outcome(
            problem.sop_class_uid,
            problem.sop_instance_uid,
            failure=FailureReason.VALIDATION,
            comments=[f"DICOM100: {problem}"],
        )
