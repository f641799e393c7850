"""The worklist in the OpenAPI documents."""

from collections.abc import Iterator
from typing import Any

from hounsfield.dicom import dictionary
from hounsfield.web.negotiation import DICOM_XML
from hounsfield.web.openapi.components import (
    BINARY,
    DICOM_JSON,
    TEXT,
    UNAVAILABLE,
    json_content,
    operation,
    parameter,
    query,
    response,
)
from hounsfield.web.openapi.schemas import Json, array, ref
from hounsfield.web.workitem_search import SEARCHABLE
from hounsfield.worklist.cancellation import ACCEPTED

_UID = "1.2.826.0.1.3680043.8.498.7"
_URL = {"description": "The workitem's address.", "schema": {"type": "string", "format": "uri"}}

WORKITEM_HEADERS: Json = {
    "WorkitemLocation": _URL,
    "WorkitemWarning": {
        "description": "What it was refused with.",
        "schema": {"type": "string"},
        "example": '299 dicom.example.com: "The target URI did not reference a claimed Workitem."',
    },
}

_STATE: Json = {"vr": "CS", "Value": ["SCHEDULED"]}
_WORKITEM: Json = {
    "00080018": {"vr": "UI", "Value": [_UID]},
    "00404005": {"vr": "DT", "Value": ["20240229143000"]},
    "00741000": _STATE,
    "00741204": {"vr": "LO", "Value": ["Read CT of the chest"]},
}
_ONE = "/workitems/{workitemInstanceUid}"
_TAG = "Worklist"


def workitem_operations() -> Iterator[tuple[str, str, Json]]:
    """The six of them; the same in every version."""
    yield _create()
    yield _search()
    yield _retrieve()
    yield _update()
    yield _cancel()
    yield _change_state()


def _refusal(description: str) -> Json:
    """A refusal: text, or the same as a JSON string."""
    return response(
        f"{description} The body is one sentence, as text or as a JSON string.",
        {"text/plain": TEXT, DICOM_JSON: TEXT},
        {"Warning": "WorkitemWarning"},
    )


_BODY_REFUSED = {
    "413": _refusal("The body is larger than this server reads."),
    "415": _refusal("The body is neither application/dicom+json nor application/dicom+xml."),
}
_NOT_ACCEPTED = {
    "406": {"description": "Accept allows neither application/dicom+json nor application/dicom+xml. The body is empty."}
}
_XML = {"schema": {"type": "string", "description": "A document of the Native DICOM Model (PS3.19 A.1)."}}
_UNKNOWN = {"404": _refusal("There is no such workitem.")}


def _body(description: str, sent: Json, *, required: bool = True) -> Json:
    content = {**json_content(DICOM_JSON, array("Dataset", "Only the first counts."), [sent]), DICOM_XML: _XML}
    return {"requestBody": {"required": required, "description": description, "content": content}}


def _operation(method: str, path: str, name: str, summary: str, responses: Json, **more: Any) -> tuple[str, str, Json]:
    return path, method, operation(_TAG, name, summary, responses, **more)


def _create() -> tuple[str, str, Json]:
    located = {"Location": "WorkitemLocation", "Content-Location": "WorkitemLocation"}
    responses = {
        "201": response("It is created, and scheduled.", headers=located),
        "400": _refusal("A UID is none, or the dataset breaks a requirement of PS3.4 Table CC.2.5-3."),
        **_NOT_ACCEPTED,
        "409": _refusal("There is a workitem with this UID."),
        **_BODY_REFUSED,
        **UNAVAILABLE,
    }
    uid = query(
        "workitem",
        "Its UID, where the dataset does not have it. The UID may also be the name of the parameter: `?1.2.3`.",
        type="string",
    )
    sent = {key: value for key, value in _WORKITEM.items() if value is not _STATE}
    more = {"parameters": [uid], **_body("The workitem.", sent)}
    return _operation("post", "/workitems", "AddWorkitem", "Create a workitem", responses, **more)


def _search() -> tuple[str, str, Json]:
    found = {
        **json_content(DICOM_JSON, array("Dataset", "The matches."), [_WORKITEM]),
        "multipart/related": {"schema": BINARY},
    }
    responses = {
        "200": response("There are matches.", found),
        "204": response("There are none."),
        "400": _refusal("A query parameter is unknown, invalid or given twice."),
        **_NOT_ACCEPTED,
        **UNAVAILABLE,
    }
    parameters = [parameter(name) for name in ("limit", "offset")] + [
        query("fuzzymatching", "Names match by the beginnings of their words.", type="boolean", default=False),
        query("includefield", "Further attributes to return, or `all`.", type="array", items={"type": "string"}),
        *(query(_keywords(path), f"Filter on {_numbers(path)}.", type="string") for path in SEARCHABLE),
    ]
    more = {
        "description": "Newest first. All filters must match: texts whatever their case, the start as a moment or a "
        "range (`20240101-20240131`, `20240101-`, `-20240131`). Who asks for "
        "`application/dicom+xml` gets a multipart answer, a part for each workitem.",
        "parameters": parameters,
    }
    return _operation("get", "/workitems", "QueryWorkitems", "Search for workitems", responses, **more)


def _keywords(path: str) -> str:
    rows = [dictionary.attribute(int(tag, 16)) for tag in path.split(".")]
    return ".".join(row.keyword for row in rows if row is not None)


def _numbers(path: str) -> str:
    return ".".join(f"({tag[:4]},{tag[4:]})" for tag in path.split("."))


def _retrieve() -> tuple[str, str, Json]:
    responses = {
        "200": response(
            "The workitem, without its Transaction UID.",
            {**json_content(DICOM_JSON, ref("Dataset"), _WORKITEM), DICOM_XML: _XML},
        ),
        "400": _refusal("The UID is none."),
        **_UNKNOWN,
        **_NOT_ACCEPTED,
        **UNAVAILABLE,
    }
    return _operation("get", _ONE, "RetrieveWorkitem", "Retrieve a workitem", responses)


def _update() -> tuple[str, str, Json]:
    responses = {
        "200": response("It is changed.", headers={"Content-Location": "WorkitemLocation"}),
        "400": _refusal(
            "A UID is none, the Transaction UID is not the owner's, the workitem is not there or is completed, or the "
            "dataset breaks a requirement of PS3.4 Table CC.2.5-3."
        ),
        "409": _refusal("It is canceled."),
        **_BODY_REFUSED,
        **UNAVAILABLE,
    }
    uid = query(
        "transaction-uid",
        "The owner's Transaction UID, once it is claimed. It may also be the name of the parameter: `?1.2.3`.",
        type="string",
    )
    sent = {"00741204": _WORKITEM["00741204"]}
    more = {"parameters": [uid], **_body("Attributes that replace those it has; sequences as a whole.", sent)}
    return _operation("post", _ONE, "UpdateWorkitem", "Update a workitem", responses, **more)


def _cancel() -> tuple[str, str, Json]:
    responses = {
        "202": response("It is canceled.", json_content(DICOM_JSON, {"type": "string"}, ACCEPTED)),
        "400": _refusal("The UID is none, or the state does not allow it."),
        **_UNKNOWN,
        "409": _refusal("It is canceled already."),
        **_BODY_REFUSED,
        **UNAVAILABLE,
    }
    sent = {"00741238": {"vr": "LT", "Value": ["The patient did not come."]}}
    more = _body("Reason and whom to ask, if they matter.", sent, required=False)
    path = f"{_ONE}/cancelrequest"
    return _operation("post", path, "CancelWorkitem", "Ask that a workitem be canceled", responses, **more)


def _change_state() -> tuple[str, str, Json]:
    responses = {
        "200": response("It is in this state.", headers={"Warning": "WorkitemWarning"}),
        "400": _refusal(
            "The UID is none, the body does not name a state and a Transaction UID, or it cannot go there."
        ),
        **_UNKNOWN,
        **_BODY_REFUSED,
        **UNAVAILABLE,
    }
    sent = {
        "00081195": {"vr": "UI", "Value": [f"{_UID}.1"]},
        "00741000": {"vr": "CS", "Value": ["IN PROGRESS"]},
    }
    more = {
        "description": "IN PROGRESS claims it: the Transaction UID is from then on the lock that its owner holds, and "
        "who completes, cancels or updates it has to give it.",
        **_body("Transaction UID and the state: IN PROGRESS, COMPLETED or CANCELED.", sent),
    }
    summary = "Claim, complete or cancel a workitem"
    return _operation("put", f"{_ONE}/state", "ChangeWorkitemState", summary, responses, **more)
