"""WADO-RS metadata: DICOM JSON at every level, with validators and content codings (retrieve.md §7)."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from hounsfield.archive.archive import Archive
from hounsfield.archive.delete import not_found
from hounsfield.index import metadata
from hounsfield.index.instances import InstancePath, Level
from hounsfield.security.roles import DataAction
from hounsfield.web import bulk_metadata, content_coding
from hounsfield.web.api_route import ApiRoute
from hounsfield.web.etags import matches
from hounsfield.web.negotiation import DICOM_JSON, require_dicom_json
from hounsfield.web.original import wants_original
from hounsfield.web.streamed_response import StreamedResponse
from hounsfield.web.uids import instance_path


def metadata_routes(archive: Archive, levels: Sequence[str]) -> list[ApiRoute]:
    """The routes of metadata below the paths of ``levels``."""

    async def handle(request: Request) -> ASGIApp:
        return await _metadata(archive, request)

    return [
        ApiRoute(
            f"{path}/metadata",
            handle,
            "GET",
            f"metadata {path}",
            data_action=DataAction.READ,
            audit_action="retrieve-metadata",
        )
        for path in levels
    ]


async def _metadata(archive: Archive, request: Request) -> ASGIApp:
    require_dicom_json(request.headers.getlist("accept"))
    path = instance_path(request)
    bulk = bulk_metadata.asked(request)
    original = wants_original(request)
    etag = await metadata.validator(archive.database, path, original=original)
    if etag is None:
        raise not_found(path)
    if bulk is not None:
        etag = f"{etag}-{bulk}"
    if matches(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304, headers=content_coding.VARY)
    # Gzip comes as it is stored; a series is a hundred times smaller in zstd, which finds what its instances share.
    single = path.level is Level.INSTANCE
    preferred = content_coding.STORED if single and bulk is None else content_coding.COMPUTED
    coding = content_coding.choose(request.headers.getlist("accept-encoding"), preferred)
    headers = {"ETag": etag, **content_coding.VARY}
    if coding is not None:
        headers["Content-Encoding"] = coding
    if bulk is not None:
        objects = bulk_metadata.stream(archive, request, path, bulk, original=original)
    elif coding == "gzip":
        objects = metadata.gzip_stream(archive.database, path, original=original)
    else:
        objects = metadata.stream(archive.database, path, original=original)
    if bulk is not None or coding != "gzip":
        objects = _array(objects)
        if coding is not None:
            objects = content_coding.compressed_stream(objects, coding)
    pieces = _not_empty(objects, path)
    if not single:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        return StreamedResponse(pieces, DICOM_JSON, headers=raw)
    return Response(b"".join([piece async for piece in pieces]), media_type=DICOM_JSON, headers=headers)


async def _array(objects: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The JSON array of objects that come several at a time; nothing for none."""
    opening = b"["
    async with aclosing(objects):
        async for some in objects:
            yield opening + some
            opening = b","
    if opening == b",":
        yield b"]"


async def _not_empty(pieces: AsyncGenerator[bytes, None], path: InstancePath) -> AsyncGenerator[bytes, None]:
    """The same. Raises NotFound for nothing: all was deleted this moment."""
    found = False
    async with aclosing(pieces):
        async for piece in pieces:
            found = True
            yield piece
    if not found:
        raise not_found(path)
