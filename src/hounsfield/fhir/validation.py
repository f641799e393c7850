"""Whether a resource is one FHIR R4 allows: structure, cardinality, formats, required codes, invariants that matter.

JSON rules are those of R4 §2.6.2: no nulls, no empty strings, arrays or objects; ``_name`` beside a primitive holds its
id and extensions. The walk also gathers every reference and URI, which is what the store needs next.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hounsfield.fhir.definitions import NOT_IN_VALUE_SET, Element, Type, resource_names, types
from hounsfield.fhir.formats import CHECKS
from hounsfield.fhir.outcomes import Invalid, Issue
from hounsfield.fhir.search_parameters import TYPES

MAX_DEPTH = 64
"""Nesting of elements; the deepest sensible ones (extensions in extensions) have about ten levels."""
MAX_ISSUES = 20
"""Problems reported at once."""

Json = dict[str, Any]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_RELATIVE = re.compile(r"([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_CONDITIONAL = re.compile(r"([A-Za-z]+)\?.+")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+")


@dataclass(slots=True)
class Reference:
    """A literal reference as it was sent. ``holder[key]`` is where it stands, so that it can be rewritten."""

    holder: Json
    key: str
    literal: str
    path: str


@dataclass(slots=True)
class Checked:
    """A valid resource with its references, and the URIs in it that may name an entry of the same bundle."""

    resource: Json
    references: list[Reference] = field(default_factory=list)
    uris: list[Reference] = field(default_factory=list)


class _TooManyIssues(Exception):
    pass


def validate(resource: Any, resource_type: str, bases: Iterable[str] = ()) -> Checked:
    """Check a resource that must be of ``resource_type``. ``bases`` are our own base URLs. Raises Invalid."""
    if type(resource) is not dict:
        raise Invalid("A resource must be a JSON object.", code="structure")
    if resource.get("resourceType") != resource_type:
        raise Invalid(f"The resource must have the resourceType {resource_type}.", code="structure")
    walk = _Walk(resource, tuple(bases))
    try:
        walk.element(resource, types()[resource_type])
        walk.contained_are_used()
    except _TooManyIssues:
        pass
    if walk.issues:
        raise Invalid(issues=walk.issues)
    return walk.checked


class _Walk:
    """One pass over a resource. ``trail`` is the way to the current element, for texts only."""

    def __init__(self, resource: Json, bases: tuple[str, ...]) -> None:
        self.issues: list[Issue] = []
        self.checked = Checked(resource)
        self.bases = bases
        self.trail: list[str | int] = [resource["resourceType"]]
        self.contained: set[str] = set()
        self.mentioned: set[str] = set()
        self.points_to_container: set[str] = set()
        self.inside = ""

    def issue(self, code: str, sentence: str, *names: str | int) -> None:
        path = self.path(*names)
        self.issues.append(Issue(code, f"{path} {sentence}.", path))
        if len(self.issues) >= MAX_ISSUES:
            raise _TooManyIssues

    def path(self, *names: str | int) -> str:
        """The current element, or one below it, as FHIRPath."""
        steps = [f"[{step}]" if type(step) is int else f".{step}" for step in (*self.trail, *names)]
        return "".join(steps)[1:]

    def element(self, value: Any, kind: Type) -> None:
        """Check a complex element or resource."""
        if type(value) is not dict:
            self.issue("structure", "must be an object")
            return
        if not value:
            self.issue("structure", "must not be empty")
            return
        if len(self.trail) > MAX_DEPTH:
            self.issue("too-long", "is nested too deeply")
            return
        elements = kind.elements
        seen = 0
        choices: set[str] | None = None
        for key, child in value.items():
            element = elements.get(key)
            if element is None:
                self.unknown(value, key, child, kind)
                continue
            if element.is_counted:
                seen += 1
            elif element.choice:
                choices = choices or set()
                if element.choice in choices:
                    self.issue("structure", "must have only one type", element.choice + "[x]")
                choices.add(element.choice)
            if element.check is None:
                self.complex(child, element)
            elif element.many:
                self.primitives(value, child, element)
            elif sentence := element.check(child):
                self.issue("code-invalid" if sentence is NOT_IN_VALUE_SET else "value", sentence, key)
            elif element.is_uri and child.startswith(("urn:uuid:", "urn:oid:")):
                self.checked.uris.append(Reference(value, key, child, ""))
        if kind.required and (choices or seen < len(kind.required)):
            self.required(value, kind)
        for invariant in kind.invariants:
            if sentence := invariant(value):
                self.issue("invariant", sentence)

    def required(self, value: Json, kind: Type) -> None:
        for name in sorted(kind.required):
            if name in value or f"_{name}" in value:
                continue
            if not any(key.removeprefix("_") in kind.elements and self._is_choice(kind, key, name) for key in value):
                self.issue("required", "is required", name)

    @staticmethod
    def _is_choice(kind: Type, key: str, name: str) -> bool:
        return kind.elements[key.removeprefix("_")].choice == name

    def complex(self, child: Any, element: Element) -> None:
        """Check the value or values of an element that is not primitive."""
        if not element.many:
            self.trail.append(element.name)
            self.one(child, element)
            self.trail.pop()
        elif type(child) is not list:
            self.issue("structure", "must be an array", element.name)
        elif not child:
            self.issue("structure", "must not be empty", element.name)
        else:
            self.trail += (element.name, 0)
            for place, item in enumerate(child):
                self.trail[-1] = place
                self.one(item, element)
            del self.trail[-2:]

    def one(self, value: Any, element: Element) -> None:
        if element.type is None:
            self.contained_resource(value)
            return
        self.element(value, element.type)
        if element.kind == "Reference" and type(value) is dict and type(value.get("reference")) is str:
            self.reference(value, value["reference"], element.targets)

    def primitives(self, holder: Json, values: Any, element: Element) -> None:
        """Check an array of primitives, where null stands for a value that has only extensions."""
        assert element.check is not None
        if type(values) is not list:
            self.issue("structure", "must be an array", element.name)
            return
        if not values:
            self.issue("structure", "must not be empty", element.name)
        shadows = holder.get("_" + element.name)
        for place, value in enumerate(values):
            if value is None:
                shadow = shadows[place] if type(shadows) is list and place < len(shadows) else None
                if shadow is None:
                    self.issue("structure", "must not be null", element.name, place)
            elif sentence := element.check(value):
                self.issue("value", sentence, element.name, place)

    def unknown(self, holder: Json, key: Any, child: Any, kind: Type) -> None:
        """Check a member that is no element: resourceType, the shadow of a primitive, or a mistake."""
        if key == "resourceType" and kind.name in TYPES:
            return
        name = key[1:] if type(key) is str and key.startswith("_") else ""
        element = kind.elements.get(name)
        if element is None or element.check is None:
            shown = key if type(key) is str and _NAME.fullmatch(key) else "a member"
            self.issue("structure", f"has no element of this name: {shown}")
        elif not element.many:
            self.trail.append(name)
            self.element(child, types()["Element"])
            self.trail.pop()
        elif type(child) is not list or not any(item is not None for item in child):
            self.issue("structure", "must be an array of objects and nulls, not all null", key)
        elif len(child) != len(holder.get(name, child)):
            self.issue("structure", "must be as long as the array it belongs to", key)
        else:
            for place, item in enumerate(child):
                if item is not None:
                    self.trail += (name, place)
                    self.element(item, types()["Element"])
                    del self.trail[-2:]

    def reference(self, holder: Json, literal: str, targets: frozenset[str]) -> None:
        """Check the form and the target type of a literal reference."""
        local = literal
        for base in self.bases:
            local = local.removeprefix(base + "/")
        match = _RELATIVE.fullmatch(local) or _CONDITIONAL.fullmatch(local)
        if literal.startswith("#"):
            self.mentioned.add(literal[1:])
            if literal == "#":
                self.points_to_container.add(self.inside)
            return
        if match:
            if match[1] not in resource_names():
                self.issue("value", "names no resource type of R4", "reference")
            elif targets and match[1] not in targets:
                self.issue("value", "refers to a type that is not allowed here", "reference")
            stated = holder.get("type")
            if type(stated) is str and stated.rpartition("/")[2] != match[1]:
                self.issue("value", "contradicts the type of the reference", "type")
        elif not _ABSOLUTE.fullmatch(literal):
            self.issue("value", "must be Type/id, an absolute URL, or # and a contained resource's id", "reference")
        self.checked.references.append(Reference(holder, "reference", literal, self.path("reference")))

    def contained_resource(self, value: Any) -> None:
        """Check a contained resource: in full if it is of a type we know, else only that nothing in it is empty."""
        if type(value) is not dict or value.get("resourceType") not in resource_names():
            self.issue("structure", "must be a resource of R4")
            return
        identity = str(value.get("id", ""))
        if CHECKS["id"](value.get("id")):
            self.issue("required", "needs an id", "id")
            return
        if identity in self.contained:
            self.issue("invariant", "has the id of another contained resource", "id")
        self.contained.add(identity)
        if "contained" in value:
            self.issue("invariant", "must not contain resources itself (dom-2)", "contained")
        meta = value.get("meta")
        if type(meta) is dict and meta.keys() & {"versionId", "lastUpdated", "security"}:
            self.issue("invariant", "must have no versionId, lastUpdated or security (dom-4, dom-5)", "meta")
        self.inside = identity
        if value["resourceType"] in TYPES:
            self.element(value, types()[value["resourceType"]])
        else:
            self.not_empty(value, len(self.trail))
        self.inside = ""

    def not_empty(self, value: Any, depth: int) -> None:
        """Check content of unknown type, and note the references in it."""
        if depth > MAX_DEPTH:
            self.issue("too-long", "is nested too deeply")
        elif isinstance(value, (dict, list)):
            if not value:
                self.issue("structure", "must not hold empty arrays or objects")
            for item in value.values() if isinstance(value, dict) else value:
                self.not_empty(item, depth + 1)
            if isinstance(value, dict) and type(value.get("reference")) is str:
                self.reference(value, value["reference"], frozenset())
        elif type(value) is str and (sentence := CHECKS["string"](value)):
            self.issue("value", f"has a string that {sentence}")

    def contained_are_used(self) -> None:
        """Invariant dom-3, and that local references lead somewhere (ref-1)."""
        if self.mentioned - self.contained - {""}:
            self.issue("invariant", "refers to a contained resource that is not there (ref-1)")
        if self.contained - self.mentioned - self.points_to_container:
            self.issue("invariant", "contains a resource that nothing refers to (dom-3)")
