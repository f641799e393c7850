"""Searchable values of a dataset, as the index keeps them (query.md §6)."""

import json
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hounsfield.dicom import uid
from hounsfield.dicom.dates import parse_date, parse_time
from hounsfield.index.instances import SeriesValues, StudyValues

Dataset = dict[str, Any]
Values = TypeVar("Values")

PATIENT_ID = "00100020"
PATIENT_NAME = "00100010"
PATIENT_BIRTH_DATE = "00100030"
ACCESSION_NUMBER = "00080050"
REFERRING_PHYSICIAN_NAME = "00080090"
STUDY_DATE = "00080020"
STUDY_DESCRIPTION = "00081030"
STUDY_TIME = "00080030"
STUDY_ID = "00200010"
PATIENT_SEX = "00100040"
MODALITY = "00080060"
PERFORMED_PROCEDURE_STEP_START_DATE = "00400244"
MANUFACTURER_MODEL_NAME = "00081090"
PERFORMED_PROCEDURE_STEP_START_TIME = "00400245"
SERIES_NUMBER = "00200011"
SERIES_DESCRIPTION = "0008103E"
REQUEST_ATTRIBUTES_SEQUENCE = "00400275"

MAX_TEXT = 64
"""Characters of an LO (PS3.5 §6.2); the entries of an index have a limit, too."""
MAX_ITEMS = 100
"""Items of RequestAttributesSequence that are searched. A series serves one request, seldom two; what has more is a
mistake or an attack, and each is a row."""


REMEMBERED = 8
"""Studies, and series, whose values are kept for the next instance: about as many as arrive at a time."""


class _Remembered(Generic[Values]):
    """What ``make`` makes of the attributes ``tags`` of a dataset, made once for instances that agree in them.

    Those of a study and series do, and they come one after the other. (Equal elements of one VR have values of one
    type, so what is equal means the same.)
    """

    def __init__(self, make: Callable[[Dataset], Values], tags: tuple[str, ...]) -> None:
        self._make = make
        self._tags = tags
        self._known: list[tuple[list[Any], Values]] = []

    def __call__(self, dataset: Dataset) -> Values:
        elements = [dataset.get(tag) for tag in self._tags]
        for known, values in self._known:
            if known == elements:
                return values
        values = self._make(dataset)
        # A new list: threads that read large headers come here, too.
        self._known = [(elements, values), *self._known[: REMEMBERED - 1]]
        return values


def study_values(dataset: Dataset) -> StudyValues:
    """The study's attributes: first values only, empty and unusable ones None."""
    return _study(dataset)


def series_values(dataset: Dataset) -> SeriesValues:
    """The series' attributes."""
    return _series(dataset)


def _make_study(dataset: Dataset) -> StudyValues:
    return StudyValues(
        patient_id=_text(dataset, PATIENT_ID),
        patient_name=_name(dataset, PATIENT_NAME),
        patient_birth_date=_date(dataset, PATIENT_BIRTH_DATE),
        accession_number=_text(dataset, ACCESSION_NUMBER),
        referring_physician_name=_name(dataset, REFERRING_PHYSICIAN_NAME),
        study_date=_date(dataset, STUDY_DATE),
        study_description=_text(dataset, STUDY_DESCRIPTION),
        study_time=_time(dataset, STUDY_TIME),
        study_id_text=_short(dataset, STUDY_ID),
        patient_sex=_short(dataset, PATIENT_SEX),
    )


def _make_series(dataset: Dataset) -> SeriesValues:
    return SeriesValues(
        modality=_text(dataset, MODALITY),
        performed_procedure_step_start_date=_date(dataset, PERFORMED_PROCEDURE_STEP_START_DATE),
        manufacturer_model_name=_text(dataset, MANUFACTURER_MODEL_NAME),
        performed_procedure_step_start_time=_time(dataset, PERFORMED_PROCEDURE_STEP_START_TIME),
        series_number=_integer(dataset, SERIES_NUMBER),
        series_description=_short(dataset, SERIES_DESCRIPTION),
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
    items = dataset.get(REQUEST_ATTRIBUTES_SEQUENCE, {}).get("Value") or []
    pairs = [(_short(item, "00400009"), _short(item, "00401001")) for item in items[:MAX_ITEMS]]
    pairs = [pair for pair in pairs if any(pair)]
    return json.dumps(pairs, ensure_ascii=False, separators=(",", ":")) if pairs else None


def _name(dataset: Dataset, tag: str) -> str | None:
    groups = _first(dataset, tag)
    if not isinstance(groups, dict):
        return None
    text = "=".join(groups.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("= \0")
    return text.replace("\0", "") or None


_study = _Remembered(
    _make_study,
    (
        PATIENT_ID,
        PATIENT_NAME,
        PATIENT_BIRTH_DATE,
        ACCESSION_NUMBER,
        REFERRING_PHYSICIAN_NAME,
        STUDY_DATE,
        STUDY_DESCRIPTION,
        STUDY_TIME,
        STUDY_ID,
        PATIENT_SEX,
    ),
)
_series = _Remembered(
    _make_series,
    (
        MODALITY,
        PERFORMED_PROCEDURE_STEP_START_DATE,
        MANUFACTURER_MODEL_NAME,
        PERFORMED_PROCEDURE_STEP_START_TIME,
        SERIES_NUMBER,
        SERIES_DESCRIPTION,
        REQUEST_ATTRIBUTES_SEQUENCE,
    ),
)
