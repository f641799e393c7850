"""UPS-RS: create, retrieve, update, change the state of and search for workitems (worklist.md, PS3.18 §11)."""

import re
from collections.abc import Awaitable, Mapping
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from hounsfield.database.engine import Database
from hounsfield.dicom import uid as uids
from hounsfield.errors import BadRequest, HounsfieldError, StoreUnavailable, UnsupportedMediaType
from hounsfield.security.roles import DataAction
from hounsfield.web import workitem_formats, workitem_search
from hounsfield.web.api_route import ApiRoute, Check, Handler, partition_of
from hounsfield.web.hosts import host_of
from hounsfield.web.negotiation import DICOM_JSON, parse_accept
from hounsfield.web.uids import uid_parameter
from hounsfield.web.versions import service_root
from hounsfield.web.workitem_formats import (
    Form,
    accepted,
    dataset_of,
    has_body,
    prefers_xml,
    require_dataset,
    require_dataset_if_any,
)
from hounsfield.worklist import workitems
from hounsfield.worklist.cancellation import ACCEPTED, PASSED_ON
from hounsfield.worklist.dataset import Dataset
from hounsfield.worklist.search import search
from hounsfield.worklist.states import AlreadyCanceled

_JSON = (DICOM_JSON, "application/json")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class _Warned(HounsfieldError):
    """What a transaction is refused with before it begins, where every refusal comes with a Warning."""

    def __init__(self, request: Request, message: str) -> None:
        super().__init__(message)
        self._warning = _warning(request, message)

    @property
    def headers(self) -> Mapping[str, str]:
        """The Warning."""
        return {"Warning": self._warning}


class _MalformedUid(_Warned, BadRequest):
    """A UID of the URL is none."""


class _NoDataset(_Warned, UnsupportedMediaType):
    """The body is said to be something else than a dataset."""


def workitem_routes(database: Database) -> list[ApiRoute]:
    """The six transactions. Their names are those of the audit log (server.md §1)."""

    async def create(request: Request) -> Response:
        accepted(request)
        uid = _named_uid(request, "workitem")
        dataset = await dataset_of(request)
        return await _answered(request, _create(database, request, dataset, uid))

    async def retrieve(request: Request) -> Response:
        form = accepted(request)
        return await _answered(request, _retrieve(database, request, form, _path_uid(request)))

    async def update(request: Request) -> Response:
        try:
            uid, transaction_uid = _path_uid(request), _named_uid(request, "transaction-uid")
        except BadRequest as error:
            raise _MalformedUid(request, error.message) from error
        return await _answered(request, _update(database, request, uid, transaction_uid), warns=True)

    async def change_state(request: Request) -> Response:
        try:
            uid = _path_uid(request)
        except BadRequest as error:
            raise _MalformedUid(request, error.message) from error
        return await _answered(request, _change_state(database, request, uid), warns=True)

    async def cancel(request: Request) -> Response:
        uid = _path_uid(request)
        dataset = await dataset_of(request) if has_body(request) else {}
        return await _answered(request, _cancel(database, request, uid, dataset))

    async def find(request: Request) -> Response:
        asked = workitem_search.parse(request.query_params.multi_items(), partition_of(request).key)
        form = accepted(request)
        found = await search(database, asked.query)
        if not found:
            return Response(status_code=204)
        return workitem_formats.several(request, form, workitem_search.shown(found, asked.include))

    def route(
        method: str, path: str, handle: Handler, name: str, *, check: Check | None = None, creates: bool = False
    ) -> ApiRoute:
        return ApiRoute(
            f"/workitems{path}",
            handle,
            method,
            name,
            data_action=DataAction.READ if method == "GET" else DataAction.WRITE,
            audit_action=name,
            creates_partition=creates,
            check_content=check,
        )

    one = "/{workitem}"
    return [
        route("POST", "", create, "add-workitem", check=require_dataset, creates=True),
        route("GET", "", find, "query-workitem"),
        route("GET", one, retrieve, "retrieve-workitem"),
        route("POST", one, update, "update-workitem", check=_require_dataset_or_warn),
        route("POST", f"{one}/cancelrequest", cancel, "cancel-workitem", check=require_dataset_if_any),
        route("PUT", f"{one}/state", change_state, "change-state-workitem", check=_require_dataset_or_warn),
    ]


def _require_dataset_or_warn(request: Request) -> None:
    try:
        require_dataset(request)
    except UnsupportedMediaType as error:
        raise _NoDataset(request, error.message) from error


async def _create(database: Database, request: Request, dataset: Dataset, uid: str | None) -> Response:
    uid = await workitems.create(database, partition_of(request).key, dataset, uid)
    url = f"{service_root(request)}/workitems/{uid}"
    return Response(status_code=201, headers={"Location": url, "Content-Location": url})


async def _retrieve(database: Database, request: Request, form: Form, uid: str) -> Response:
    found = await workitems.retrieve(database, partition_of(request).key, uid)
    return workitem_formats.one(request, form, found)


async def _update(database: Database, request: Request, uid: str, transaction_uid: str | None) -> Response:
    changes = await dataset_of(request)
    await workitems.update(database, partition_of(request).key, uid, transaction_uid, changes)
    return Response(headers={"Content-Location": f"{service_root(request)}/workitems/{uid}"})


async def _change_state(database: Database, request: Request, uid: str) -> Response:
    asked = await dataset_of(request)
    warning = await workitems.change_state(database, partition_of(request).key, uid, asked)
    return Response(headers={} if warning is None else {"Warning": _warning(request, warning)})


async def _cancel(database: Database, request: Request, uid: str, dataset: Dataset) -> Response:
    is_canceled = await workitems.request_cancellation(database, partition_of(request).key, uid, dataset)
    said = ACCEPTED if is_canceled else PASSED_ON
    if prefers_xml(request):
        return PlainTextResponse(said, status_code=202)
    return Response(msgspec.json.encode(said), status_code=202, media_type=DICOM_JSON)


async def _answered(request: Request, work: Awaitable[Response], *, warns: bool = False) -> Response:
    """The answer, or what it was refused with: a JSON string, or where ``warns`` that or text, with a Warning.

    Who prefers XML gets text.
    """
    try:
        return await work
    except StoreUnavailable:
        raise
    except HounsfieldError as error:
        headers = {"Warning": _warning(request, error.message)} if warns or isinstance(error, AlreadyCanceled) else {}
        if (warns and not _names_json(request)) or prefers_xml(request):
            return PlainTextResponse(error.message, status_code=error.status, headers=headers)
        return Response(
            msgspec.json.encode(error.message), status_code=error.status, media_type=DICOM_JSON, headers=headers
        )


def _names_json(request: Request) -> bool:
    return any(entry.media_type in _JSON for entry in parse_accept(request.headers.getlist("accept")))


def _warning(request: Request, message: str) -> str:
    # A message may quote a name from the URL, and a header is no place for most characters.
    quoted = _UNPRINTABLE.sub("?", message).replace("\\", "\\\\").replace('"', '\\"')
    return f'299 {host_of(request.headers.get("host", ""))}: "{quoted}"'


def _path_uid(request: Request) -> str:
    """The UID the path names. Raises BadRequest."""
    uid = uid_parameter(request, "workitem")
    assert uid is not None
    return uid


def _named_uid(request: Request, name: str) -> str | None:
    """The UID that is the name of the first query parameter (``?1.2.3``), or its value under ``name``; None if there is
    no parameter. Raises BadRequest."""
    query: bytes = request.scope["query_string"]
    first, value = next(iter(parse_qsl(query.decode("latin-1"), keep_blank_values=True)), ("", ""))
    if not query.strip(b"&"):
        return None
    uid = value if first == name and value else first
    if not uids.is_valid(uid):
        raise BadRequest(
            f"The query parameter '{first[:100]}' is invalid. Its name must be a UID: at most 64 characters of '0'-'9' "
            "and '.', the last one a digit."
        )
    return uids.normalise(uid)
