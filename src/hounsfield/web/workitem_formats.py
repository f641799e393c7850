"""What workitems come and go as: DICOM JSON, or the Native DICOM Model in XML (worklist.md, PS3.18 §8.7.3)."""

import asyncio
from collections.abc import Sequence
from enum import Enum

from starlette.requests import Request
from starlette.responses import Response

from hounsfield.dicom.native_model import to_xml
from hounsfield.errors import NotAcceptable
from hounsfield.web import content_coding
from hounsfield.web.content_type import MalformedMediaType, parse_content_type, require_media_type
from hounsfield.web.multipart_response import PART_END, Framing
from hounsfield.web.negotiation import ANY, DICOM_JSON, DICOM_XML, parse_accept
from hounsfield.web.request_body import small_body
from hounsfield.worklist import dataset as datasets
from hounsfield.worklist.dataset import Dataset

MAX_BYTES = 16 * 1024 * 1024
"""Of a request's body: a workitem with the references to some ten thousand instances."""

INLINE_BYTES = 64 * 1024
"""Of a document in XML that is read while others wait: some milliseconds."""


class Form(Enum):
    """How a client wants datasets; in XML several are parts of a multipart answer, as may be one."""

    JSON = "json"
    XML = "xml"
    XML_PARTS = "xml parts"


def accepted(request: Request) -> Form:
    """The form a client takes. DICOM JSON unless it prefers XML, as the reference knows nothing else.

    Raises NotAcceptable, with an empty body, if it takes neither or does not say.
    """
    accept = request.headers.getlist("accept")
    form, best = None, 0.0
    for entry in parse_accept(accept) if any(accept) else ():
        if entry.media_type == DICOM_XML:
            found = Form.XML_PARTS if entry.multipart else Form.XML
        elif entry.media_type in (ANY, "application/*", DICOM_JSON) and not entry.multipart:
            found = Form.JSON
        else:
            continue
        if entry.quality > best or (found is Form.JSON and entry.quality == best):
            form, best = found, entry.quality
    if form is None:
        raise NotAcceptable("")
    return form


def prefers_xml(request: Request) -> bool:
    """Whether a client wants XML rather than DICOM JSON."""
    try:
        return accepted(request) is not Form.JSON
    except NotAcceptable:
        return False


def one(request: Request, form: Form, kept: bytes) -> Response:
    """The answer that is one dataset, which is given as JSON."""
    if form is Form.JSON:
        return _whole(request, kept, DICOM_JSON)
    document = to_xml(datasets.decoded(kept))
    return _whole(request, document, DICOM_XML) if form is Form.XML else _parts(request, [document])


def several(request: Request, form: Form, kept: bytes) -> Response:
    """The answer that is the datasets of a JSON array."""
    if form is Form.JSON:
        return _whole(request, kept, DICOM_JSON)
    return _parts(request, [to_xml(dataset) for dataset in datasets.decoded_array(kept)])


def _parts(request: Request, documents: Sequence[bytes]) -> Response:
    framing = Framing(DICOM_XML)
    pieces = [piece for one in documents for piece in (framing.head(DICOM_XML, len(one)), one, PART_END)]
    return _whole(request, b"".join((*pieces, framing.end)), framing.content_type)


def _whole(request: Request, body: bytes, content_type: str) -> Response:
    body, headers = content_coding.whole(request.headers.getlist("accept-encoding"), body)
    return Response(body, media_type=content_type, headers=headers)


def require_dataset(request: Request) -> None:
    """Raise UnsupportedMediaType unless the body is DICOM JSON or XML."""
    if not _is_xml(request):
        require_media_type(request.headers.get("content-type"), DICOM_JSON)


def require_dataset_if_any(request: Request) -> None:
    """The standard lets a request to cancel have no body (PS3.18 §11.8.1)."""
    if has_body(request):
        require_dataset(request)


def has_body(request: Request) -> bool:
    """Whether a request says that a body comes with it."""
    return (
        request.headers.get("content-length", "0") != "0"
        or "transfer-encoding" in request.headers
        or "content-type" in request.headers
    )


def _is_xml(request: Request) -> bool:
    try:
        return parse_content_type(request.headers.get("content-type", ""))[0] == DICOM_XML
    except MalformedMediaType:
        return False


async def dataset_of(request: Request) -> Dataset:
    """The dataset of the body. Raises BadRequest, PayloadTooLarge beyond MAX_BYTES."""
    body = await small_body(request, MAX_BYTES)
    if not _is_xml(request):
        return datasets.parse(body)
    if len(body) <= INLINE_BYTES:
        return datasets.parse_xml(body)
    return await asyncio.to_thread(datasets.parse_xml, body)
