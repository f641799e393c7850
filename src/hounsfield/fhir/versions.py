"""What differs between FHIR R4 and R5, for all resources cast writes (dicom-cast.md §10).

Everywhere else resources have the shape of R4. For an R5 server they take the shape of R5 on the way out and that of R4
on the way in. What R4 cannot say stays in the resource on its way through, under names R4 does not know.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec

from hounsfield.fhir.target import FhirTarget, Match, Resource

VERSIONS: Mapping[str, tuple[str, ...]] = {"R4": ("4.0.0", "4.0.1", "4.3.0"), "R5": ("5.0.0",)}
"""By the name in ``Fhir:Version``, what a server of it says in ``fhirVersion``; R4B equals R4 for what cast writes."""
INTERPRETER = "http://hl7.org/fhir/4.0/StructureDefinition/extension-ImagingStudy.interpreter"
"""R5 has no interpreter; so it says what only R4 has (R5, "Extensions for converting between versions")."""
_URI = "urn:ietf:rfc:3986"
_WHOLE = "_r5"
"""In a Coding that was a CodeableConcept: that concept, where it says more than the Coding."""
_CONTEXT = "_r5context"
_PERIOD = "_r5period"
"""In a Task's restriction: the period it has in R5, as that of R4 is R5's requestedPeriod."""
_REASONS = {"procedureCode": "procedure", "reasonCode": "reason"}


def speaking(target: FhirTarget, version: str) -> FhirTarget:
    """``target`` for callers that know R4 only; ``version`` is a key of VERSIONS."""
    return R5Target(target) if version == "R5" else target


class R5Target:
    """An R5 server as :class:`~hounsfield.fhir.target.FhirTarget` with resources in the shape of R4."""

    def __init__(self, target: FhirTarget) -> None:
        self._target = target

    @property
    def endpoint(self) -> str:
        return self._target.endpoint

    async def capabilities(self) -> Resource:
        return await self._target.capabilities()

    async def search(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> list[Match]:
        return [
            Match(from_r5(match.resource), match.mode) for match in await self._target.search(resource_type, parameters)
        ]

    async def pages(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> AsyncIterator[list[Match]]:
        async for page in self._target.pages(resource_type, parameters):
            yield [Match(from_r5(match.resource), match.mode) for match in page]

    async def transaction(self, bundle: Resource) -> Resource:
        entries = [
            entry | {"resource": to_r5(entry["resource"])} if "resource" in entry else entry
            for entry in bundle.get("entry", [])
        ]
        return await self._target.transaction(bundle | {"entry": entries})

    async def close(self) -> None:
        await self._target.close()


def to_r5(resource: Resource) -> Resource:
    """A resource in the shape of R5; the argument stays as it is."""
    return _converted(resource, _TO_R5)


def from_r5(resource: Resource) -> Resource:
    """A resource an R5 server holds, in the shape of R4."""
    return _converted(resource, _FROM_R5)


def _converted(resource: Resource, converters: Mapping[str, Callable[[Resource], None]]) -> Resource:
    convert = converters.get(str(resource.get("resourceType")))
    if convert is None:
        return resource
    copy: Resource = msgspec.json.decode(msgspec.json.encode(resource))
    convert(copy)
    return copy


# --- ImagingStudy --------------------------------------------------------------------------------------------------


def _study_to_r5(study: Resource) -> None:
    _each(study, "modality", _concept)
    for element, reference in _REASONS.items():
        concepts = [{"concept": concept} for concept in study.pop(element, [])]
        if concepts:
            study[reference] = [*study.get(reference, []), *concepts]
    interpreters = [{"url": INTERPRETER, "valueReference": one} for one in study.pop("interpreter", [])]
    if interpreters:
        study["extension"] = [*study.get("extension", []), *interpreters]
    for series in study.get("series", []):
        _one(series, "modality", _concept)
        _one(series, "laterality", _concept)
        _one(series, "bodySite", lambda coding: coding.get(_WHOLE) or {"concept": _concept(coding)})


def _study_from_r5(study: Resource) -> None:
    _each(study, "modality", _coding)
    for element, reference in _REASONS.items():
        listed = study.pop(reference, [])
        concepts = [one["concept"] for one in listed if one.keys() == {"concept"}]
        others = [one for one in listed if one.keys() != {"concept"}]
        study |= ({element: concepts} if concepts else {}) | ({reference: others} if others else {})
    extensions = study.pop("extension", [])
    interpreters = [one["valueReference"] for one in extensions if _is_interpreter(one)]
    others = [one for one in extensions if not _is_interpreter(one)]
    study |= ({"interpreter": interpreters} if interpreters else {}) | ({"extension": others} if others else {})
    for series in study.get("series", []):
        _one(series, "modality", _coding)
        _one(series, "laterality", _coding)
        _one(series, "bodySite", _body_site)


def _is_interpreter(extension: Resource) -> bool:
    return extension.get("url") == INTERPRETER and "valueReference" in extension


def _body_site(reference: Resource) -> Resource:
    coding = _coding(reference.get("concept", {}))
    simple = reference.keys() == {"concept"} and _WHOLE not in coding
    return coding if simple else coding | {_WHOLE: reference}


def _coding(concept: Resource) -> Resource:
    """The first Coding of a CodeableConcept, with the whole where that says more."""
    codings: list[Resource] = concept.get("coding") or [{}]
    return codings[0] if concept == {"coding": codings[:1]} else codings[0] | {_WHOLE: concept}


def _concept(coding: Resource) -> Resource:
    """The CodeableConcept of a Coding; the one it came from, unless the Coding was changed."""
    plain = {key: value for key, value in coding.items() if key != _WHOLE}
    whole = coding.get(_WHOLE)
    if isinstance(whole, dict) and (whole.get("coding") or [{}])[0] == plain:
        return whole
    return {"coding": [plain]}


def _each(element: Resource, key: str, convert: Callable[[Resource], Resource]) -> None:
    if key in element:
        element[key] = [convert(one) for one in element[key]]


def _one(element: Resource, key: str, convert: Callable[[Resource], Resource]) -> None:
    if key in element:
        element[key] = convert(element[key])


# --- the others ----------------------------------------------------------------------------------------------------


def _endpoint_to_r5(endpoint: Resource) -> None:
    # Only ever created: one that is found is looked at by name and address, which both versions have.
    endpoint["connectionType"] = [{"coding": [endpoint["connectionType"]]}]
    endpoint["payload"] = [{"type": endpoint.pop("payloadType"), "mimeType": endpoint.pop("payloadMimeType")}]


def _device_to_r5(device: Resource) -> None:
    # Only ever created, too.
    if "deviceName" in device:
        device["name"] = [{"value": one["name"], "type": one["type"]} for one in device.pop("deviceName")]


def _report_to_r5(report: Resource) -> None:
    if "imagingStudy" in report:
        report["study"] = report.pop("imagingStudy")


def _report_from_r5(report: Resource) -> None:
    if "study" in report:
        report["imagingStudy"] = report.pop("study")


def _document_to_r5(document: Resource) -> None:
    master = document.pop("masterIdentifier", None)
    if master is not None:
        document["identifier"] = [master, *document.get("identifier", [])]
    related = document.pop("context", {}).get("related", [])
    events = [*document.get("event", []), *({"reference": one} for one in related)]
    if events:
        document["event"] = events
    if _CONTEXT in document:
        document["context"] = document.pop(_CONTEXT)


def _document_from_r5(document: Resource) -> None:
    identifiers = document.get("identifier", [])
    master = next((one for one in identifiers if one.get("system") == _URI), None)
    if master is not None:
        document["masterIdentifier"] = master
        document["identifier"] = [one for one in identifiers if one is not master]
    if "context" in document:
        document[_CONTEXT] = document.pop("context")
    events = document.pop("event", [])
    related = [one["reference"] for one in events if one.keys() == {"reference"}]
    others = [one for one in events if one.keys() != {"reference"}]
    document |= ({"context": {"related": related}} if related else {}) | ({"event": others} if others else {})


def _task_to_r5(task: Resource) -> None:
    _one(task, "statusReason", lambda concept: concept.get(_WHOLE) or {"concept": concept})
    reasons = [{"concept": one} for one in (task.pop("reasonCode", None),) if one] + task.pop("reason", [])
    performers = [{"concept": one} for one in task.pop("performerType", [])] + task.pop("requestedPerformer", [])
    restriction = task.pop("restriction", {})
    period = restriction.pop("period", None)
    if _PERIOD in restriction:
        restriction["period"] = restriction.pop(_PERIOD)
    task |= ({"reason": reasons} if reasons else {}) | ({"requestedPerformer": performers} if performers else {})
    task |= ({"requestedPeriod": period} if period else {}) | ({"restriction": restriction} if restriction else {})


def _task_from_r5(task: Resource) -> None:
    _one(task, "statusReason", _status_reason)
    reasons = task.pop("reason", [])
    code = next((one for one in reasons if one.keys() == {"concept"}), None)
    others = [one for one in reasons if one is not code]
    performers = task.pop("requestedPerformer", [])
    kinds = [one["concept"] for one in performers if one.keys() == {"concept"}]
    others_asked = [one for one in performers if one.keys() != {"concept"}]
    restriction = task.pop("restriction", {})
    if "period" in restriction:
        restriction[_PERIOD] = restriction.pop("period")
    if "requestedPeriod" in task:
        restriction["period"] = task.pop("requestedPeriod")
    task |= ({"reasonCode": code["concept"]} if code else {}) | ({"reason": others} if others else {})
    task |= ({"performerType": kinds} if kinds else {}) | ({"requestedPerformer": others_asked} if others_asked else {})
    task |= {"restriction": restriction} if restriction else {}


def _status_reason(reason: Resource) -> Resource:
    concept: Resource = reason.get("concept", {})
    return concept if reason.keys() == {"concept"} else concept | {_WHOLE: reason}


_TO_R5: Mapping[str, Callable[[Resource], None]] = {
    "ImagingStudy": _study_to_r5,
    "Endpoint": _endpoint_to_r5,
    "Device": _device_to_r5,
    "DiagnosticReport": _report_to_r5,
    "DocumentReference": _document_to_r5,
    "Task": _task_to_r5,
}
_FROM_R5: Mapping[str, Callable[[Resource], None]] = {
    "ImagingStudy": _study_from_r5,
    "DiagnosticReport": _report_from_r5,
    "DocumentReference": _document_from_r5,
    "Task": _task_from_r5,
}
