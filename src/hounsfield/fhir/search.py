"""A search request as one typed query, and the SQL of its page, its count and what it includes (FHIR R4 §3.1.1).

Pages are cut by position, not by number: the cursor in a ``next`` link holds the sort values and key of the last
resource shown, so that resources created, changed or deleted between two pages neither repeat nor hide others.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from hounsfield.fhir.conditions import Condition, Context, UnknownParameter, condition
from hounsfield.fhir.outcomes import Invalid
from hounsfield.fhir.periods import FOREVER
from hounsfield.fhir.search_parameters import PARAMETERS, TYPES, Parameter

DEFAULT_COUNT = 50
MAX_COUNT = 1000
"""Resources on a page, whatever ``_count`` asks; all of them are in memory at once."""
MAX_PAGE_BYTES = 16 * 1024 * 1024
"""Bytes of the matches on a page, and of what they include; a page of large studies has fewer than ``_count``."""
MAX_INCLUDED = 2000
"""Resources a page may include besides its matches; beyond that the page says that it is incomplete."""
MAX_ITERATIONS = 5
"""Rounds of ``:iterate``; the store's types refer to each other in fewer."""

Parameters = Sequence[tuple[str, str]]
_IGNORED = frozenset(("_format", "_pretty"))
_LAST_TEXT = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class SortKey:
    """An SQL expression to sort by; a resource without the value comes last."""

    sql: str
    descending: bool
    is_text: bool
    values: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Include:
    """``_include`` (forward) or ``_revinclude`` of one reference parameter."""

    source: str
    number: int
    target: str
    forward: bool
    iterate: bool


@dataclass(slots=True)
class Search:
    """A parsed search. ``applied`` are the parameters in effect, as the self link repeats them."""

    resource_type: str
    conditions: list[Condition] = field(default_factory=list)
    sort: list[SortKey] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)
    count: int = DEFAULT_COUNT
    count_only: bool = False
    total: bool = True
    elements: frozenset[str] = frozenset()
    cursor: tuple[str | int, ...] = ()
    applied: list[tuple[str, str]] = field(default_factory=list)


def parse_criteria(resource_type: str, parameters: Parameters, context: Context) -> list[Condition]:
    """The conditions of a conditional interaction: everything must be understood. Raises Invalid."""
    conditions = []
    for name, value in parameters:
        try:
            conditions.append(condition(resource_type, name, value, context))
        except UnknownParameter as error:
            raise Invalid("The criteria of a conditional interaction hold an unknown parameter.") from error
    if not conditions:
        raise Invalid("A conditional interaction needs at least one search parameter.", code="required")
    return conditions


def parse_search(resource_type: str, parameters: Parameters, context: Context, *, strict: bool = False) -> Search:
    """The query that search parameters mean. Raises Invalid; for unknown parameters only if ``strict``."""
    search = Search(resource_type)
    cursor = ""
    for name, value in parameters:
        if name == "_cursor":
            cursor = value
            continue
        try:
            if name in _IGNORED or (not value and not strict):
                continue
            if name.startswith("_") and name.partition(":")[0] not in ("_id", "_lastUpdated"):
                _control(search, name, value)
            else:
                search.conditions.append(condition(resource_type, name, value, context))
        except UnknownParameter as error:
            if strict:
                raise Invalid("The search has a parameter this server does not know.", code="not-supported") from error
            continue
        search.applied.append((name, value))
    if search.count == 0:
        search.count_only = True
    if cursor:
        search.cursor = _decode_cursor(cursor, search.sort)
    return search


def _control(search: Search, name: str, value: str) -> None:
    """Apply a parameter that shapes the answer."""
    code, _, modifier = name.partition(":")
    if code in ("_include", "_revinclude") and modifier in ("", "iterate", "recurse"):
        search.includes += _includes(value, forward=code == "_include", iterate=bool(modifier))
    elif modifier:
        raise UnknownParameter
    elif code == "_count":
        if not (value.isascii() and value.isdigit()):
            raise Invalid("_count must be a whole number, zero or more.", code="value")
        search.count = min(int(value[:9]), MAX_COUNT)
    elif code == "_sort":
        search.sort += [_sort_key(search.resource_type, text) for text in value.split(",")]
    elif code == "_total":
        if value not in ("none", "estimate", "accurate"):
            raise Invalid("_total must be none, estimate or accurate.", code="value")
        search.total = value != "none"
    elif code == "_summary" and value in ("count", "false"):
        search.count_only = value == "count"
    elif code == "_elements":
        search.elements |= frozenset(part.strip().partition(".")[0] for part in value.split(",")) - {""}
    else:
        raise UnknownParameter


def _includes(value: str, *, forward: bool, iterate: bool) -> list[Include]:
    source, _, rest = value.partition(":")
    code, _, target = rest.partition(":")
    known = PARAMETERS.get(source, {})
    parameters = [p for p in known.values() if p.kind == "reference" and code in (p.name, "*")]
    if not parameters or (target and not any(target in p.targets for p in parameters)):
        raise Invalid("_include and _revinclude take Type:parameter or Type:parameter:Target.", code="value")
    return [Include(source, p.number, target, forward, iterate) for p in parameters]


def _sort_key(resource_type: str, text: str) -> SortKey:
    descending = text.startswith("-")
    parameter = PARAMETERS[resource_type].get(text.removeprefix("-"))
    if parameter is None:
        raise UnknownParameter
    if parameter.kind == "id":
        return SortKey("r.name", descending, True)
    if parameter.kind == "updated":
        return SortKey("r.updated", descending, False)
    return _indexed_sort(parameter, descending)


def _indexed_sort(parameter: Parameter, descending: bool) -> SortKey:
    """Sort by a value from an index table: the least of several when ascending, else the greatest."""
    # Not the bare columns: for their extremes SQLite would walk the index of the whole parameter, for every resource.
    table, column = {
        "token": ("fhir_token", "code || ''"),
        "string": ("fhir_string", "folded || ''"),
        "date": ("fhir_date", "high + 0" if descending else "low + 0"),
        "reference": ("fhir_reference", "target || ''"),
    }[parameter.kind]
    best = f"{'MAX' if descending else 'MIN'}(s.{column})"
    sql = f"(SELECT {best} FROM {table} s WHERE s.resource_key = r.key AND s.parameter = {parameter.number})"
    if parameter.kind == "date":
        return SortKey(f"COALESCE({sql}, {-2 * FOREVER + 1 if descending else 2 * FOREVER - 1})", descending, False)
    return SortKey(f"COALESCE({sql}, ?)", descending, True, ("" if descending else _LAST_TEXT,))


def encode_cursor(values: Sequence[str | int]) -> str:
    """An opaque cursor from the sort values and key of the last resource of a page."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(values))).decode().rstrip("=")


def _decode_cursor(text: str, sort: list[SortKey]) -> tuple[str | int, ...]:
    kinds = [str if key.is_text else int for key in sort] + [int]
    try:
        values = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=list[str | int])
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise Invalid("The page link is damaged.", code="value") from error
    if [type(value) for value in values] != kinds or any(type(v) is int and abs(v) >= 2**63 for v in values):
        raise Invalid("The page link does not belong to this search.", code="value")
    return tuple(values)


def where(resource_type: str, conditions: Sequence[Condition]) -> Condition:
    """The condition of a whole search on ``fhir_resource r``."""
    best = max(conditions, key=lambda one: one.selectivity, default=None)
    texts = [f"r.type = {TYPES[resource_type]} AND r.deleted = 0"]
    for one in conditions:
        texts.append(one.test if one.test and (one is not best or not one.selectivity) else one.sql)
    return Condition(" AND ".join(texts), tuple(value for one in conditions for value in one.values))


def count_query(search: Search) -> Condition:
    """SELECT of the number of matches."""
    found = where(search.resource_type, search.conditions)
    return Condition(f"SELECT COUNT(*) FROM fhir_resource r WHERE {found.sql}", found.values)


def page_query(search: Search) -> Condition:
    """SELECT of one page and one resource more: key, name, version, updated, content, and the sort values.

    Keys are chosen before contents are touched, so that sorting never moves content about.
    """
    found = where(search.resource_type, search.conditions)
    names = [f"s{place}" for place in range(len(search.sort))]
    columns = "".join(f", {key.sql} AS {name}" for key, name in zip(search.sort, names, strict=True))
    directions = [" DESC" if key.descending else "" for key in search.sort]
    # Resources of one time or name go by their key, in the direction in which an index can be followed.
    directions.append(directions[-1] if directions else "")
    order = [name + direction for name, direction in zip([*names, "k"], directions, strict=True)]
    after = _after(search, names) if search.cursor else Condition("1 = 1")
    chosen = (
        f"SELECT * FROM (SELECT r.key AS k{columns} FROM fhir_resource r WHERE {found.sql}) q "
        f"WHERE {after.sql} ORDER BY {', '.join(order)} LIMIT {search.count + 1}"
    )
    sql = (
        f"SELECT c.key, c.name, c.version, c.updated, c.content{''.join(f', p.{name}' for name in names)} "
        f"FROM ({chosen}) p JOIN fhir_resource c ON c.key = p.k "
        f"ORDER BY {', '.join(f'p.{part}' for part in order)}"
    )
    sort_values = tuple(value for key in search.sort for value in key.values)
    return Condition(sql, sort_values + found.values + after.values)


def _after(search: Search, names: list[str]) -> Condition:
    """Rows behind the cursor in the order of the search."""
    columns = [*names, "k"]
    descending = [key.descending for key in search.sort]
    descending.append(bool(descending) and descending[-1])
    branches: list[str] = []
    values: list[str | int] = []
    for place, column in enumerate(columns):
        same = "".join(f"{earlier} = ? AND " for earlier in columns[:place])
        branches.append(f"({same}{column} {'<' if descending[place] else '>'} ?)")
        values += search.cursor[: place + 1]
    return Condition(f"({' OR '.join(branches)})", tuple(values))


def include_query(include: Include, keys: Sequence[int], names: Sequence[str]) -> Condition:
    """SELECT of what one include adds to resources with these keys and names; rows as in :func:`page_query`."""
    columns = "c.key, c.name, c.version, c.updated, c.content"
    rows = f"FROM fhir_reference f WHERE f.parameter = {include.number}"
    if include.forward:
        kind = f" AND c.type = {TYPES.get(include.target, 0)}" if include.target else ""
        chosen = f"c.name IN (SELECT f.target {rows} AND f.resource_key IN ({', '.join(map(str, keys))}))"
        sql = f"SELECT {columns} FROM fhir_resource c WHERE c.deleted = 0{kind} AND {chosen}"
        return Condition(f"{sql} ORDER BY c.key LIMIT {MAX_INCLUDED + 1}")
    chosen = f"c.key IN (SELECT f.resource_key {rows} AND f.target IN ({', '.join('?' * len(names))}))"
    sql = f"SELECT {columns} FROM fhir_resource c WHERE c.deleted = 0 AND {chosen}"
    return Condition(f"{sql} ORDER BY c.key LIMIT {MAX_INCLUDED + 1}", tuple(names))
