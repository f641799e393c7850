"""ImagingStudy: what an instance says about its study and series, and how that goes into FHIR (dicom-cast.md §6.3)."""

from dataclasses import dataclass
from typing import Any

from hounsfield.cast.failure import Table, invalid_tag, missing_tag
from hounsfield.cast.reference import accession_identifier, refers_to, study_identifier
from hounsfield.cast.values import Values
from hounsfield.dicom.dates import partial_date, time_of_day, utc_offset
from hounsfield.fhir.target import Resource

SOP_CLASS_UID = "00080016"
STUDY_DATE = "00080020"
SERIES_DATE = "00080021"
STUDY_TIME = "00080030"
SERIES_TIME = "00080031"
ACCESSION_NUMBER = "00080050"
MODALITY = "00080060"
TIMEZONE_OFFSET_FROM_UTC = "00080201"
STUDY_DESCRIPTION = "00081030"
SERIES_DESCRIPTION = "0008103E"
SERIES_NUMBER = "00200011"
INSTANCE_NUMBER = "00200013"

MODALITY_SYSTEM = "DCM"
"""Not a URI, but what the reference writes and clients search for (dicom-cast.md §8)."""


@dataclass(frozen=True, slots=True)
class ImageValues:
    """What one instance says about its study, its series and itself; None where it says nothing."""

    sop_class: str
    modality: str | None = None
    study_started: str | None = None
    accession_number: str | None = None
    study_description: str | None = None
    series_number: int | None = None
    series_description: str | None = None
    series_started: str | None = None
    instance_number: int | None = None


def offset(values: Values) -> str:
    """The offset from UTC of the instance's times, ``+00:00`` without the tag. Raises EntryRefused for nonsense."""
    text = values.code(TIMEZONE_OFFSET_FROM_UTC)
    if text is None:
        return "+00:00"
    found = utc_offset(text)
    if found is None:
        raise invalid_tag(Table.INVALID_TAG, "TimezoneOffsetFromUTC", text)
    return found


def started(date: str | None, time: str | None, utc: str | None) -> str | None:
    """A FHIR dateTime of a DA and a TM value; only the date where there is no time or no valid offset (D4, D14)."""
    day = partial_date(date or "")
    clock = time_of_day(time or "")
    if day is None or clock is None or utc is None or len(day) < len("YYYY-MM-DD"):
        return day
    return f"{day}T{clock}{utc}"


def read(values: Values, utc: str | None) -> ImageValues:
    """What the metadata says; ``utc`` None if the offset was invalid. Raises EntryRefused without SOPClassUID."""
    sop_class = values.code(SOP_CLASS_UID)
    if sop_class is None:
        raise missing_tag("SOPClassUID")
    return ImageValues(
        sop_class=sop_class,
        modality=values.code(MODALITY),
        study_started=started(values.code(STUDY_DATE), values.code(STUDY_TIME), utc),
        accession_number=values.text(ACCESSION_NUMBER),
        study_description=values.text(STUDY_DESCRIPTION),
        series_number=values.unsigned(SERIES_NUMBER),
        series_description=values.text(SERIES_DESCRIPTION),
        series_started=started(values.code(SERIES_DATE), values.code(SERIES_TIME), utc),
        instance_number=values.unsigned(INSTANCE_NUMBER),
    )


def is_ours(study: Resource, root: str) -> bool:
    """Whether cast created ``study`` for ``root``: compared before a ``#``, without trailing slash (D10)."""
    source = study.get("meta", {}).get("source") or ""
    return str(source).partition("#")[0].rstrip("/") == root.rstrip("/")


class StudyDraft:
    """An ImagingStudy being changed in place; ``resource`` is None while there is none."""

    def __init__(self, found: Resource | None, study_uid: str, root: str) -> None:
        self.resource = found
        self._study_uid = study_uid
        self._root = root
        self._series: dict[str, Resource] = {}
        self._instances: dict[tuple[str, str], Resource] = {}
        for series in [] if found is None else found.get("series", []):
            self._series.setdefault(series.get("uid", ""), series)
            for instance in series.get("instance", []):
                self._instances.setdefault((series.get("uid", ""), instance.get("uid", "")), instance)

    def series(self, series_uid: str) -> Resource:
        """One of the study's series."""
        return self._series[series_uid]

    def instance_uids(self) -> set[str]:
        """The SOP Instance UIDs in the study."""
        return {sop_uid for _, sop_uid in self._instances}

    def instance(self, series_uid: str, sop_uid: str) -> Resource | None:
        """One of the study's instances, if it is there."""
        return self._instances.get((series_uid, sop_uid))

    def upsert(self, series_uid: str, sop_uid: str, image: ImageValues, *, subject: str, endpoint: str) -> None:
        """Add or refresh one instance. Raises EntryRefused, before anything is changed, if no modality is known."""
        series = self._series.get(series_uid)
        if image.modality is None and not (series or {}).get("modality", {}).get("code"):
            raise missing_tag("Modality")
        if self.resource is None:
            self.resource = {
                "resourceType": "ImagingStudy",
                "meta": {"source": self._root},
                "identifier": [study_identifier(self._study_uid)],
                "status": "available",
                "subject": {"reference": subject},
            }
        _merge_study(self.resource, image, endpoint)
        if series is None:
            series = self._series[series_uid] = {"uid": series_uid}
            self.resource.setdefault("series", []).append(series)
        _merge_series(series, image)
        instance = self._instances.get((series_uid, sop_uid))
        if instance is None:
            instance = self._instances[series_uid, sop_uid] = {"uid": sop_uid}
            series.setdefault("instance", []).append(instance)
        instance["sopClass"] = {"code": image.sop_class}
        _put(instance, "number", image.instance_number)

    def set_subject(self, subject: str) -> None:
        """Point the study at another Patient, unless it names that one already."""
        if self.resource is not None and not refers_to(self.resource.get("subject"), subject):
            self.resource["subject"] = {"reference": subject}

    def remove(self, series_uid: str, sop_uid: str) -> None:
        """Take one instance out, its series if that was the last, and the study if nothing is left and it is ours."""
        instance = self._instances.pop((series_uid, sop_uid), None)
        if instance is None or self.resource is None:
            return
        series = self._series[series_uid]
        _take_out(series, "instance", instance)
        if "instance" in series:
            return
        del self._series[series_uid]
        _take_out(self.resource, "series", series)
        if "series" not in self.resource and is_ours(self.resource, self._root):
            self.resource = None

    def keep_only(self, accession_numbers: set[str], descriptions: set[str]) -> None:
        """Drop values no instance has any more (dicom-cast.md §4.3), as far as they look like written by cast."""
        if self.resource is None or not is_ours(self.resource, self._root):
            return
        for note in list(self.resource.get("note", [])):
            if note.keys() == {"text"} and note["text"] not in descriptions:
                _take_out(self.resource, "note", note)
                if self.resource.get("description") == note["text"]:
                    del self.resource["description"]
        for identifier in list(self.resource["identifier"]):
            value = identifier.get("value", "")
            if identifier == accession_identifier(value) and value not in accession_numbers:
                _take_out(self.resource, "identifier", identifier)
        for order in list(self.resource.get("basedOn", [])):
            value = order.get("identifier", {}).get("value", "")
            if order.get("identifier") == accession_identifier(value) and value not in accession_numbers:
                _take_out(self.resource, "basedOn", order)


def _merge_study(study: Resource, image: ImageValues, endpoint: str) -> None:
    _put(study, "started", image.study_started)
    if image.modality is not None:
        known = {str(coding.get("code", "")).lower() for coding in study.get("modality", [])}
        if image.modality.lower() not in known:
            study.setdefault("modality", []).append({"system": MODALITY_SYSTEM, "code": image.modality})
    if not any(refers_to(reference, endpoint) for reference in study.get("endpoint", [])):
        study.setdefault("endpoint", []).append({"reference": endpoint})
    description = image.study_description
    if description is not None and all(note.get("text") != description for note in study.get("note", [])):
        study.setdefault("note", []).append({"text": description})
    if image.accession_number is not None:
        accession = accession_identifier(image.accession_number)
        if accession not in study.setdefault("identifier", []):
            study["identifier"].append(accession)


def _merge_series(series: Resource, image: ImageValues) -> None:
    _put(series, "number", image.series_number)
    if image.modality is not None:
        series["modality"] = {"system": MODALITY_SYSTEM, "code": image.modality}
    _put(series, "description", image.series_description)
    _put(series, "started", image.series_started)


def _put(element: Resource, key: str, value: Any) -> None:
    """Set a value; none never erases (D5)."""
    if value is not None:
        element[key] = value


def _take_out(parent: Resource, key: str, element: Resource) -> None:
    """Remove ``element`` itself (not an equal one) from a list; an empty list is never written."""
    rest = [other for other in parent[key] if other is not element]
    if rest:
        parent[key] = rest
    else:
        del parent[key]
