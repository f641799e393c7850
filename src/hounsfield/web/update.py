"""Bulk update: attributes of whole studies set anew (operations.md §2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.database.engine import Database
from hounsfield.dicom import uid
from hounsfield.dicom.attribute_changes import Malformed, Refusal, read_changes
from hounsfield.errors import BadRequest
from hounsfield.operations import update
from hounsfield.security.roles import DataAction
from hounsfield.web.api_route import ApiRoute, partition_of
from hounsfield.web.json_body import json_body, members, require_json
from hounsfield.web.negotiation import DICOM_JSON
from hounsfield.web.operations import MEDIA_TYPE, Kind, OperationsDisabled, operation_reference

MAX_STUDIES = 50
"""Of one update."""

UPDATE_KIND = Kind(update.KIND, DataAction.WRITE, results=update.results_of)
"""How updates are shown."""


def update_routes(database: Database, *, disabled: bool = False) -> list[ApiRoute]:
    """The route, which begins with version 2. ``disabled``: DicomServer:Features:DisableOperations."""

    async def handle(request: Request) -> Response:
        body = await json_body(request)
        if disabled:
            raise OperationsDisabled
        studies, dataset = _asked(body)
        try:
            changes, refusals = read_changes(dataset)
        except Malformed as error:
            raise BadRequest(f"The field 'ChangeDataset' is no DICOM JSON: {error}.") from error
        if refusals:
            return _refused(refusals)
        valid = {change.key: change.element for change in changes}
        operation_id = await update.start_update(database, partition_of(request), studies, valid)
        reference = operation_reference(request, operation_id)
        headers = {"content-type": MEDIA_TYPE, "location": reference["href"]}
        return Response(msgspec.json.encode(reference), status_code=202, headers=headers)

    return [
        ApiRoute(
            "/studies/$bulkUpdate",
            handle,
            "POST",
            "bulk update",
            data_action=DataAction.WRITE,
            audit_action="update-study",
            check_content=require_json,
            since=2,
        )
    ]


def _asked(body: Any) -> tuple[list[str], Mapping[str, Any]]:
    """The studies and the dataset of a body. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("The request body is invalid: an object with studyInstanceUids and changeDataset is required.")
    given = members(body)
    dataset = given.get("changedataset")
    if not isinstance(dataset, dict):
        raise BadRequest("The required field 'ChangeDataset' is missing, or is no DICOM JSON object.")
    studies = given.get("studyinstanceuids")
    if not studies:
        raise BadRequest("The required field 'StudyInstanceUids' is missing or empty.")
    if not isinstance(studies, list) or not all(isinstance(study, str) for study in studies):
        raise BadRequest("The field 'StudyInstanceUids' is invalid: an array of UIDs is required.")
    if len(studies) > MAX_STUDIES:
        raise BadRequest(f"StudyInstanceUids count exceeded maximum length '{MAX_STUDIES}'")
    if not all(map(uid.is_valid, studies)):
        raise BadRequest(
            "The field 'StudyInstanceUids' holds what is no valid UID: at most 64 characters of '0'-'9' and '.', "
            "the last one a digit."
        )
    return [uid.normalise(study) for study in studies], dataset


def _refused(refusals: Sequence[Refusal]) -> Response:
    items = [{"00000902": {"vr": "LO", "Value": [refusal.comment]}} for refusal in refusals]
    content = {"00741048": {"vr": "SQ", "Value": items}}
    return Response(msgspec.json.encode(content), status_code=400, media_type=DICOM_JSON)
