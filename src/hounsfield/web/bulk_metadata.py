"""Metadata that say where binary values are, or hold them (PS3.18 Annex F.2.6, F.2.7): only when asked for.

``bulkdata=uri``: values of OB, OD, OF, OL, OV, OW and UN up to SMALL_BYTES are InlineBinary, larger ones have a
BulkDataURI. ``bulkdata=inline``: the limit is INLINE_BYTES. Encapsulated pixel data always have a BulkDataURI.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Literal

import msgspec
from starlette.requests import Request

from hounsfield.archive import bulk_data
from hounsfield.archive.archive import Archive
from hounsfield.dicom.dataset_reader import BulkValue
from hounsfield.dicom.part10 import BulkData
from hounsfield.dicom.source import ByteSource
from hounsfield.errors import BadRequest, NotAcceptable
from hounsfield.index import instances, metadata
from hounsfield.index.instances import InstancePath, StoredInstance
from hounsfield.web.content_type import MalformedMediaType, parse_content_type
from hounsfield.web.negotiation import DICOM_JSON
from hounsfield.web.versions import api_version, service_root

Bulk = Literal["uri", "inline"]

SMALL_BYTES = 1024
"""A value up to this size costs less in place than the request for it."""
INLINE_BYTES = 1024 * 1024
"""Largest value in place where they are asked for: icons, look-up tables and overlays, not pictures of full size."""
INSTANCE_BYTES = 16 * 1024 * 1024
"""Of all values in place of one instance, which is held in memory; what comes behind has a BulkDataURI."""
TOGETHER = 8
"""Instances whose files are read at the same time."""

_KINDS: dict[str, Bulk] = {"uri": "uri", "inline": "inline"}
_LIMITS: dict[Bulk, int] = {"uri": SMALL_BYTES, "inline": INLINE_BYTES}

_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def asked(request: Request) -> Bulk | None:
    """How binary values are to be given, None for not at all: ``?bulkdata=``, in version 2 also a parameter of Accept.

    Raises BadRequest, NotAcceptable.
    """
    if request.scope["query_string"] and (values := request.query_params.getlist("bulkdata")):
        if len(values) > 1 or values[0].lower() not in _KINDS:
            raise BadRequest("The query parameter 'bulkdata' is invalid. It must be uri or inline, once.")
        return _KINDS[values[0].lower()]
    accept = ",".join(request.headers.getlist("accept"))
    if "bulkdata" not in accept.lower() or api_version(request).major == 1:
        return None
    for element in accept.split(","):
        try:
            media_type, parameters = parse_content_type(element)
        except MalformedMediaType:
            continue
        if media_type == DICOM_JSON and "bulkdata" in parameters:
            if parameters["bulkdata"].lower() not in _KINDS:
                raise NotAcceptable("")
            return _KINDS[parameters["bulkdata"].lower()]
    return None


def instance_url(root: str, instance: StoredInstance) -> str:
    """The address of an instance below the service root."""
    return f"{root}/studies/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.sop_uid}"


def value_url(instance: str, value: BulkValue) -> str:
    """The BulkDataURI of a value of the instance with this address: tag, or tag/item/tag with items from 1."""
    above = "".join(f"{key}/{index + 1}/" for key, index in value.path)
    return f"{instance}/bulkdata/{above}{value.key}"


async def stream(
    archive: Archive, request: Request, path: InstancePath, bulk: Bulk, *, original: bool = False
) -> AsyncGenerator[bytes, None]:
    """The JSON objects under ``path``, one or a few at a time joined by commas, oldest instance first."""
    root = service_root(request)
    found = await instances.find(archive.database, path, original=original)
    by_version = {instance.version: instance for instance in found}
    waiting: list[tuple[StoredInstance, bytes]] = []

    async def described() -> bytes:
        jobs = [
            asyncio.to_thread(
                _described, bulk_data.source_of(archive, instance), instance_url(root, instance), json, bulk
            )
            for instance, json in waiting
        ]
        waiting.clear()
        return b",".join(await asyncio.gather(*jobs))

    async with aclosing(metadata.each(archive.database, list(by_version))) as stored:
        async for version, json in stored:
            waiting.append((by_version[version], json))
            if len(waiting) == TOGETHER:
                yield await described()
    if waiting:
        yield await described()


def _described(source: ByteSource, url: str, json: bytes, bulk: Bulk) -> bytes:
    """The metadata ``json`` of the instance in ``source`` with its binary values."""
    data = bulk_data.read_values(source)
    room = INSTANCE_BYTES
    top: dict[str, Any] = dict(_attributes(json))
    for value in data.values:
        element: dict[str, Any] = {"vr": value.vr}
        if value.fragments is not None or value.length > min(_LIMITS[bulk], room):
            element["BulkDataURI"] = value_url(url, value)
        elif value.length:
            element["InlineBinary"] = _inline(data, value)
            room -= value.length
        _insert(top, value.path, value.key, element)
    return msgspec.json.encode(dict(sorted(top.items())))


def _inline(data: BulkData, value: BulkValue) -> str:
    stored = data.source.read_at(value.offset, value.length)
    word = bulk_data.word_of(data, value) if value.big_endian else 1
    return base64.b64encode(bulk_data.swapped(stored, word)).decode()


def _insert(top: dict[str, Any], path: Sequence[tuple[str, int]], key: str, element: dict[str, Any]) -> None:
    """Put an element into its place. What metadata leave out for other reasons stays out, with all that is in it."""
    dataset = top
    for sequence, index in path:
        if isinstance(dataset.get(sequence), msgspec.Raw):
            dataset[sequence] = msgspec.json.decode(dataset[sequence])
        items = dataset.get(sequence, {}).get("Value", ())
        if index >= len(items):
            return
        dataset = items[index]
    dataset[key] = element
    if path:
        in_order = sorted(dataset.items())
        dataset.clear()
        dataset.update(in_order)
