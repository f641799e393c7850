"""What a search should find, as plainly as it can be said: loops over datasets, nothing of the product's.

Datasets and filters are by keyword, values as text. Written from query.md §§3, 4, 6 and PS3.4 §C.2.2.2.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

STUDY = [
    "StudyInstanceUID",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyDescription",
    "StudyTime",
    "StudyID",
    "PatientSex",
]
SERIES = [
    "SeriesInstanceUID",
    "Modality",
    "PerformedProcedureStepStartDate",
    "ManufacturerModelName",
    "PerformedProcedureStepStartTime",
    "SeriesNumber",
    "SeriesDescription",
    "RequestAttributesSequence",
]
INSTANCE = ["SOPInstanceUID", "SOPClassUID", "InstanceNumber"]
NAMES = ["PatientName", "ReferringPhysicianName"]
DATES = {
    "StudyDate": "StudyTime",
    "PerformedProcedureStepStartDate": "PerformedProcedureStepStartTime",
    "PatientBirthDate": "",
}
TIMES = ["StudyTime", "PerformedProcedureStepStartTime"]
UIDS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
NUMBERS = ["SeriesNumber", "InstanceNumber"]
OWN_UID = {"studies": "StudyInstanceUID", "series": "SeriesInstanceUID", "instances": "SOPInstanceUID"}


@dataclass
class Row:
    """A study, series or instance with its attributes and those of what it belongs to."""

    attributes: dict[str, Any] = field(default_factory=dict)
    modalities: list[str] = field(default_factory=list)
    """Of the study's series."""


class NaiveArchive:
    """Everything that was stored, oldest first."""

    def __init__(self, datasets: list[Mapping[str, Any]]) -> None:
        self.studies: dict[str, dict[str, Any]] = {}
        self.series: dict[str, dict[str, Any]] = {}
        self.instances: list[Mapping[str, Any]] = list(datasets)
        for dataset in datasets:
            study = self.studies.setdefault(dataset["StudyInstanceUID"], {})
            series = self.series.setdefault(dataset["SeriesInstanceUID"], {"Study": dataset["StudyInstanceUID"]})
            for row, keywords in ((study, STUDY), (series, SERIES)):
                row.update({keyword: dataset[keyword] for keyword in keywords if _is_there(dataset.get(keyword))})

    def rows(self, level: str) -> Iterator[Row]:
        """All of a level, newest first."""
        if level == "studies":
            found = list(self.studies.values())
        elif level == "series":
            found = [{**self.studies[one["Study"]], **one} for one in self.series.values()]
        else:
            found = []
            for one in self.instances:
                own = {keyword: one[keyword] for keyword in INSTANCE if _is_there(one.get(keyword))}
                found.append({**self.studies[one["StudyInstanceUID"]], **self.series[one["SeriesInstanceUID"]], **own})
        for attributes in reversed(found):
            study = attributes["StudyInstanceUID"]
            series = [one["Modality"] for one in self.series.values() if one["Study"] == study and one.get("Modality")]
            yield Row(attributes, series)

    def find(self, level: str, filters: Mapping[str, str], parameters: Mapping[str, str]) -> list[str]:
        """UIDs of what matches all ``filters``."""
        return [row.attributes[OWN_UID[level]] for row in self.rows(level) if _matches(row, filters, parameters)]


def _is_there(value: Any) -> bool:
    return value not in (None, "", [])  # the number 0 is a value


def _matches(row: Row, filters: Mapping[str, str], parameters: Mapping[str, str]) -> bool:
    rest = dict(filters)
    for date, time in DATES.items():
        if time in rest and date in rest and _form(rest[date]) == _form(rest[time]) != "single":
            moments = rest.pop(date), rest.pop(time)
            if not _moment(row.attributes.get(date), row.attributes.get(time), *moments):
                return False
    asked_items = {name.partition(".")[2]: value for name, value in rest.items() if "." in name}
    asked_items = {name: value for name, value in asked_items.items() if set(value) != {"*"}}
    if asked_items and not any(
        all(item.get(name) and _text(item[name], value, parameters) for name, value in asked_items.items())
        for item in row.attributes.get("RequestAttributesSequence") or []
    ):
        return False
    return all(_one(row, name, value, parameters) for name, value in rest.items() if "." not in name)


def _one(row: Row, name: str, asked: str, parameters: Mapping[str, str]) -> bool:
    if name == "ModalitiesInStudy":
        if set(asked) == {"*"}:
            return True
        return any(_text(modality, part, {}) for modality in row.modalities for part in re.split(r"[,\\]", asked))
    value = row.attributes.get(name)
    if asked in ("", '""') and parameters.get("emptyvaluematching") == "true":
        return value is None
    if set(asked) == {"*"}:
        return True
    if value is None:
        return False
    if name in NAMES:
        return _name(value, asked, parameters.get("fuzzymatching") == "true")
    if name in DATES:
        return _in_range(value, asked, str)
    if name in TIMES:
        return _in_range(value, asked, _clock)
    if name in UIDS:
        return value in re.split(r"[,\\]", asked)
    if name in NUMBERS:
        return int(value) == int(asked)
    return _text(value, asked, parameters)


def _text(value: str, asked: str, parameters: Mapping[str, str]) -> bool:
    parts = asked.split("\\") if parameters.get("multiplevaluematching") == "true" else [asked]
    return any(_wild(value.rstrip(" ").casefold(), part.strip().casefold()) for part in parts)


def _wild(value: str, pattern: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, value, re.DOTALL) is not None


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name)
    return "".join(char for char in letters if not unicodedata.combining(char)).casefold()


def _group(name: str) -> str:
    return "^".join(component.strip() for component in name.split("^")).rstrip("^")


def _name(value: str, asked: str, fuzzy: bool) -> bool:
    value, asked = _plain(value), _plain(asked)
    wild = "*" in asked or "?" in asked
    if not wild and fuzzy and not asked.startswith("="):
        words, wanted = (re.split(r"[ ^=]+", text.strip(" ^=")) for text in (value, asked))
        starts = range(len(words) - len(wanted) + 1)
        return any(
            all(word.startswith(prefix) for word, prefix in zip(words[start:], wanted, strict=False))
            for start in starts
        )
    if not wild and not asked.startswith("="):
        return value.rstrip(" ") == asked.rstrip(" ")
    groups = [_group(group) for group in value.split("=")]
    patterns = asked.split("=")
    if len(patterns) == 1:
        return any(group and _wild(group, asked) for group in groups)
    groups += [""] * 3
    return all(
        not pattern or set(pattern) == {"*"} or (bool(group) and _wild(group, pattern))
        for group, pattern in zip(groups, patterns, strict=False)
    )


def _clock(value: str) -> float:
    whole, _, fraction = value.partition(".")
    hours, minutes, seconds = (int(whole[at : at + 2] or 0) for at in (0, 2, 4))
    return hours * 3600 + minutes * 60 + seconds + float(f"0.{fraction or 0}")


def _form(asked: str) -> str:
    if "-" not in asked:
        return "single"
    first, last = (bool(part.strip()) for part in asked.split("-"))
    return f"{first} to {last}"


def _in_range(value: str, asked: str, read: Any) -> bool:
    first, dash, last = (part.strip() for part in asked.partition("-"))
    if not dash:
        return bool(read(value) == read(first))
    return bool((not first or read(first) <= read(value)) and (not last or read(value) <= read(last)))


def _moment(date: str | None, time: str | None, dates: str, times: str) -> bool:
    if date is None:
        return False
    for end, (day, clock) in enumerate(zip(dates.split("-"), times.split("-"), strict=True)):
        if not day.strip():
            continue
        if day.strip() != date:
            if (day.strip() < date) != (end == 0):
                return False
        elif time is None or (
            _clock(time) != _clock(clock.strip()) and (_clock(clock.strip()) < _clock(time)) != (end == 0)
        ):
            return False
    return True
