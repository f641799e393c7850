"""Searchable values of a dataset, as the index keeps them (query.md §6)."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from hounsfield.dicom import uid
from hounsfield.dicom.dates import parse_date, parse_time
from hounsfield.index.studies import SeriesValues, StudyValues

Dataset = dict[str, Any]
Values = TypeVar("Values")
Reader = Callable[[Dataset, str], str | int | None]

MAX_TEXT = 64
"""Characters of an LO (PS3.5 §6.2); the entries of an index have a limit, too."""
MAX_ITEMS = 100
"""Items of RequestAttributesSequence that are searched. A series serves one request, seldom two; what has more is a
mistake or an attack, and each is a row."""

REMEMBERED = 8
"""Studies, and series, whose values are kept for the next instance: about as many as arrive at a time."""
REMEMBERED_BYTES = 16 * 1024
"""Of the DICOM JSON of their attributes; real ones take a kilobyte."""


def study_values(dataset: Dataset) -> StudyValues:
    """The study's attributes: first values only, empty and unusable ones None."""
    return _study(dataset)


def series_values(dataset: Dataset) -> SeriesValues:
    """The series' attributes."""
    return _series(dataset)


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


def _requests(dataset: Dataset, tag: str) -> str | None:
    """ScheduledProcedureStepID and RequestedProcedureID of the items of RequestAttributesSequence that have any."""
    items = dataset.get(tag, {}).get("Value") or []
    pairs = [(_short(item, "00400009"), _short(item, "00401001")) for item in items[:MAX_ITEMS]]
    pairs = [pair for pair in pairs if any(pair)]
    return json.dumps(pairs, ensure_ascii=False, separators=(",", ":")) if pairs else None


def _name(dataset: Dataset, tag: str) -> str | None:
    groups = _first(dataset, tag)
    if not isinstance(groups, dict):
        return None
    text = "=".join(groups.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("= \0")
    return text.replace("\0", "") or None


class _Level(Generic[Values]):
    """The attributes of study or series, made once for instances that agree in them: those come one after the other.

    ``attributes`` has, by column, the tag and what reads it. (Equal elements of one VR have values of one type, so what
    is equal means the same.)
    """

    def __init__(self, values: Callable[..., Values], attributes: Mapping[str, tuple[str, Reader]]) -> None:
        self._values = values
        self._attributes = attributes
        self._tags = [tag for tag, _ in attributes.values()]
        self._known: list[tuple[list[Any], Values]] = []

    def __call__(self, dataset: Dataset) -> Values:
        elements = [dataset.get(tag) for tag in self._tags]
        for known, values in self._known:
            if known == elements:
                return values
        values = self._values(**{column: read(dataset, tag) for column, (tag, read) in self._attributes.items()})
        if len(msgspec.json.encode(elements)) <= REMEMBERED_BYTES:
            # A new list: threads that read large headers come here, too.
            self._known = [(elements, values), *self._known[: REMEMBERED - 1]]
        return values


_study = _Level(
    StudyValues,
    {
        "patient_id": ("00100020", _text),
        "patient_name": ("00100010", _name),
        "patient_birth_date": ("00100030", _date),
        "accession_number": ("00080050", _text),
        "referring_physician_name": ("00080090", _name),
        "study_date": ("00080020", _date),
        "study_description": ("00081030", _text),
        "study_time": ("00080030", _time),
        "study_id_text": ("00200010", _short),
        "patient_sex": ("00100040", _short),
    },
)
_series = _Level(
    SeriesValues,
    {
        "modality": ("00080060", _text),
        "performed_procedure_step_start_date": ("00400244", _date),
        "manufacturer_model_name": ("00081090", _text),
        "performed_procedure_step_start_time": ("00400245", _time),
        "series_number": ("00200011", _integer),
        "series_description": ("0008103E", _short),
        "request_attributes": ("00400275", _requests),
    },
)
