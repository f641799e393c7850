"""DiagnosticReport and DocumentReference: links to the documents of a study, with ``ExtendedMapping``.

An SR document becomes a DiagnosticReport; a key object selection or an encapsulated document a DocumentReference. Both
say where the document is, and nothing of what it says.
"""

import re
from collections.abc import Collection, Sequence

from hounsfield.cast.concept import codeable_concept
from hounsfield.cast.feed import DEFAULT_PARTITION
from hounsfield.cast.person import display_name
from hounsfield.cast.reference import Parameters, identifier_parameter, refers_to, study_identifier
from hounsfield.cast.structured_report import CODE_MEANING, CONCEPT_NAME_CODE_SEQUENCE, Code, Node
from hounsfield.cast.values import Values
from hounsfield.fhir.target import Resource

CONTENT_DATE = "00080023"
CONTENT_TIME = "00080033"
DOCUMENT_TITLE = "00420010"
VERIFYING_OBSERVER_SEQUENCE = "0040A073"
VERIFYING_OBSERVER_NAME = "0040A075"
COMPLETION_FLAG = "0040A491"
VERIFICATION_FLAG = "0040A493"
PRELIMINARY_FLAG = "0040A496"

KEY_SYSTEM = "urn:hounsfield:document"
"""System of the identifier by which the resource of a document is found again; its value is the SOPInstanceUID."""
TYPES = ("DiagnosticReport", "DocumentReference")
_VERSION = re.compile("v[0-9]+")
_STRUCTURED_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
_ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.104."
_KEY_OBJECT_DESCRIPTION = Code("113012", "DCM")
_LENGTH_WITH_TIME = len("YYYY-MM-DDTHH:MM:SS")
_OWN = frozenset(
    (
        *("identifier", "masterIdentifier", "status", "docStatus", "code", "type", "subject"),
        *("effectiveDateTime", "date", "description", "presentedForm", "content", "resultsInterpreter"),
    )
)
"""Elements cast writes, and takes away when the document no longer says them."""


def api_root(root: str, partition: str) -> str:
    """Where the studies of a partition can be retrieved, with a slash at its end.

    The root that is written into Endpoint has no version, which servers with a change feed want; unless the operator
    gave it one.
    """
    base = root.rstrip("/")
    if not _VERSION.fullmatch(base.rpartition("/")[2]):
        base += "/v2"
    return f"{base}/" if partition == DEFAULT_PARTITION else f"{base}/partitions/{partition}/"


def title(values: Values) -> str | None:
    """What a document is called: its title, or the meaning of its concept name."""
    concept = values.first_item(CONCEPT_NAME_CODE_SEQUENCE)
    return values.text(DOCUMENT_TITLE) or (None if concept is None else concept.text(CODE_MEANING))


def read(values: Values, sop_class: str, uids: tuple[str, str, str], root: str, created: str | None) -> Resource | None:
    """The resource of a document, still without ``subject`` and study; None for an instance that is none.

    ``uids`` are study, series and instance, ``root`` is where studies are (:func:`api_root`), ``created`` the content
    date and time as a FHIR dateTime.
    """
    if sop_class != _KEY_OBJECT_SELECTION and sop_class.startswith(_STRUCTURED_REPORTS):
        return _diagnostic_report(values, uids, root, created)
    if sop_class == _KEY_OBJECT_SELECTION or sop_class.startswith(_ENCAPSULATED):
        return _document_reference(values, uids, root, created)
    return None


def _diagnostic_report(values: Values, uids: tuple[str, str, str], root: str, created: str | None) -> Resource:
    concept = values.first_item(CONCEPT_NAME_CODE_SEQUENCE)
    code = None if concept is None else codeable_concept(concept)
    report: Resource = {
        "resourceType": "DiagnosticReport",
        "identifier": _identifiers(uids),
        "status": _status(values) or "unknown",
        "code": code or {"text": title(values) or "Structured report"},
        "presentedForm": [_attachment(values, uids, root, created)],
    }
    if created:
        report["effectiveDateTime"] = created
    observers = [display_name(item, VERIFYING_OBSERVER_NAME) for item in values.items(VERIFYING_OBSERVER_SEQUENCE)]
    interpreters = [{"display": name} for name in observers if name]
    if interpreters:
        report["resultsInterpreter"] = interpreters
    return report


def _document_reference(values: Values, uids: tuple[str, str, str], root: str, created: str | None) -> Resource:
    document: Resource = {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{uids[2]}"},
        "identifier": _identifiers(uids),
        "status": "current",
        "content": [{"attachment": _attachment(values, uids, root, created)}],
    }
    status = _status(values)
    if status:
        document["docStatus"] = "preliminary" if status == "partial" else status
    concept = values.first_item(CONCEPT_NAME_CODE_SEQUENCE)
    kind = None if concept is None else codeable_concept(concept)
    if kind:
        document["type"] = kind
    if created and len(created) > _LENGTH_WITH_TIME:
        document["date"] = created
    said = Node(values).child(_KEY_OBJECT_DESCRIPTION)
    description = (said.text() if said else None) or values.text(DOCUMENT_TITLE)
    if description:
        document["description"] = description
    return document


def _identifiers(uids: tuple[str, str, str]) -> list[Resource]:
    study, _, sop = uids
    return [study_identifier(study), study_identifier(sop), {"system": KEY_SYSTEM, "value": sop}]


def _attachment(values: Values, uids: tuple[str, str, str], root: str, created: str | None) -> Resource:
    study, series, sop = uids
    attachment: Resource = {
        "contentType": "application/dicom",
        "url": f"{root}studies/{study}/series/{series}/instances/{sop}",
    }
    name = title(values)
    if name:
        attachment["title"] = name
    if created:
        attachment["creation"] = created
    return attachment


def _status(values: Values) -> str | None:
    """How far a document is (PS3.3 C.17.2); None where it does not say."""
    completion, verification = values.code(COMPLETION_FLAG), values.code(VERIFICATION_FLAG)
    preliminary = values.code(PRELIMINARY_FLAG)
    if completion == "PARTIAL":
        return "partial"
    if preliminary != "PRELIMINARY" and (verification == "VERIFIED" or preliminary == "FINAL"):
        return "final"
    return "preliminary" if completion or verification or preliminary else None


def search(sop_uid: str) -> Parameters:
    """How the resource of one document is found."""
    return [identifier_parameter(KEY_SYSTEM, sop_uid)]


def key(resource: Resource) -> str | None:
    """The SOPInstanceUID of the document a resource was made from; None for resources of others."""
    for identifier in resource.get("identifier", []):
        if identifier.get("system") == KEY_SYSTEM:
            return str(identifier.get("value", ""))
    return None


def is_at(resource: Resource, root: str) -> bool:
    """Whether the document lies below ``root``: several archives may have theirs in one FHIR server."""
    attachments = [
        *resource.get("presentedForm", []),
        *(one.get("attachment", {}) for one in resource.get("content", [])),
    ]
    return any(str(one.get("url", "")).startswith(f"{root.rstrip('/')}/") for one in attachments)


def merge(found: Resource | None, wanted: Resource, subject: str, study: str) -> Resource:
    """The resource as it should be, given what FHIR holds; ``subject`` and ``study`` are names of resources."""
    kept = {name: value for name, value in (found or {}).items() if name not in _OWN}
    merged = kept | wanted
    if found and refers_to(found.get("subject"), subject):
        merged["subject"] = found["subject"]
    else:
        merged["subject"] = {"reference": subject}
    before = _studies(found or {})
    listed = before if any(refers_to(one, study) for one in before) else [*before, {"reference": study}]
    if merged["resourceType"] == "DiagnosticReport":
        merged["imagingStudy"] = listed
    else:
        merged["context"] = ((found or {}).get("context") or {}) | {"related": listed}
    return merged


def set_results(report: Resource, known: Collection[str], wanted: Sequence[str]) -> None:
    """Have a DiagnosticReport name its Observations ``wanted``, and no other of those that are ``known``, in place.

    Results that others gave it stay, before ours.
    """
    if report["resourceType"] != "DiagnosticReport":
        return
    listed = {_target(one): one for one in report.get("result", [])}
    of_cast = {*known, *wanted}
    others = [one for target, one in listed.items() if target not in of_cast]
    ours = [listed.get(name, {"reference": name}) for name in wanted]
    if others or ours:
        report["result"] = [*others, *ours]
    else:
        report.pop("result", None)


def _target(reference: Resource) -> str:
    """What a Reference leads to, as ``Type/id`` where it is a URL; one without is itself."""
    text = reference.get("reference")
    return "/".join(text.split("/")[-2:]) if isinstance(text, str) else repr(reference)


def without_results(report: Resource, gone: Collection[str]) -> Resource:
    """A copy of a DiagnosticReport that refers to none of the Observations that are ``gone``."""
    changed = dict(report)
    set_results(changed, gone, ())
    return changed


def _studies(resource: Resource) -> list[Resource]:
    listed = resource.get("imagingStudy") or resource.get("context", {}).get("related") or []
    return list(listed)
