"""What a workitem says, as the elements of a FHIR Task (``DicomCast:Features:SyncWorkitems``).

What the attributes mean is in PS3.3 §C.30, what the elements do in R4's Task. ``executionPeriod`` begins when somebody
begins, so what is only scheduled is in ``restriction.period``. People, machines, places are named for people to read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from hounsfield.cast import imaging_study, patient, person
from hounsfield.cast.concept import DCM_SYSTEM, codeable_concept, concepts
from hounsfield.cast.failure import EntryRefused, Table
from hounsfield.cast.imaging_study import ACCESSION_NUMBER
from hounsfield.cast.options import CastOptions
from hounsfield.cast.patient import PATIENT_ID, PatientValues
from hounsfield.cast.person import display_name
from hounsfield.cast.reference import (
    accession_identifier,
    study_identifier,
    typed_identifier,
)
from hounsfield.cast.structured_report import CODE_MEANING, CODE_VALUE
from hounsfield.cast.values import Values
from hounsfield.dicom.dates import utc_offset
from hounsfield.dicom.dictionary import key_of
from hounsfield.fhir.periods import parse_period
from hounsfield.fhir.target import Resource
from hounsfield.worklist.cancellation import (
    DISCONTINUATION_REASON_CODE_SEQUENCE,
    PROGRESS_INFORMATION_SEQUENCE,
    REASON_FOR_CANCELLATION,
)
from hounsfield.worklist.changes import Content
from hounsfield.worklist.dataset import Dataset
from hounsfield.worklist.states import State

_READINESS = key_of("InputReadinessState")
_PRIORITY = key_of("ScheduledProcedureStepPriority")
_LABEL = key_of("ProcedureStepLabel")
_COMMENTS = key_of("CommentsOnTheScheduledProcedureStep")
_WORKITEM_CODE = key_of("ScheduledWorkitemCodeSequence")
_STATION_NAME = key_of("ScheduledStationNameCodeSequence")
_STATION_CLASS = key_of("ScheduledStationClassCodeSequence")
_STATION_LOCATION = key_of("ScheduledStationGeographicLocationCodeSequence")
_HUMAN_PERFORMERS = key_of("ScheduledHumanPerformersSequence")
_PERFORMER_NAME = key_of("HumanPerformerName")
_PERFORMER_CODE = key_of("HumanPerformerCodeSequence")
_START = key_of("ScheduledProcedureStepStartDateTime")
_EXPECTED_COMPLETION = key_of("ExpectedCompletionDateTime")
_EXPIRATION = key_of("ScheduledProcedureStepExpirationDateTime")
_INPUT = key_of("InputInformationSequence")
_STUDY = key_of("StudyInstanceUID")
_ADMISSION_ID = key_of("AdmissionID")
_REQUEST = key_of("ReferencedRequestSequence")
_PLACER_NUMBER = key_of("PlacerOrderNumberImagingServiceRequest")
_FILLER_NUMBER = key_of("FillerOrderNumberImagingServiceRequest")
_REQUESTING_PHYSICIAN = key_of("RequestingPhysician")
_REQUESTING_SERVICE = key_of("RequestingService")
_REASON = key_of("ReasonForTheRequestedProcedure")
_REASON_CODES = key_of("ReasonForRequestedProcedureCodeSequence")
_PROGRESS = key_of("ProcedureStepProgress")
_PROGRESS_DESCRIPTION = key_of("ProcedureStepProgressDescription")
_CANCELLATION_DATE_TIME = key_of("ProcedureStepCancellationDateTime")
_PERFORMED = key_of("UnifiedProcedureStepPerformedProcedureSequence")
_PERFORMED_START = key_of("PerformedProcedureStepStartDateTime")
_PERFORMED_END = key_of("PerformedProcedureStepEndDateTime")
_PERFORMED_STATION = key_of("PerformedStationNameCodeSequence")
_ACTUAL_PERFORMERS = key_of("ActualHumanPerformersSequence")
_OUTPUT = key_of("OutputInformationSequence")

_PRIORITIES = {"HIGH": "stat", "MEDIUM": "urgent", "LOW": "routine"}
"""PS3.3 Table C.30.2-1: HIGH is "equivalent to a STAT request", LOW "routine or non-urgent"."""
_ASSIGNMENT_REJECTED = {"system": DCM_SYSTEM, "code": "110530"}
"""Of CID 9300: whoever it was assigned to has not begun."""
_STUDIES = {"system": "http://hl7.org/fhir/resource-types", "code": "ImagingStudy"}
INPUT_TYPE = {"coding": [_STUDIES], "text": "Input Information"}
OUTPUT_TYPE = {"coding": [_STUDIES], "text": "Output Information"}


@dataclass(frozen=True, slots=True)
class Order:
    """An order a workitem names: its identifier, and all its numbers."""

    identifier: Resource
    numbers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskValues:
    """What a workitem says. ``resource`` is its Task without references to other resources.

    ``patient`` is None for a workitem without Patient ID; ``study`` is the UID of the study it is about, if any.
    ``invalid`` are the values it is written without.
    """

    resource: Resource
    patient: PatientValues | None
    orders: tuple[Order, ...]
    study: str | None
    invalid: tuple[EntryRefused, ...] = ()


def read(content: Content, options: CastOptions) -> TaskValues:
    """What a workitem says. Raises EntryRefused where its values do not allow it to be written."""
    values = Values(content.dataset)
    invalid: list[EntryRefused] = []
    utc, who = None, None
    try:
        utc = imaging_study.offset(values)
    except EntryRefused as error:
        invalid.append(error)
    if values.text(PATIENT_ID) is not None:
        who = _patient(values, options, invalid)
    if invalid and options.enforce_validation:
        raise EntryRefused(Table.DICOM_FAIL, invalid[0].name, invalid[0].message, invalid[0].public)
    requests = list(values.items(_REQUEST))
    resource, study = _resource(content, values, requests, utc), study_of(content.dataset)
    return TaskValues(resource, who, tuple(_orders(requests)), study, tuple(invalid))


def study_of(dataset: Dataset) -> str | None:
    """The study a workitem is about: what goes in, else what is to come out, else what was asked for."""
    values = Values(dataset)
    requests = (request.code(_STUDY) for request in values.items(_REQUEST))
    return next(filter(None, (*_studies(values.items(_INPUT)), values.code(_STUDY), *requests)), None)


def _patient(values: Values, options: CastOptions, invalid: list[EntryRefused]) -> PatientValues:
    gender = None
    try:
        gender = patient.gender(values)
    except EntryRefused as error:
        invalid.append(error)
    return PatientValues(
        patient.identity(values, system=options.patient_system_id, is_issuer_id_used=options.is_issuer_id_used),
        patient.human_name(values.person_name(patient.PATIENT_NAME)),
        gender,
        patient.birth_date(values),
        person.further_names(values, patient.PATIENT_NAME) if options.extended_mapping else None,
    )


def _orders(requests: Iterable[Values]) -> Iterator[Order]:
    for request in requests:
        accession, placer, filler = map(request.text, (ACCESSION_NUMBER, _PLACER_NUMBER, _FILLER_NUMBER))
        numbers = tuple(number for number in (accession, placer, filler) if number)
        if accession:
            yield Order(accession_identifier(accession), numbers)
        elif placer or filler:
            yield Order(typed_identifier("PLAC" if placer else "FILL", numbers[0]), numbers)


def _studies(items: Iterable[Values]) -> list[str]:
    """The studies of instance references, each once."""
    return list(dict.fromkeys(uid for item in items if (uid := item.code(_STUDY))))


def _resource(content: Content, values: Values, requests: list[Values], utc: str | None) -> Resource:
    progress = values.first_item(PROGRESS_INFORMATION_SEQUENCE) or Values({})
    performed = list(values.items(_PERFORMED))
    label = values.text(_LABEL)
    code = next(iter(concepts(values.items(_WORKITEM_CODE))), None) or (label and {"text": label})
    reasons = concepts(progress.items(DISCONTINUATION_REASON_CODE_SEQUENCE)) if _is_canceled(content) else ()
    outputs = _studies(item for one in performed for item in one.items(_OUTPUT))
    found = {
        "resourceType": "Task",
        "identifier": [study_identifier(content.uid)],
        "status": _status(content, values, reasons),
        "statusReason": _status_reason(reasons, progress) if _is_canceled(content) else None,
        "businessStatus": {"text": _business_status(content, values, progress)},
        "intent": "order",
        "priority": _PRIORITIES.get(values.code(_PRIORITY) or ""),
        "code": code,
        "description": label,
        "encounter": _encounter(values),
        "executionPeriod": _execution(content, performed, progress, utc),
        "authoredOn": _instant(content.created),
        "lastModified": _instant(max(content.modified, content.created)),
        "requester": _requester(requests),
        "performerType": list(concepts(values.items(_STATION_CLASS))),
        "owner": _owner(values, performed),
        "location": _named("Location", values.items(_STATION_LOCATION)),
        "reasonCode": next(filter(None, map(_reason, requests)), None),
        "note": [{"text": text} for text in (values.text(_COMMENTS),) if text],
        "restriction": _restriction(values, utc),
        "input": _references(INPUT_TYPE, _studies(values.items(_INPUT))),
        "output": _references(OUTPUT_TYPE, outputs),
    }
    return {key: value for key, value in found.items() if value}


def _is_canceled(content: Content) -> bool:
    return content.state is State.CANCELED


def _status(content: Content, values: Values, reasons: Iterable[Resource]) -> str:
    if content.state is State.SCHEDULED:
        return "ready" if values.code(_READINESS) == "READY" else "requested"
    if content.state is not State.CANCELED:
        return "in-progress" if content.state is State.IN_PROGRESS else "completed"
    if not content.is_claimed:
        return "cancelled"
    # Once claimed, only its owner can end a workitem: FHIR calls that a failure, unless nothing was begun.
    codings = [coding for reason in reasons for coding in reason["coding"]]
    is_rejected = any(_ASSIGNMENT_REJECTED.items() <= coding.items() for coding in codings)
    return "rejected" if is_rejected else "failed"


def _status_reason(reasons: Iterable[Resource], progress: Values) -> Resource:
    """Why it was canceled: all codes in one concept, and the words of whoever did it."""
    codings = [coding for reason in reasons for coding in reason["coding"]]
    text = progress.text(REASON_FOR_CANCELLATION) or next((one["text"] for one in reasons if "text" in one), None)
    return ({"coding": codings} if codings else {}) | ({"text": text} if text else {})


def _business_status(content: Content, values: Values, progress: Values) -> str:
    """The state as DICOM has it, which says more than FHIR's: readiness, and how far the work is."""
    if content.state is State.SCHEDULED:
        return ", ".join(filter(None, (content.state.value, values.code(_READINESS))))
    if content.state is not State.IN_PROGRESS:
        return content.state.value
    percent = progress.decimal(_PROGRESS)
    parts = (f"{percent:g} %" if percent is not None else None, progress.text(_PROGRESS_DESCRIPTION))
    return ", ".join(filter(None, (content.state.value, *parts)))


def _encounter(values: Values) -> Resource | None:
    admission = values.text(_ADMISSION_ID)
    return {"type": "Encounter", "identifier": typed_identifier("VN", admission)} if admission else None


def _requester(requests: Iterable[Values]) -> Resource | None:
    for request in requests:
        if name := display_name(request, _REQUESTING_PHYSICIAN):
            return {"type": "Practitioner", "display": name}
        if service := request.text(_REQUESTING_SERVICE):
            return {"type": "Organization", "display": service}
    return None


def _owner(values: Values, performed: list[Values]) -> Resource | None:
    """Who does it: people before machines, who did it before who is to."""
    people = [item for one in performed for item in one.items(_ACTUAL_PERFORMERS)]
    stations = [item for one in performed for item in one.items(_PERFORMED_STATION)]
    return (
        _person(people)
        or _named("Device", stations)
        or _person(values.items(_HUMAN_PERFORMERS))
        or _named("Device", values.items(_STATION_NAME))
    )


def _person(items: Iterable[Values]) -> Resource | None:
    for item in items:
        if name := display_name(item, _PERFORMER_NAME):
            return {"type": "Practitioner", "display": name}
        if found := _named("Practitioner", item.items(_PERFORMER_CODE)):
            return found
    return None


def _named(resource_type: str, codes: Iterable[Values]) -> Resource | None:
    """A reference for people to read: the meaning of the first code, or the code itself."""
    for item in codes:
        if name := item.text(CODE_MEANING) or item.code(CODE_VALUE):
            return {"type": resource_type, "display": name}
    return None


def _reason(request: Values) -> Resource | None:
    text = request.text(_REASON)
    coded = next(filter(None, map(codeable_concept, request.items(_REASON_CODES))), None)
    return coded or ({"text": text} if text else None)


def _references(type_: Resource, studies: Iterable[str]) -> list[Resource]:
    return [{"type": type_, "valueReference": study_reference(uid)} for uid in studies]


def study_reference(study_uid: str) -> Resource:
    """A reference to a study by its UID."""
    return {"type": "ImagingStudy", "identifier": study_identifier(study_uid)}


# --- times ---


def _restriction(values: Values, utc: str | None) -> Resource | None:
    end = _moment(values.code(_EXPECTED_COMPLETION), utc) or _moment(values.code(_EXPIRATION), utc)
    period = _period(_moment(values.code(_START), utc), end)
    return {"period": period} if period else None


def _execution(content: Content, performed: list[Values], progress: Values, utc: str | None) -> Resource:
    starts = [moment for one in performed if (moment := _moment(one.code(_PERFORMED_START), utc))]
    ends = [moment for one in performed if (moment := _moment(one.code(_PERFORMED_END), utc))]
    if _is_canceled(content):
        ends = [moment for moment in (_moment(progress.code(_CANCELLATION_DATE_TIME), utc),) if moment] or ends
    elif content.state is not State.COMPLETED:
        ends = []
    return _period(min(starts, key=_low, default=None), max(ends, key=_low, default=None))


def _period(start: str | None, end: str | None) -> Resource:
    """A Period; one that would end before it starts is left open."""
    if start and end and _low(start) > _low(end):
        end = None
    return ({"start": start} if start else {}) | ({"end": end} if end else {})


def _low(moment: str) -> int:
    found = parse_period(moment)
    return found.low if found else 0


def _moment(text: str | None, utc: str | None) -> str | None:
    """A DT value as a FHIR dateTime; ``utc`` is the offset of those that have none. None for what is no DT."""
    if text is None:
        return None
    written = text[-5:] if text[-5:-4] in ("+", "-") and len(text) > 8 else ""
    local = text.removesuffix(written)
    offset = utc_offset(written) if written else utc
    return imaging_study.started(local[:8], local[8:], offset)


def _instant(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds // 1000 / 1000, UTC)
    return moment.isoformat(timespec="milliseconds")
