"""Searches for workitems: parameters of the query string, and what an answer shows (worklist.md, Search)."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

from hounsfield.dicom import dates, dictionary, person_name
from hounsfield.errors import BadRequest
from hounsfield.web.attribute_ids import tag_number
from hounsfield.worklist import dataset as datasets
from hounsfield.worklist.index import Attribute
from hounsfield.worklist.search import Condition, Equal, Query, Scheduled, Words

MAX_LIMIT = 200
DEFAULT_LIMIT = 100
MAX_OFFSET = 2**63 - 1

_STATE, _START, _NAME = "00741000", "00404005", "00100010"
_TEXTS: Mapping[str, Attribute] = {
    "00100020": Attribute.PATIENT_ID,
    "0040A370.00080050": Attribute.ACCESSION_NUMBER,
    "0040A370.00401001": Attribute.REQUESTED_PROCEDURE_ID,
    "00404025.00080100": Attribute.STATION_NAME_CODE,
    "00404026.00080100": Attribute.STATION_CLASS_CODE,
    "00404027.00080100": Attribute.STATION_LOCATION_CODE,
    "0020000D": Attribute.STUDY_INSTANCE_UID,
}
SEARCHABLE = (_NAME, _STATE, _START, *_TEXTS)
"""Attributes that can be searched for, by their tags; of members of a sequence both, joined by a dot."""

RETURNED = frozenset(
    (
        *("00080005", "00080016", "00080018", "00081080", "00081084", "00100010", "00100020", "00100021", "00100024"),
        *("00100030", "00100040", "00101002", "00102000", "001021C0", "0020000D", "00380010", "00380014", "00380050"),
        *("00404005", "00404018", "00404021", "00404025", "00404026", "00404027", "00404034", "00404041", "0040A370"),
        *("00741000", "00741002", "00741200", "00741202", "00741204", "00741210"),
    )
)
"""Attributes of every answer."""

SHAPES = 64
"""Sets of attributes whose decoders are kept: one for each combination of includefield and filters in use."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for and what is shown. ``include``: further attributes; None for all there are."""

    query: Query
    include: frozenset[str] | None


@dataclass(slots=True)
class _Read:
    """The query string, sorted."""

    known: dict[str, str] = field(default_factory=dict)
    include: list[str] = field(default_factory=list)
    filters: dict[str, tuple[str, str]] = field(default_factory=dict)


def parse(parameters: Iterable[tuple[str, str]], partition_key: int) -> Search:
    """The search that parameters ask for. Raises BadRequest naming the parameter that is wrong."""
    read = _Read()
    for name, value in parameters:
        _take(read, name.strip(), value)
    fuzzy = _boolean(read)
    matched = {path.partition(".")[0] for path in read.filters}
    query = Query(
        partition_key,
        conditions(read.filters, fuzzy=fuzzy),
        _integer(read, "Limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        _integer(read, "Offset", 0, 0, MAX_OFFSET),
    )
    include = _included(read.include)
    return Search(query, None if include is None else RETURNED | matched | include)


def _take(read: _Read, name: str, value: str) -> None:
    lower = name.lower()
    if lower in ("limit", "offset", "fuzzymatching"):
        if lower in read.known:
            raise _invalid(name, "It is given more than once.")
        read.known[lower] = value.strip()
    elif lower == "includefield":
        read.include += [identifier.strip() for identifier in value.split(",")]
    else:
        path = filter_path(name)
        if path in read.filters:
            raise BadRequest(
                f"Invalid query: attribute '{name}' has been specified more than once. Each attribute is only allowed "
                "to be specified once."
            )
        read.filters[path] = name, value


def filter_path(name: str) -> str:
    """The entry of SEARCHABLE that a name means. Raises BadRequest."""
    numbers = [tag_number(part) for part in name.split(".")]
    path = ".".join(f"{number:08X}" for number in numbers if number is not None)
    if None in numbers or path not in SEARCHABLE:
        raise BadRequest(
            f"Invalid query: AttributeId {name} is not queryable. If the parameter is an attribute keyword, check the "
            f"casing as they are case-sensitive. These can be searched: {', '.join(map(_keywords, SEARCHABLE))}."
        )
    return path


def _keywords(path: str) -> str:
    rows = [dictionary.attribute(int(tag, 16)) for tag in path.split(".")]
    return ".".join(row.keyword for row in rows if row is not None)


def conditions(filters: Mapping[str, tuple[str, str]], *, fuzzy: bool) -> tuple[Condition, ...]:
    """The conditions of filters: by path, the name the client gives it and the value. Raises BadRequest."""
    found: list[Condition] = []
    state: str | None = None
    interval: dates.Interval[int] | None = None
    for path, (name, value) in filters.items():
        if not value.strip():
            raise BadRequest(f"Invalid query: AttributeId '{name}' has empty string value that is not supported.")
        try:
            if path == _STATE:
                state = person_name.text_key(value).upper()
            elif path == _START:
                interval = dates.datetime_interval(value)
            else:
                found.append(_condition(path, value, fuzzy))
        except BadRequest as error:
            raise _invalid(name, error.message) from error
    if state is not None or interval is not None:
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        found.insert(0, Scheduled(state, low, high))
    return tuple(found)


def _condition(path: str, value: str, fuzzy: bool) -> Condition:
    if path != _NAME:
        return Equal(_TEXTS[path], person_name.text_key(value.strip()))
    if fuzzy:
        low, high, pattern = person_name.fuzzy_pattern(value)
        _, *others = person_name.words(value)
        return Words(low, high, others[0] if others else "", pattern if len(others) > 1 else "")
    return Equal(Attribute.PATIENT_NAME, person_name.match_key(value.strip()))


def _included(identifiers: list[str]) -> frozenset[str] | None:
    if any(identifier.lower() == "all" for identifier in identifiers):
        if len(identifiers) > 1:
            raise BadRequest("Invalid query: cannot specify included fields in addition to 'all'.")
        return None
    found = set()
    for identifier in identifiers:
        if "." in identifier:
            raise _invalid("includefield", "Attributes in sequences are not supported.")
        number = tag_number(identifier)
        if number is None:
            raise BadRequest(f"Invalid query: IncludeField has unknown attribute '{identifier}'.")
        found.add(f"{number:08X}")
    return frozenset(found)


def _integer(read: _Read, name: str, default: int, low: int, high: int) -> int:
    text = read.known.get(name.lower(), str(default))
    if re.fullmatch(r"[+-]?[0-9]{1,19}", text) is None or not low <= int(text) <= high:
        raise _invalid(name, f"The field {name} must be between {low} and {high}.")
    return int(text)


def _boolean(read: _Read) -> bool:
    text = read.known.get("fuzzymatching", "false").lower()
    if text not in ("true", "false"):
        raise _invalid("fuzzymatching", "It must be true or false.")
    return text == "true"


def _invalid(name: str, reason: str) -> BadRequest:
    return BadRequest(f"The query parameter '{name}' is invalid. {reason}")


def shown(kept: Iterable[bytes], include: frozenset[str] | None) -> bytes:
    """The JSON array of packed datasets, of each the attributes in ``include``."""
    if include is None:
        return b"[" + b",".join(map(datasets.as_json, kept)) + b"]"
    decode = _decoder(include)
    return msgspec.json.encode([decode(datasets.as_json(one)) for one in kept])


@lru_cache(SHAPES)
def _decoder(include: frozenset[str]) -> Callable[[bytes], msgspec.Struct]:
    """A decoder for these attributes of a dataset alone, which leaves them as they are written."""
    fields = [
        (f"_{key}", msgspec.Raw | msgspec.UnsetType, msgspec.field(name=key, default=msgspec.UNSET))
        for key in sorted(include)
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Shown", fields)).decode
