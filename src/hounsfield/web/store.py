"""STOW-RS: POST studies and studies/{study} (store.md §§1, 5)."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.archive.admission import Outcome, StoreRequest
from hounsfield.archive.archive import Archive
from hounsfield.archive.store import store
from hounsfield.errors import BadRequest, UnsupportedMediaType
from hounsfield.security.roles import DataAction
from hounsfield.storage.spool import Spool
from hounsfield.web.api_route import ApiRoute, partition_of
from hounsfield.web.content_type import MalformedMediaType, boundary_of, parse_content_type, require_media_type
from hounsfield.web.hosts import host_of
from hounsfield.web.negotiation import DICOM, DICOM_JSON, require_dicom_json
from hounsfield.web.spooled_body import Admit, SpooledBody
from hounsfield.web.store_metadata import MetadataStore, admit_part, is_metadata
from hounsfield.web.uids import uid_parameter
from hounsfield.web.versions import api_version, service_root

MULTIPLE_VALUES = "One or more indexed Dicom tag(s) have multiple values, only first value is indexed."


def store_routes(archive: Archive, spool: Spool, max_part_bytes: int) -> list[ApiRoute]:
    """The two routes; ``max_part_bytes`` is the limit of one DICOM file."""

    from_metadata = MetadataStore(archive, spool, max_part_bytes)

    async def handle(request: Request) -> Response:
        content_type = _content_type(request)
        study = uid_parameter(request, "study")
        if content_type is None:
            raise UnsupportedMediaType("The specified content type '' is not supported.")
        body = SpooledBody(spool)
        try:
            has_metadata = await _read(request, *content_type, body, max_part_bytes)
            if not body.parts:
                return Response(status_code=204)
            asked = StoreRequest(partition_of(request), api_version(request).major, study)
            if has_metadata:
                outcomes = await from_metadata.store(body.parts, asked)
            else:
                outcomes = await store(archive, [part.upload for part in body.parts], asked)
        finally:
            body.discard()
        return _answer(request, asked, outcomes)

    def route(path: str, name: str) -> ApiRoute:
        return ApiRoute(
            path,
            handle,
            "POST",
            name,
            data_action=DataAction.WRITE,
            audit_action="store",
            creates_partition=True,
            check_content=_check_content,
            check=_check_accept,
        )

    return [route("/studies", "store"), route("/studies/{study}", "store in study")]


def _check_content(request: Request) -> None:
    _content_type(request)


def _check_accept(request: Request) -> None:
    require_dicom_json(request.headers.getlist("accept"))


def _content_type(request: Request) -> tuple[str, Mapping[str, str]] | None:
    """The request's media type and its parameters, None where it has no Content-Type.

    Raises UnsupportedMediaType with an empty body.
    """
    value = request.headers.get("content-type")
    if value is None:
        return None
    try:
        media_type, parameters = _parsed(value)
    except MalformedMediaType as error:
        raise UnsupportedMediaType("") from error
    if media_type not in (DICOM, "multipart/related"):
        raise UnsupportedMediaType("")
    return media_type, parameters


@lru_cache(maxsize=64)
def _parsed(content_type: str) -> tuple[str, Mapping[str, str]]:
    """It is asked for before access is checked, and when the body is read; many clients never change theirs."""
    return parse_content_type(content_type)


async def _read(
    request: Request, media_type: str, parameters: Mapping[str, str], body: SpooledBody, max_part_bytes: int
) -> bool:
    """Receive the body; whether it is metadata with bulk data, not files.

    Raises BadRequest, PayloadTooLarge, UnsupportedMediaType, StoreUnavailable.
    """
    if media_type == DICOM:
        await body.read_single(request, max_part_bytes)
        return False
    boundary = boundary_of(parameters)
    if "start" in parameters:
        raise BadRequest("The start parameter in multipart/related request is not supported.")
    has_metadata = is_metadata(parameters)
    if has_metadata:
        admit: Admit = partial(admit_part, max_part_bytes)
    else:
        admit = partial(_admit_instance, parameters.get("type"), max_part_bytes)
    await body.read_multipart(request, boundary, admit)
    return has_metadata


def _admit_instance(default: str | None, max_bytes: int, headers: Mapping[str, str], number: int) -> int:
    """Raise UnsupportedMediaType unless a part is application/dicom; ``default`` stands in for the first part."""
    declared = headers.get("content-type", default if number == 0 else None)
    if declared != DICOM:
        require_media_type(declared, DICOM)
    return max_bytes


def _answer(request: Request, asked: StoreRequest, outcomes: Sequence[Outcome]) -> Response:
    stored = [outcome for outcome in outcomes if outcome.path is not None]
    failed = [outcome for outcome in outcomes if outcome.path is None]
    root = service_root(request)
    body: dict[str, Any] = {}
    if stored and asked.study_uid is not None:
        body["00081190"] = _element("UR", f"{root}/studies/{asked.study_uid}")
    if failed:
        body["00081198"] = {"vr": "SQ", "Value": [_failed_item(outcome) for outcome in failed]}
    if stored:
        body["00081199"] = {"vr": "SQ", "Value": [_stored_item(outcome, root, asked) for outcome in stored]}
    headers = {}
    if any(outcome.multiple_values for outcome in outcomes):
        host = host_of(request.headers.get("host", "")) or request.url.hostname
        headers["Warning"] = f'299 {host}: "{MULTIPLE_VALUES}"'
    status = _status(stored, failed, asked.api_version)
    return Response(msgspec.json.encode(body), status_code=status, media_type=DICOM_JSON, headers=headers)


def _status(stored: Sequence[Outcome], failed: Sequence[Outcome], major: int) -> int:
    if not stored:
        return 409
    warned = major > 1 and any(outcome.warning is not None for outcome in stored)
    return 202 if failed or warned else 200


def _failed_item(outcome: Outcome) -> dict[str, Any]:
    item = _references(outcome)
    item["00081197"] = _element("US", outcome.failure)
    if outcome.comments:
        item["00741048"] = _comments(outcome.comments)
    return item


def _stored_item(outcome: Outcome, root: str, asked: StoreRequest) -> dict[str, Any]:
    item = _references(outcome)
    path = outcome.path
    assert path is not None
    item["00081190"] = _element(
        "UR", f"{root}/studies/{path.study_uid}/series/{path.series_uid}/instances/{path.sop_uid}"
    )
    if outcome.warning is not None:
        item["00081196"] = _element("US", outcome.warning)
    if asked.api_version > 1:
        item["00741048"] = _comments(outcome.comments)
    return item


def _references(outcome: Outcome) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if outcome.sop_class_uid is not None:
        item["00081150"] = _element("UI", outcome.sop_class_uid)
    if outcome.sop_instance_uid is not None:
        item["00081155"] = _element("UI", outcome.sop_instance_uid)
    return item


def _comments(comments: Sequence[str]) -> dict[str, Any]:
    if not comments:
        return {"vr": "SQ"}
    return {"vr": "SQ", "Value": [{"00000902": _element("LO", comment)} for comment in comments]}


def _element(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}
