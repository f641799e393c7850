"""What ``DicomCast:Features:ExtendedMapping`` adds to ImagingStudy: read from an instance, merged into the resource.

Study and series say what their newest instance with a value says, as ``started`` does; the lists that a study of
another origin brings are only added to. What people have linked to resources of their own (a Practitioner as referrer)
stays.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hounsfield.cast import body_sites, device, document
from hounsfield.cast.concept import DCM_SYSTEM, concepts
from hounsfield.cast.device import Equipment
from hounsfield.cast.imaging_study import (
    ACCESSION_NUMBER,
    MODALITY_SYSTEM,
    SOP_CLASS_UID,
    STUDY_DESCRIPTION,
    is_ours,
    started,
)
from hounsfield.cast.person import display_name, display_names
from hounsfield.cast.reference import accession_identifier, refers_to
from hounsfield.cast.values import Values
from hounsfield.fhir.target import Resource

REFERRING_PHYSICIAN_NAME = "00080090"
PERFORMING_PHYSICIAN_NAME = "00081050"
NAME_OF_PHYSICIANS_READING_STUDY = "00081060"
PROCEDURE_CODE_SEQUENCE = "00081032"
BODY_PART_EXAMINED = "00180015"
LATERALITY = "00200060"
REASON_FOR_PERFORMED_PROCEDURE_CODE_SEQUENCE = "00401012"
CONTENT_LABEL = "00700080"
CONTENT_DESCRIPTION = "00700081"

URI_SYSTEM = "urn:ietf:rfc:3986"
_PERFORMER = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "PRF"}],
}


@dataclass(frozen=True, slots=True)
class ExtendedValues:
    """What one instance says beyond the reference's mapping; None or empty where it says nothing."""

    description: str | None
    accession_number: str | None
    referrer: str | None
    interpreters: tuple[str, ...]
    performers: tuple[str, ...]
    procedure_codes: tuple[Resource, ...]
    reasons: tuple[Resource, ...]
    body_site: Resource | None
    laterality: Resource | None
    title: str | None
    equipment: Equipment | None
    document: Resource | None


def read(values: Values, uids: tuple[str, str, str], root: str, utc: str | None) -> ExtendedValues:
    """What the metadata says.

    ``uids`` are study, series, instance; ``root`` is where studies can be retrieved; ``utc`` is None if the offset was
    invalid.
    """
    body_part = values.code(BODY_PART_EXAMINED)
    created = started(values.code(document.CONTENT_DATE), values.code(document.CONTENT_TIME), utc)
    made = document.read(values, values.code(SOP_CLASS_UID) or "", uids, root, created)
    return ExtendedValues(
        description=values.text(STUDY_DESCRIPTION),
        accession_number=values.text(ACCESSION_NUMBER),
        referrer=display_name(values, REFERRING_PHYSICIAN_NAME),
        interpreters=display_names(values, NAME_OF_PHYSICIANS_READING_STUDY),
        performers=display_names(values, PERFORMING_PHYSICIAN_NAME),
        procedure_codes=concepts(values.items(PROCEDURE_CODE_SEQUENCE)),
        reasons=concepts(values.items(REASON_FOR_PERFORMED_PROCEDURE_CODE_SEQUENCE)),
        body_site=body_sites.body_site(body_part) if body_part else None,
        laterality=body_sites.laterality(values.code(LATERALITY) or ""),
        title=document.title(values) or values.text(CONTENT_DESCRIPTION) or values.text(CONTENT_LABEL),
        equipment=device.read(values),
        document=made,
    )


def merge_study(study: Resource, values: ExtendedValues, root: str) -> None:
    """Bring the study's own elements up to date in place."""
    if values.description:
        study["description"] = values.description
    if values.referrer and _is_display_only(study.get("referrer", {"display": ""})):
        study["referrer"] = {"display": values.referrer}
    if values.interpreters:
        linked = [one for one in study.get("interpreter", []) if not _is_display_only(one)]
        study["interpreter"] = linked + [{"display": name} for name in values.interpreters]
    for element, wanted in (("procedureCode", values.procedure_codes), ("reasonCode", values.reasons)):
        if wanted:
            kept = [] if is_ours(study, root) else [one for one in study.get(element, []) if one not in wanted]
            study[element] = [*kept, *wanted]


def merge_series(series: Resource, values: ExtendedValues, device_name: str | None) -> None:
    """Bring a series up to date in place; ``device_name`` is that of the instance's equipment."""
    if values.body_site:
        series["bodySite"] = values.body_site
    if values.laterality:
        series["laterality"] = values.laterality
    others: list[Resource] = []
    people: list[Resource] = []
    devices: list[Resource] = []
    for performer in series.get("performer", []):
        actor = performer.get("actor", {})
        of_ours = people if _is_display_only(actor) else devices if _is_device(actor) else others
        of_ours.append(performer)
    if values.performers:
        people = [{"function": _PERFORMER, "actor": {"display": name}} for name in values.performers]
    if values.equipment is not None and device_name is not None:
        wanted = values.equipment.reference(device_name)
        identifier = wanted["identifier"]
        known = [
            one for one in devices if one["actor"]["identifier"] == identifier and refers_to(one["actor"], device_name)
        ]
        devices = known[:1] or [{"actor": wanted}]
    if others or people or devices:
        series["performer"] = [*others, *people, *devices]


def merge_instance(instance: Resource, values: ExtendedValues) -> None:
    """Bring an instance up to date in place."""
    if values.title:
        instance["title"] = values.title


STUDY_ELEMENTS = (
    *("description", "numberOfSeries", "numberOfInstances", "basedOn"),
    *("referrer", "interpreter", "procedureCode", "reasonCode"),
)
SERIES_ELEMENTS = ("numberOfInstances", "bodySite", "laterality", "performer")
INSTANCE_ELEMENTS = ("title",)
"""What the mapping writes: missing in a clean pass, it is wanted to be missing, but for what keep_links keeps."""


def keep_links(found: Resource, wanted: Resource) -> None:
    """Take over into a study of cast, made anew, what people have linked in the one that was found."""
    referrer = found.get("referrer")
    if referrer is not None and not _is_display_only(referrer):
        wanted["referrer"] = referrer
    _keep(found, wanted, "interpreter", lambda one: not _is_display_only(one))
    _keep(found, wanted, "basedOn", lambda one: not _is_our_order(one))
    before = {series.get("uid"): series for series in found.get("series", [])}
    for series in wanted.get("series", []):
        _keep(before.get(series["uid"], {}), series, "performer", lambda one: not _is_ours_to_perform(one))


def _keep(found: Resource, wanted: Resource, element: str, is_linked: Callable[[Resource], bool]) -> None:
    linked = [one for one in found.get(element, []) if is_linked(one)]
    if linked:
        wanted[element] = linked + [one for one in wanted.get(element, []) if one not in linked]


def _is_our_order(order: Resource) -> bool:
    value = order.get("identifier", {}).get("value", "")
    return bool(order.get("identifier") == accession_identifier(value))


def _is_ours_to_perform(performer: Resource) -> bool:
    actor = performer.get("actor", {})
    return _is_display_only(actor) or _is_device(actor)


def spell(study: Resource) -> None:
    """Write codes as R4 recommends, in all of a study."""
    for coding in study.get("modality", []):
        _spell_modality(coding)
    for series in study.get("series", []):
        _spell_modality(series.get("modality", {}))
        for instance in series.get("instance", []):
            sop_class = instance.get("sopClass", {})
            if "system" not in sop_class and "code" in sop_class:
                instance["sopClass"] = {"system": URI_SYSTEM, "code": f"urn:oid:{sop_class['code']}"}


def count(study: Resource, before: Resource | None, *, is_extended: bool) -> None:
    """Keep the numbers of series and instances true.

    ``before`` is the study as it was found. Numbers that were not true then are somebody else's and stay; without the
    extended mapping, only numbers that are there are kept.
    """
    earlier = {} if before is None else {series.get("uid"): series for series in before.get("series", [])}
    listed = study.get("series", [])
    total = 0
    for series in listed:
        size = len(series.get("instance", []))
        total += size
        _count(series, "numberOfInstances", size, earlier.get(series.get("uid")), "instance", is_extended)
    _count(study, "numberOfSeries", len(listed), before, "series", is_extended)
    instances_before = sum(len(series.get("instance", [])) for series in earlier.values())
    was_true = before is None or before.get("numberOfInstances") in (None, instances_before)
    if was_true and (is_extended or "numberOfInstances" in study):
        study["numberOfInstances"] = total


def _count(
    element: Resource, number: str, value: int, before: Resource | None, counted: str, is_extended: bool
) -> None:
    was_true = before is None or before.get(number) in (None, len(before.get(counted, [])))
    if was_true and (is_extended or number in element):
        element[number] = value


def _spell_modality(coding: Resource) -> None:
    if coding.get("system") == MODALITY_SYSTEM:
        coding["system"] = DCM_SYSTEM


def _is_display_only(reference: Any) -> bool:
    """Whether a Reference is one that cast writes: a name and nothing that leads anywhere."""
    return bool(reference.keys() == {"display"})


def _is_device(reference: Resource) -> bool:
    return bool(reference.get("identifier", {}).get("system") == device.KEY_SYSTEM)
