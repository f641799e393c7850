"""The invariants of R4 that go beyond one element, by type; each returns a sentence naming the broken rule, or None."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from hounsfield.fhir.periods import parse_period

Json = dict[str, Any]
Invariant = Callable[[Json], str | None]


def _extension(value: Json) -> str | None:
    has_value = any(key.startswith(("value", "_value")) for key in value)
    if has_value == ("extension" in value):
        return "must have either a value or extensions (ext-1)"
    return None


def _in_order(first: str, last: str, rule: str) -> Invariant:
    """Of two times as far as both are known."""

    def check(value: Json) -> str | None:
        start, end = value.get(first), value.get(last)
        if type(start) is str and type(end) is str:
            begun, ended = parse_period(start), parse_period(end)
            if begun and ended and begun.low >= ended.high:
                return rule
        return None

    return check


def _needs(key: str, other: str, rule: str) -> Invariant:
    def check(value: Json) -> str | None:
        if key in value and other not in value and f"_{other}" not in value:
            return f"with {key} also needs {other} ({rule})"
        return None

    return check


def _one_of(keys: Sequence[str], sentence: str) -> Invariant:
    def check(value: Json) -> str | None:
        return None if any(key in value or f"_{key}" in value for key in keys) else sentence

    return check


def _range(value: Json) -> str | None:
    low, high = (_number(value.get(side)) for side in ("low", "high"))
    return "must not have a low above its high (rng-2)" if low is not None and high is not None and low > high else None


def _number(quantity: Any) -> Decimal | None:
    value = quantity.get("value") if type(quantity) is dict else None
    return Decimal(str(value)) if type(value) in (int, float, Decimal) else None


def _ratio(value: Json) -> str | None:
    if ("numerator" in value) != ("denominator" in value):
        return "needs both numerator and denominator (rat-1)"
    return None if "numerator" in value or "extension" in value else "must not be empty (rat-1)"


def _has_value(value: Json) -> bool:
    return any(key.startswith(("value", "_value")) for key in value)


def _no_reason_beside_value(rule: str) -> Invariant:
    def check(value: Json) -> str | None:
        if "dataAbsentReason" in value and _has_value(value):
            return f"must not have both a value and a reason for its absence ({rule})"
        return None

    return check


def _codes(concept: Any) -> set[tuple[str, str]]:
    codings = concept.get("coding") if type(concept) is dict else None
    return {
        (str(coding.get("system", "")), coding["code"])
        for coding in (codings if type(codings) is list else [])
        if type(coding) is dict and type(coding.get("code")) is str
    }


def _component_repeats_code(value: Json) -> str | None:
    components = value.get("component")
    if not _has_value(value) or type(components) is not list:
        return None
    own = _codes(value.get("code"))
    if any(type(component) is dict and own & _codes(component.get("code")) for component in components):
        return "must not have a value if a component has the same code (obs-7)"
    return None


_CONTACT = ("name", "telecom", "address", "organization")
_QUANTITY: Sequence[Invariant] = (_needs("code", "system", "qty-3"),)

INVARIANTS: Mapping[str, Sequence[Invariant]] = {
    "Extension": (_extension,),
    "Period": (_in_order("start", "end", "must not end before it starts (per-1)"),),
    "ContactPoint": (_needs("value", "system", "cpt-2"),),
    "Attachment": (_needs("data", "contentType", "att-1"),),
    "Quantity": _QUANTITY,
    "SimpleQuantity": _QUANTITY,
    "MoneyQuantity": _QUANTITY,
    "Age": _QUANTITY,
    "Count": _QUANTITY,
    "Distance": _QUANTITY,
    "Duration": _QUANTITY,
    "Range": (_range,),
    "Ratio": (_ratio,),
    "Patient.contact": (_one_of(_CONTACT, "must have a name, telecom, address or organization (pat-1)"),),
    "Observation": (_no_reason_beside_value("obs-6"), _component_repeats_code),
    "Observation.component": (_no_reason_beside_value("obs-6"),),
    "Task": (
        _in_order("authoredOn", "lastModified", "must not have been modified last before it was authored (inv-1)"),
    ),
    "ServiceRequest": (_needs("orderDetail", "code", "prr-1"),),
    "Observation.referenceRange": (_one_of(("low", "high", "text"), "must have low, high or text (obs-3)"),),
}
