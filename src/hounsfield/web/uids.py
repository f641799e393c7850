"""UIDs in request paths (retrieve.md §2)."""

from collections.abc import Mapping

from starlette.requests import Request

from hounsfield.dicom import uid
from hounsfield.errors import BadRequest
from hounsfield.index.instances import InstancePath
from hounsfield.web.api_route import partition_of

_NAMES = {
    "study": "StudyInstanceUid",
    "series": "SeriesInstanceUid",
    "instance": "SopInstanceUid",
    "workitem": "WorkitemInstanceUid",
}


def uid_parameter(request: Request, name: str) -> str | None:
    """The UID the path gives for ``study``, ``series``, ``instance`` or ``workitem``; None where the route has none.

    Raises BadRequest naming the parameter if it is not a UID.
    """
    return _uid(request.path_params, name)


def _uid(parameters: Mapping[str, str], name: str) -> str | None:
    value = parameters.get(name)
    if value is None:
        return None
    if not uid.is_valid(value):
        raise BadRequest(
            f"The specified {_NAMES[name]} is not a valid UID: "
            "at most 64 characters of '0'-'9' and '.', the last one a digit."
        )
    return uid.normalise(value)


def instance_path(request: Request) -> InstancePath:
    """The study, series or instance the path names. Raises BadRequest."""
    named = request.path_params
    study = _uid(named, "study")
    assert study is not None
    return InstancePath(partition_of(request).key, study, _uid(named, "series"), _uid(named, "instance"))
