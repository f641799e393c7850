"""What searches compare: the searchable attributes of a workitem as rows (worklist.md, Search)."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from hounsfield.database.engine import Transaction
from hounsfield.dicom import person_name, uid
from hounsfield.dicom.dates import parse_datetime
from hounsfield.worklist.dataset import Dataset, items, text

MAX_TEXT = 256
"""Characters of a value that is found by searches: far more than any VR allows here, and the entries of an index have
a limit."""
MAX_ITEMS = 100
"""Items of a sequence that are searched: each is a row."""
MAX_WORDS = 32
"""Words of a name that are found by searches, each of which is a row."""


class Attribute(IntEnum):
    """What a row of values is of; the number is what the table stores."""

    NAME_WORDS = 0
    """The name from one of its words on (dicom.person_name.suffixes)."""
    PATIENT_NAME = 1
    """The whole name, and each of its groups."""
    PATIENT_ID = 2
    ACCESSION_NUMBER = 3
    REQUESTED_PROCEDURE_ID = 4
    STATION_NAME_CODE = 5
    STATION_CLASS_CODE = 6
    STATION_LOCATION_CODE = 7
    STUDY_INSTANCE_UID = 8


@dataclass(frozen=True, slots=True)
class IndexValues:
    """``start`` is in microseconds since year 1 as written, None where there is none."""

    start: int | None
    keys: frozenset[tuple[Attribute, str]]


_NAME, _PATIENT_ID, _START, _STUDY = "00100010", "00100020", "00404005", "0020000D"
_CODE_VALUE = "00080100"
_IN_SEQUENCES = (
    ("0040A370", "00080050", Attribute.ACCESSION_NUMBER),
    ("0040A370", "00401001", Attribute.REQUESTED_PROCEDURE_ID),
    ("00404025", _CODE_VALUE, Attribute.STATION_NAME_CODE),
    ("00404026", _CODE_VALUE, Attribute.STATION_CLASS_CODE),
    ("00404027", _CODE_VALUE, Attribute.STATION_LOCATION_CODE),
)
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def index_values(dataset: Dataset) -> IndexValues:
    """What searches find the workitem by; of what they cannot, nothing."""
    return IndexValues(parse_datetime(text(dataset, _START)), frozenset(_keys(dataset)))


def _keys(dataset: Dataset) -> Iterator[tuple[Attribute, str]]:
    name = _name(dataset)
    if name:
        yield Attribute.PATIENT_NAME, person_name.match_key(name)
        for group in filter(None, person_name.group_keys(name)):
            yield Attribute.PATIENT_NAME, group
        for suffix in person_name.suffixes(name)[:MAX_WORDS]:
            yield Attribute.NAME_WORDS, suffix
    found = [(Attribute.PATIENT_ID, text(dataset, _PATIENT_ID))]
    found += [
        (attribute, text(item, key))
        for sequence, key, attribute in _IN_SEQUENCES
        for item in items(dataset, sequence)[:MAX_ITEMS]
    ]
    for attribute, value in found:
        if value.strip() and len(value) <= MAX_TEXT:
            yield attribute, person_name.text_key(value)
    study = uid.normalise(text(dataset, _STUDY))
    if study and len(study) <= MAX_TEXT:
        yield Attribute.STUDY_INSTANCE_UID, person_name.text_key(study)


def _name(dataset: Dataset) -> str:
    values = dataset.get(_NAME, {}).get("Value") or [None]
    if not isinstance(values[0], dict):
        value = text(dataset, _NAME)
    else:
        value = "=".join(values[0].get(group) or "" for group in _GROUPS).rstrip("= \0")
    return value if len(value) <= MAX_TEXT else ""


async def write(tx: Transaction, workitem_id: int, partition_key: int, values: IndexValues) -> None:
    """Store the values of a workitem in place of those it had."""
    rows = await tx.fetch("SELECT attribute, key FROM workitem_value WHERE workitem_id = ?", workitem_id)
    there = {(Attribute(attribute), str(key)) for attribute, key in rows}
    gone, new = there - values.keys, values.keys - there
    if gone:
        await tx.execute_many(
            "DELETE FROM workitem_value WHERE workitem_id = ? AND attribute = ? AND key = ?",
            [(workitem_id, int(attribute), key) for attribute, key in gone],
        )
    if new:
        await tx.execute_many(
            "INSERT INTO workitem_value (workitem_id, attribute, key, partition_key) VALUES (?, ?, ?, ?)",
            [(workitem_id, int(attribute), key, partition_key) for attribute, key in sorted(new)],
        )
