"""The R4 structure definitions of the store's types and all data types, ready for the validator.

definitions.json is made by tools/fhir_definitions.py. It has three parts: ``resources``, the names of all R4 resource
types; ``codes``, value set → codes; ``types``, type or backbone path → element → ``[type, min, max]``, where max 0
means any number, with a fourth item where there is more to say: ``codes`` (required binding), ``targets`` (of a
Reference), ``choice`` (the name before ``[x]``; each allowed type has its own line).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from hounsfield.fhir.formats import CHECKS, Check
from hounsfield.fhir.invariants import INVARIANTS, Invariant

_URIS = frozenset(("uri", "url", "oid", "uuid", "canonical"))
NOT_IN_VALUE_SET = "must be one of the codes of its value set"


@dataclass(slots=True)
class Element:
    """One element of a type: a primitive has ``check``, a complex one has ``type``, a contained resource neither."""

    name: str
    kind: str
    required: bool
    many: bool
    choice: str
    targets: frozenset[str]
    check: Check | None = None
    type: "Type | None" = None
    is_counted: bool = False
    """Required by its own name, not as one type of a choice."""
    is_uri: bool = False
    """May name an entry of a bundle, besides References (R4 §3.1.0.11.2)."""


@dataclass(slots=True)
class Type:
    """A resource type, data type or backbone element."""

    name: str
    elements: dict[str, Element] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    """Elements, or names of choices, that must be there."""
    invariants: Sequence[Invariant] = ()


def _bound(check: Check, codes: frozenset[str]) -> Check:
    def bound(value: Any) -> str | None:
        if type(value) is str and value in codes:
            return None
        return check(value) or NOT_IN_VALUE_SET

    return bound


@cache
def _source() -> dict[str, Any]:
    source: dict[str, Any] = msgspec.json.decode((files(__package__) / "definitions.json").read_bytes())
    return source


@cache
def resource_names() -> frozenset[str]:
    """All resource types of R4."""
    return frozenset(_source()["resources"])


@cache
def types() -> dict[str, Type]:
    """Every type by name (``Patient``, ``HumanName``, ``Patient.contact``)."""
    source = _source()
    codes = {name: frozenset(listed) for name, listed in source["codes"].items()}
    made = {name: Type(name, invariants=INVARIANTS.get(name, ())) for name in source["types"]}
    for name, rows in source["types"].items():
        for key, (kind, least, most, *more) in rows.items():
            extra = more[0] if more else {}
            check = CHECKS.get(kind)
            if check and "codes" in extra:
                check = _bound(check, codes[extra["codes"]])
            choice = extra.get("choice", "")
            targets = frozenset(extra.get("targets", ()))
            made[name].elements[key] = Element(
                *(key, kind, least > 0, most != 1, choice, targets, check, made.get(kind)),
                is_counted=least > 0 and not choice,
                is_uri=kind in _URIS,
            )
        elements = made[name].elements.values()
        made[name].required = frozenset(element.choice or element.name for element in elements if element.required)
    made["Element"] = Type("Element", {key: made["Period"].elements[key] for key in ("id", "extension")})
    return made
