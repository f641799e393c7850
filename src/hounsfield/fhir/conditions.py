"""One search criterion (``name:modifier=value``) as SQL (FHIR R4 §3.1.1.3 to §3.1.1.5).

Values are cut apart by the letter: ``,`` separates alternatives, ``|`` system and code, and a backslash takes their
meaning away.
"""

import re
from dataclasses import dataclass

from hounsfield.fhir.indexing import MAX_STRING, fold, target_of, token_key
from hounsfield.fhir.outcomes import Invalid
from hounsfield.fhir.periods import PREFIXES, date_condition, parse_period
from hounsfield.fhir.search_parameters import PARAMETERS, TYPES, Parameter

MAX_ALTERNATIVES = 400
"""Values between commas; SQLite joins at most 500 SELECTs."""
MAX_CHAIN = 4
"""Parameters in a chain like ``part-of.patient.identifier``."""

_TABLES = {"token": "fhir_token", "string": "fhir_string", "date": "fhir_date", "reference": "fhir_reference"}
_MODIFIERS = {
    "token": {"", "not", "missing"},
    "string": {"", "exact", "contains", "missing"},
    "date": {"", "missing"},
    "reference": {"", "identifier", "missing"},
    "id": {"", "missing"},
    "updated": {"", "missing"},
}
# A code fits a good part of all resources, an identifier next to none.
_SELECTIVITY = dict.fromkeys(("identifier", "series", "instance"), 3) | dict.fromkeys(
    ("gender", "status", "connection-type", "modality", "dicom-class", "code"), 0
)
_LAST = "\U0010ffff"
"""Sorts after every other character, byte by byte."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_MILLISECOND = 1000


class UnknownParameter(Exception):
    """A search parameter the type does not have; whether that is an error depends on ``Prefer: handling``."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one row of fhir_resource, with the values of its placeholders.

    ``sql`` lists the resources that fit; ``test``, where there is one, asks the same of one resource at a time. The
    engines have no statistics to choose by when the store is new, so search.py chooses: the highest ``selectivity``.
    """

    sql: str
    values: tuple[str | int, ...] = ()
    test: str = ""
    selectivity: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """What the meaning of a criterion depends on: our base URLs, the time, and the alias of the resource's row."""

    bases: tuple[str, ...]
    now: int
    alias: str = "r"


def split_escaped(text: str, separator: str) -> list[str]:
    r"""The parts between separators that no backslash precedes; escapes stay in.

    >>> split_escaped(r"a\,b,c", ",")
    ['a\\,b', 'c']
    """
    parts = [""]
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\" and position + 1 < len(text):
            parts[-1] += text[position : position + 2]
            position += 2
            continue
        if character == separator:
            parts.append("")
        else:
            parts[-1] += character
        position += 1
    return parts


def unescape(text: str) -> str:
    r"""``text`` without the backslashes of ``\,`` ``\|`` ``\$`` and ``\\``; any other backslash means itself.

    >>> unescape(r"a\,b\\c\d")
    'a,b\\c\\d'
    """
    return re.sub(r"\\([,|$\\])", r"\1", text)


def escape(text: str) -> str:
    r"""``text`` for use inside a search value.

    >>> escape("a,b|c")
    'a\\,b\\|c'
    """
    return re.sub(r"([,|$\\])", r"\\\1", text)


def condition(resource_type: str, name: str, value: str, context: Context) -> Condition:
    """The SQL of one criterion. Raises UnknownParameter, or Invalid for a bad value or modifier."""
    head, _, chained = name.partition(".")
    code, _, modifier = head.partition(":")
    parameter = PARAMETERS[resource_type].get(code)
    if parameter is None:
        raise UnknownParameter
    if chained:
        return _chain(parameter, modifier, chained, value, context)
    if modifier not in _MODIFIERS[parameter.kind] and modifier not in parameter.targets:
        raise Invalid(f"The search parameter {code} does not support this modifier.", code="not-supported")
    if modifier == "missing":
        return _missing(parameter, value, context)
    alternatives = [part for part in split_escaped(value, ",") if part]
    if not alternatives or _UNSTORABLE.search(value):
        raise Invalid(f"The search parameter {code} has no usable value.", code="value")
    if len(alternatives) > MAX_ALTERNATIVES:
        raise Invalid(f"The search parameter {code} has more than {MAX_ALTERNATIVES} values.", code="too-costly")
    if parameter.kind == "id":
        return _ids(resource_type, alternatives, context)
    if parameter.kind == "updated":
        row = f"{context.alias}.updated"
        return _any([_date(parameter, text, context, row, f"({row} + {_MILLISECOND})") for text in alternatives])
    return _indexed(parameter, modifier, alternatives, context)


def _indexed(parameter: Parameter, modifier: str, alternatives: list[str], context: Context) -> Condition:
    """A condition on the index table of the parameter's kind."""
    table, number = _TABLES[parameter.kind], parameter.number
    if modifier == "identifier":
        table, number = _TABLES["token"], parameter.identifier_number
    selects: list[Condition]
    if parameter.kind == "token" or modifier == "identifier":
        selects = _tokens(parameter, alternatives)
    elif parameter.kind == "string":
        selects = [_string(text, modifier) for text in alternatives]
    elif parameter.kind == "date":
        selects = [_date(parameter, text, context, "low", "high") for text in alternatives]
    else:
        targets = [target for text in alternatives for target in _targets(parameter, modifier, text, context)]
        selects = [_in("target", targets)]
    negation = "NOT " if modifier == "not" else ""
    key = f"{context.alias}.key"
    listed = " UNION ALL ".join(
        f"SELECT resource_key FROM {table} WHERE parameter = {number} AND {select.sql}" for select in selects
    )
    tested = _any(selects).sql
    return Condition(
        f"{key} {negation}IN ({listed})",
        tuple(value for select in selects for value in select.values),
        f"{negation}EXISTS (SELECT 1 FROM {table} WHERE resource_key = {key} AND parameter = {number} AND {tested})",
        0 if negation else _SELECTIVITY.get(parameter.name, 2 if parameter.kind == "reference" else 1),
    )


def _missing(parameter: Parameter, value: str, context: Context) -> Condition:
    if value not in ("true", "false"):
        raise Invalid("The modifier :missing takes true or false.", code="value")
    if parameter.kind in ("id", "updated"):
        return Condition("1 = 0" if value == "true" else "1 = 1")
    rows = (
        f"EXISTS (SELECT 1 FROM {_TABLES[parameter.kind]} m "
        f"WHERE m.resource_key = {context.alias}.key AND m.parameter = {parameter.number})"
    )
    if parameter.kind == "reference":
        rows = (
            f"({rows} OR EXISTS (SELECT 1 FROM fhir_token m "
            f"WHERE m.resource_key = {context.alias}.key AND m.parameter = {parameter.identifier_number}))"
        )
    return Condition(f"NOT {rows}" if value == "true" else rows)


def _chain(parameter: Parameter, modifier: str, chained: str, value: str, context: Context) -> Condition:
    """``patient.identifier=…``: the criterion ``chained`` on the resources that ``parameter`` points to."""
    if parameter.kind != "reference" or len(context.alias) >= MAX_CHAIN:
        raise Invalid("The search parameter cannot be chained like this.", code="not-supported")
    kinds = [modifier] if modifier else [target for target in parameter.targets if target in TYPES]
    if any(kind not in parameter.targets or kind not in TYPES for kind in kinds):
        raise Invalid("The search parameter does not refer to that type.", code="not-supported")
    inner = Context(context.bases, context.now, context.alias + "r")
    branches = []
    for kind in kinds:
        found = condition(kind, chained, value, inner)
        sql = (
            f"{context.alias}.key IN (SELECT f.resource_key FROM fhir_reference f "
            f"JOIN fhir_resource {inner.alias} ON {inner.alias}.name = f.target "
            f"WHERE f.parameter = {parameter.number} AND {inner.alias}.type = {TYPES[kind]} "
            f"AND {inner.alias}.deleted = 0 AND {found.sql})"
        )
        branches.append(Condition(sql, found.values))
    return _any(branches)


def _any(conditions: list[Condition]) -> Condition:
    if len(conditions) == 1:
        return conditions[0]
    sql = " OR ".join(one.sql for one in conditions)
    return Condition(f"({sql})", tuple(value for one in conditions for value in one.values))


def _in(column: str, values: list[str]) -> Condition:
    if len(values) == 1:
        return Condition(f"{column} = ?", (values[0],))
    return Condition(f"{column} IN ({', '.join('?' * len(values))})", tuple(values))


def _ids(resource_type: str, alternatives: list[str], context: Context) -> Condition:
    names = []
    for text in alternatives:
        own = target_of(unescape(text), context.bases) or ""
        names.append(own if own.startswith(resource_type + "/") else f"{resource_type}/{unescape(text)}")
    return _in(f"{context.alias}.name", names)


def _tokens(parameter: Parameter, alternatives: list[str]) -> list[Condition]:
    """``s|v``, ``|v``, ``s|`` and ``v``; values that share a system share a SELECT."""
    by_system: dict[str | None, list[str]] = {}
    conditions = []
    for text in alternatives:
        parts = [unescape(part) for part in split_escaped(text, "|")]
        if len(parts) == 1:
            by_system.setdefault(None, []).append(token_key(parts[0]))
        elif len(parts) == 2 and parts[1]:
            by_system.setdefault(token_key(parts[0]), []).append(token_key(parts[1]))
        elif len(parts) == 2 and parts[0]:
            conditions.append(Condition("system = ?", (token_key(parts[0]),)))
        else:
            raise Invalid(f"A value of {parameter.name} is not of the form system|code.", code="value")
    for system, codes in by_system.items():
        found = _in("code", codes)
        if system is not None:
            found = Condition(f"{found.sql} AND system = ?", (*found.values, system))
        conditions.append(found)
    return conditions


def _string(text: str, modifier: str) -> Condition:
    exact = unescape(text)
    folded = fold(exact)[:MAX_STRING]
    if modifier == "exact":
        return Condition("folded = ? AND exact = ?", (folded, exact))
    if not folded:
        raise Invalid("A value to search a text for must hold more than spaces and accents.", code="value")
    if modifier == "contains":
        pattern = re.sub(r"([!%_])", r"!\1", folded)
        return Condition("folded LIKE ? ESCAPE '!'", (f"%{pattern}%",))
    return Condition("folded >= ? AND folded < ?", (folded, folded + _LAST))


def _date(parameter: Parameter, text: str, context: Context, low: str, high: str) -> Condition:
    prefix = text[:2] if text[:2] in PREFIXES else ""
    # A plus sign that was not percent-encoded arrives as a space; dates have no other use for one.
    period = parse_period(unescape(text[len(prefix) :]).replace(" ", "+"))
    if period is None:
        raise Invalid(f"A value of {parameter.name} is not a date, with or without one of the prefixes.", code="value")
    return Condition(*date_condition(prefix or "eq", period, context.now, low, high))


def _targets(parameter: Parameter, modifier: str, text: str, context: Context) -> list[str]:
    """The targets a value may mean: a bare id stands for every type the parameter allows."""
    literal = unescape(text)
    if _ID.fullmatch(literal):
        return [f"{kind}/{literal}" for kind in ([modifier] if modifier else parameter.targets)]
    target = target_of(literal, context.bases)
    if target is None:
        raise Invalid(f"A value of {parameter.name} is not a reference.", code="value")
    if modifier and not target.startswith(modifier + "/"):
        raise Invalid(f"A value of {parameter.name} names another type than the modifier.", code="value")
    return [token_key(target)]
