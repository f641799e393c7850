"""Searchable values of a dataset, as the index keeps them (query.md §6)."""

import json
from typing import Any

from hounsfield.dicom import uid
from hounsfield.dicom.dates import parse_date, parse_time
from hounsfield.index.instances import SeriesValues, StudyValues

Dataset = dict[str, Any]

MAX_TEXT = 64
"""Characters of an LO (PS3.5 §6.2); the entries of an index have a limit, too."""
MAX_ITEMS = 100
"""Items of RequestAttributesSequence that are searched. A series serves one request, seldom two; what has more is a
mistake or an attack, and each is a row."""


def study_values(dataset: Dataset) -> StudyValues:
    """The study's attributes: first values only, empty and unusable ones None."""
    return StudyValues(
        patient_id=_text(dataset, "00100020"),
        patient_name=_name(dataset, "00100010"),
        patient_birth_date=_date(dataset, "00100030"),
        accession_number=_text(dataset, "00080050"),
        referring_physician_name=_name(dataset, "00080090"),
        study_date=_date(dataset, "00080020"),
        study_description=_text(dataset, "00081030"),
        study_time=_time(dataset, "00080030"),
        study_id_text=_short(dataset, "00200010"),
        patient_sex=_short(dataset, "00100040"),
    )


def series_values(dataset: Dataset) -> SeriesValues:
    """The series' attributes."""
    return SeriesValues(
        modality=_text(dataset, "00080060"),
        performed_procedure_step_start_date=_date(dataset, "00400244"),
        manufacturer_model_name=_text(dataset, "00081090"),
        performed_procedure_step_start_time=_time(dataset, "00400245"),
        series_number=_integer(dataset, "00200011"),
        series_description=_short(dataset, "0008103E"),
        request_attributes=_requests(dataset),
    )


def sop_class_uid(dataset: Dataset) -> str | None:
    """The instance's SOP class as searches compare it."""
    value = _text(dataset, "00080016")
    return None if value is None else uid.normalise(value)


def instance_number(dataset: Dataset) -> int | None:
    """The instance's number."""
    return _integer(dataset, "00200013")


def _first(dataset: Dataset, tag: str) -> Any:
    element = dataset.get(tag)
    if element is None:
        return None
    values = element.get("Value")
    return values[0] if values else None


def _text(dataset: Dataset, tag: str) -> str | None:
    value = _first(dataset, tag)
    if not isinstance(value, str) or not value.strip(" \0"):
        return None
    # PostgreSQL's text type holds no null characters; they are padding where they occur.
    return value.replace("\0", "")


def _short(dataset: Dataset, tag: str) -> str | None:
    """A text that the store did not check: one longer than any valid CS, LO or SH is not indexed."""
    value = _text(dataset, tag)
    return value if value is not None and len(value) <= MAX_TEXT else None


def _date(dataset: Dataset, tag: str) -> str | None:
    value = _text(dataset, tag)
    if value is None or parse_date(value) is None:
        return None
    return value.strip()


def _time(dataset: Dataset, tag: str) -> str | None:
    value = _text(dataset, tag)
    return None if value is None or parse_time(value) is None else value.strip()


def _integer(dataset: Dataset, tag: str) -> int | None:
    value = _first(dataset, tag)
    # An IS has at most 12 characters (PS3.5 §6.2); what is larger is none, and no database holds any size.
    return value if isinstance(value, int) and abs(value) < 10**12 else None


def _requests(dataset: Dataset) -> str | None:
    """ScheduledProcedureStepID and RequestedProcedureID of the items of RequestAttributesSequence that have any."""
    items = dataset.get("00400275", {}).get("Value") or []
    pairs = [(_short(item, "00400009"), _short(item, "00401001")) for item in items[:MAX_ITEMS]]
    pairs = [pair for pair in pairs if any(pair)]
    return json.dumps(pairs, ensure_ascii=False, separators=(",", ":")) if pairs else None


def _name(dataset: Dataset, tag: str) -> str | None:
    groups = _first(dataset, tag)
    if not isinstance(groups, dict):
        return None
    text = "=".join(groups.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("= \0")
    return text.replace("\0", "") or None
