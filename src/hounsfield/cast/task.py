"""Task: one for each workitem, found by its UID (``DicomCast:Features:SyncWorkitems``).

Of other resources, a Task leads to its Patient, and to the study it is about and its orders where they are there; these
and all others are named by identifiers. What others add to a Task stays.
"""

from collections.abc import Iterable

from hounsfield.cast import orders
from hounsfield.cast.reference import Parameters, escape, refers_to, study_identifier
from hounsfield.cast.workitem import INPUT_TYPE, OUTPUT_TYPE, TaskValues, study_reference
from hounsfield.fhir.target import Resource

_FOR_PEOPLE = ("encounter", "requester", "owner", "location")
"""References that cast writes for people to read; one that leads somewhere has been put there by somebody else."""
_OWN = frozenset(
    (
        *("resourceType", "identifier", "basedOn", "status", "statusReason", "businessStatus", "priority", "code"),
        *("description", "focus", "for", "executionPeriod", "authoredOn", "lastModified", "performerType"),
        *("reasonCode", "note", "restriction", "input", "output", *_FOR_PEOPLE),
    )
)
"""What cast alone writes: where a workitem says nothing of it, it is not there."""


def identifier(workitem_uid: str) -> Resource:
    """The identifier of a workitem's Task."""
    return study_identifier(workitem_uid)


def search(workitem_uids: Iterable[str]) -> Parameters:
    """How the Tasks of these workitems are found."""
    ours = map(identifier, workitem_uids)
    return [("identifier", ",".join(f"{escape(one['system'])}|{escape(one['value'])}" for one in ours))]


def uids_of(task: Resource) -> set[str]:
    """The workitems a Task is of."""
    prefix = identifier("")
    return {
        str(one["value"]).removeprefix(prefix["value"])
        for one in task.get("identifier", [])
        if one.get("system") == prefix["system"] and str(one.get("value", "")).startswith(prefix["value"])
    }


def merge(
    found: Resource | None,
    values: TaskValues,
    *,
    root: str,
    subject: str | None,
    order_names: Iterable[str | None],
    study: str | None,
) -> Resource:
    """The Task of a workitem: what cast says of it, and what others have added to the one that was ``found``.

    ``subject``, ``order_names`` (one for each of ``values.orders``) and ``study`` are names of resources, None where
    there is none. A Task that is new has ``root`` as its source.
    """
    before: Resource = {"meta": {"source": root}} if found is None else found
    wanted = dict(values.resource)
    if found is not None:
        _keep_others(found, wanted)
    wanted["basedOn"] = [dict(one) for one in before.get("basedOn", [])]
    for order, name in zip(values.orders, order_names, strict=True):
        orders.merge(wanted, order.identifier, name)
    if subject is None or refers_to(before.get("for"), subject):
        wanted["for"] = before.get("for")
    else:
        wanted["for"] = {"reference": subject}
    if values.study is not None:
        wanted["focus"] = study_reference(values.study) | ({"reference": study} if study else {})
        if study and refers_to(before.get("focus"), study):
            wanted["focus"]["reference"] = before["focus"]["reference"]
    kept = {key: value for key, value in before.items() if key not in _OWN}
    return {key: value for key, value in (kept | wanted).items() if value}


def _keep_others(found: Resource, wanted: Resource) -> None:
    """What others have put into elements that cast writes, too."""
    for element in _FOR_PEOPLE:
        if "reference" in found.get(element, {}):
            wanted[element] = found[element]
    wanted["intent"] = found.get("intent", wanted["intent"])
    own = wanted["identifier"]
    wanted["identifier"] = own + [one for one in found.get("identifier", []) if one not in own]
    notes = [one for one in found.get("note", []) if one.keys() != {"text"}]
    wanted["note"] = [*wanted.get("note", []), *notes]
    for element, type_ in (("input", INPUT_TYPE), ("output", OUTPUT_TYPE)):
        others = [one for one in found.get(element, []) if one.get("type") != type_]
        wanted[element] = [*wanted.get(element, []), *others]
    rest = {key: value for key, value in found.get("restriction", {}).items() if key != "period"}
    wanted["restriction"] = rest | wanted.get("restriction", {})


def released(task: Resource, study: str) -> Resource | None:
    """``task`` without leading to ``study``, which is going to be deleted; None if it does not, or not in our way.

    The identifier stays, so the Task still says which study it is about.
    """
    focus = task.get("focus", {})
    if "identifier" not in focus or not refers_to(focus, study):
        return None
    return task | {"focus": {key: value for key, value in focus.items() if key != "reference"}}
