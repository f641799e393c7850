"""Searchable values of a dataset, as the index keeps them (query.md §6)."""

from typing import Any

from hounsfield.dicom.dates import parse_date
from hounsfield.index.instances import SeriesValues, StudyValues

Dataset = dict[str, Any]


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
    )


def series_values(dataset: Dataset) -> SeriesValues:
    """The series' attributes."""
    return SeriesValues(
        modality=_text(dataset, "00080060"),
        performed_procedure_step_start_date=_date(dataset, "00400244"),
        manufacturer_model_name=_text(dataset, "00081090"),
    )


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


def _date(dataset: Dataset, tag: str) -> str | None:
    value = _text(dataset, tag)
    if value is None or parse_date(value) is None:
        return None
    return value.strip()


def _name(dataset: Dataset, tag: str) -> str | None:
    groups = _first(dataset, tag)
    if not isinstance(groups, dict):
        return None
    text = "=".join(groups.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("= \0")
    return text.replace("\0", "") or None
