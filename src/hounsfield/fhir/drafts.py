"""What a request asks to be written, checked and as far as possible prepared before the database is asked for anything.

A unit of work may be run twice (database/engine.py), so nothing here is used up by it: references are rewritten from
their literal text each time.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from hounsfield.fhir.conditions import Condition, Context
from hounsfield.fhir.content import pack, tail_of
from hounsfield.fhir.formats import CHECKS
from hounsfield.fhir.indexing import Indexed, index, target_of
from hounsfield.fhir.outcomes import Invalid, UnknownResource
from hounsfield.fhir.search import parse_criteria
from hounsfield.fhir.search_parameters import TYPES
from hounsfield.fhir.validation import Checked, Reference, validate

Json = dict[str, Any]
MUST_EXIST = frozenset(("Patient", "Endpoint", "ImagingStudy", "Observation"))
"""Types whose resources must be here when something refers to them (dicom-cast.md §9).

Others may be elsewhere: studies have long referred to orders and devices of which this store never heard.
"""
MAX_PARAMETERS = 1000
"""Parameters of one query string."""


def parse_query(query: str) -> list[tuple[str, str]]:
    """The parameters of a query string, decoded. Raises Invalid."""
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except ValueError as error:
        raise Invalid("The query string cannot be read.", code="value") from error


class Draft:
    """A valid resource on its way into the tables."""

    def __init__(self, checked: Checked, bases: tuple[str, ...]) -> None:
        self._checked = checked
        self._bases = bases
        self.tail = b""
        self.content = b""
        self.indexed = Indexed()
        self._written: list[str] | None = None

    @property
    def references(self) -> list[Reference]:
        """The literal references as they were sent."""
        return self._checked.references

    @property
    def has_conditional_references(self) -> bool:
        """Whether a reference is a search (``Patient?identifier=…``)."""
        return any(conditional(reference.literal) for reference in self.references)

    def literals(self) -> list[str]:
        """The text of every reference and URI that may name a bundle entry."""
        return [reference.literal for reference in (*self.references, *self._checked.uris)]

    def complete(self, renamed: Callable[[str], str]) -> None:
        """Put in the final references and make the rows; ``renamed`` maps a literal to what replaces it."""
        written = []
        for reference in self.references:
            reference.holder[reference.key] = renamed(reference.literal)
            written.append(reference.holder[reference.key])
        for uri in self._checked.uris:
            uri.holder[uri.key] = renamed(uri.literal)
            written.append(uri.holder[uri.key])
        if written == self._written and self.tail:
            return
        self._written = written
        self.tail = tail_of(self._checked.resource)
        self.content = pack(self.tail)
        self.indexed = index(self._checked.resource, self._bases, written[: len(self.references)])

    def targets(self) -> list[tuple[str, str]]:
        """Resources that must exist, each with the path of the reference to it."""
        found = []
        for reference, literal in zip(self.references, self._written or (), strict=False):
            target = target_of(literal, self._bases)
            if target and target.partition("/")[0] in MUST_EXIST and target.count("/") == 1:
                found.append((target, reference.path))
        return found


def conditional(literal: str) -> bool:
    """Whether a reference is a search on one of our types, to be replaced by what it finds."""
    return literal.partition("?")[0] in TYPES and "?" in literal


def draft(resource: Any, resource_type: str, bases: tuple[str, ...]) -> Draft:
    """Check a resource, and prepare it if its references are sure to stay as they are. Raises Invalid."""
    made = Draft(validate(resource, resource_type, bases), bases)
    if not any(literal.startswith(("urn:uuid:", "urn:oid:")) or conditional(literal) for literal in made.literals()):
        made.complete(str)
    return made


@dataclass(slots=True)
class Operation:
    """One write. ``identity`` is empty where ``criteria`` decide; ``new_identity`` is for what they do not find."""

    method: str
    resource_type: str
    identity: str = ""
    new_identity: str = field(default_factory=lambda: str(uuid.uuid4()))
    criteria: list[Condition] | None = None
    criteria_text: str = ""
    if_match: str = ""
    draft: Draft | None = None
    full_url: str = ""
    entry: int | None = None
    """Its place in the bundle it came in."""

    @property
    def name(self) -> str:
        """``Type/id``."""
        return f"{self.resource_type}/{self.identity}"


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What a request says under which circumstances it may be carried out."""

    if_none_exist: str = ""
    if_match: str = ""


def create_operation(
    resource_type: str, resource: Any, preconditions: Preconditions, context: Context, full_url: str = ""
) -> Operation:
    """``POST Type``. Raises Invalid."""
    operation = Operation("POST", resource_type, full_url=full_url)
    operation.identity = operation.new_identity
    if isinstance(resource, dict) and "id" in resource:
        # R4 §3.1.0.8: an id in what is to be created is ignored.
        resource = {key: value for key, value in resource.items() if key != "id"}
    operation.draft = draft(resource, resource_type, context.bases)
    if preconditions.if_none_exist:
        text = preconditions.if_none_exist.removeprefix(resource_type).removeprefix("?")
        operation.criteria = parse_criteria(resource_type, parse_query(text), context)
        operation.criteria_text = text
    return operation


def update_operation(
    resource_type: str,
    identity: str,
    query: str,
    resource: Any,
    preconditions: Preconditions,
    context: Context,
    full_url: str = "",
) -> Operation:
    """``PUT Type/id``, or ``PUT Type?criteria`` where ``identity`` is empty. Raises Invalid."""
    operation = Operation("PUT", resource_type, identity, if_match=preconditions.if_match, full_url=full_url)
    operation.draft = draft(resource, resource_type, context.bases)
    stated = resource.get("id", "")
    if identity:
        if stated != identity:
            raise Invalid("The resource must have the id of the URL.", code="value", expression=f"{resource_type}.id")
        return operation
    operation.identity = stated
    operation.criteria = parse_criteria(resource_type, parse_query(query), context)
    return operation


def delete_operation(
    resource_type: str, identity: str, query: str, preconditions: Preconditions, context: Context, full_url: str = ""
) -> Operation:
    """``DELETE Type/id``, or ``DELETE Type?criteria`` where ``identity`` is empty. Raises Invalid."""
    operation = Operation("DELETE", resource_type, identity, if_match=preconditions.if_match, full_url=full_url)
    if identity and CHECKS["id"](identity):
        raise UnknownResource("There is no such resource.")
    if not identity:
        operation.criteria = parse_criteria(resource_type, parse_query(query), context)
    return operation


def renaming(own_url: str, names: Mapping[str, str]) -> Callable[[str], str]:
    """How references of the entry ``own_url`` change when the entries of a bundle get ``names`` (R4 §3.1.0.11.2)."""
    base = own_url.rsplit("/", 2)[0] + "/" if own_url.count("/") > 2 else ""

    def renamed(literal: str) -> str:
        return names.get(literal) or (names.get(base + literal) if base else None) or literal

    return renamed
