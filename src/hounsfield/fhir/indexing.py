"""What of a resource each search parameter finds it by: the rows of the index tables.

Extraction expects a resource that has passed validation.py. For the types of every write it is written by hand; for the
rarer ones a parameter says which paths it looks at.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hounsfield.fhir.periods import FOREVER, Period, parse_period
from hounsfield.fhir.search_parameters import PARAMETERS, Parameter

Json = dict[str, Any]

MAX_STRING = 200
"""Characters of a string that are indexed: PostgreSQL refuses index entries over 2700 bytes. ``:exact`` sees all."""
MAX_TOKEN = 150
"""Longer tokens are indexed by their beginning and a hash."""

_RELATIVE = re.compile(r"([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_SPACES = re.compile(r"\s+")
_UNITS = {"DCM": "http://dicom.nema.org/resources/ontology/DCM"}
_OID = "urn:oid:"
_URI = "urn:ietf:rfc:3986"


@dataclass(slots=True)
class Indexed:
    """The rows of one resource in the index tables, without its key."""

    tokens: set[tuple[int, str, str]] = field(default_factory=set)
    strings: set[tuple[int, str, str]] = field(default_factory=set)
    dates: set[tuple[int, int, int]] = field(default_factory=set)
    references: set[tuple[int, str]] = field(default_factory=set)

    def token(self, parameter: Parameter | int, code: str, system: str = "") -> None:
        """File a token; an absent system is the empty string."""
        number = parameter if isinstance(parameter, int) else parameter.number
        self.tokens.add((number, token_key(code), token_key(system)))

    def string(self, parameter: Parameter, text: str | None) -> None:
        """File a string, if there is one."""
        if text:
            self.strings.add((parameter.number, fold(text)[:MAX_STRING], text))

    def period(self, parameter: Parameter, period: Period | None) -> None:
        """File the period a date stands for."""
        if period is not None:
            self.dates.add((parameter.number, period.low, period.high))

    def date(self, parameter: Parameter, text: str | None) -> None:
        """File a date or dateTime, if there is one."""
        if text:
            self.period(parameter, parse_period(text))

    def identifiers(self, parameter: Parameter, identifiers: Iterable[Json | None]) -> None:
        """File Identifiers by value and system."""
        for identifier in identifiers:
            if identifier and (value := identifier.get("value")):
                self.token(parameter, value, identifier.get("system", ""))

    def coding(self, parameter: Parameter, coding: Json | None) -> None:
        """File a Coding by code and system."""
        if coding and (code := coding.get("code")):
            self.token(parameter, code, coding.get("system", ""))

    def code(self, parameter: Parameter, code: str | None, system: str) -> None:
        """File an element of type code under the system its binding implies."""
        if code:
            self.token(parameter, code, system)

    def reference(self, parameter: Parameter, reference: Json | None, bases: tuple[str, ...]) -> None:
        """File a Reference by its target and by its identifier."""
        if not reference:
            return
        target = target_of(reference.get("reference", "#"), bases)
        if target and len(parameter.targets) == 1 and type_of(target) not in parameter.targets:
            # A parameter of one type (patient) passes over references to others (a Device in subject).
            return
        if target:
            self.references.add((parameter.number, token_key(target)))
        identifier = reference.get("identifier")
        if identifier and (value := identifier.get("value")):
            self.token(parameter.identifier_number, value, identifier.get("system", ""))


def fold(text: str) -> str:
    """``text`` as string searches compare it: without case, accents and superfluous white space.

    >>> fold("  Müller   LÜDENSCHEIDT ")
    'muller ludenscheidt'
    """
    if text.isascii():
        plain = text.lower()
    else:
        decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    return _SPACES.sub(" ", plain).strip()


def token_key(text: str) -> str:
    """``text``, or for a long one a key no other text has."""
    if len(text) <= MAX_TOKEN:
        return text
    return text[:64] + "#" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def target_of(reference: str, bases: tuple[str, ...]) -> str | None:
    """What a reference points to, ``Type/id`` for resources below one of our base URLs; None for a contained one."""
    if reference.startswith("#"):
        return None
    for base in bases:
        if reference.startswith(base + "/"):
            reference = reference[len(base) + 1 :]
            break
    match = _RELATIVE.fullmatch(reference)
    return f"{match[1]}/{match[2]}" if match else reference


def type_of(target: str) -> str:
    """The type of what :func:`target_of` found, here or on another server, by its URL; empty if that does not tell.

    >>> type_of("http://elsewhere.example/fhir/Patient/1")
    'Patient'
    """
    return (["", "", *target.split("/")])[-2]


def index(resource: Json, bases: tuple[str, ...], referred: Iterable[str]) -> Indexed:
    """The index rows of a valid resource. ``referred`` are all references in it, wherever they stand."""
    indexed = Indexed()
    resource_type = resource["resourceType"]
    if extract := _EXTRACT.get(resource_type):
        extract(resource, indexed, bases)
    else:
        _from_paths(resource, PARAMETERS[resource_type].values(), indexed, bases)
    for literal in referred:
        if target := target_of(literal, bases):
            indexed.references.add((0, token_key(target)))
    return indexed


def _patient(resource: Json, indexed: Indexed, bases: tuple[str, ...]) -> None:
    of = PARAMETERS["Patient"]
    indexed.identifiers(of["identifier"], resource.get("identifier", ()))
    for name in resource.get("name", ()):
        indexed.string(of["family"], name.get("family"))
        indexed.string(of["name"], name.get("family"))
        indexed.string(of["name"], name.get("text"))
        for given in name.get("given", ()):
            indexed.string(of["given"], given)
        for part in ("given", "prefix", "suffix"):
            for text in name.get(part, ()):
                indexed.string(of["name"], text)
    indexed.code(of["gender"], resource.get("gender"), "http://hl7.org/fhir/administrative-gender")
    indexed.date(of["birthdate"], resource.get("birthDate"))


def _endpoint(resource: Json, indexed: Indexed, bases: tuple[str, ...]) -> None:
    of = PARAMETERS["Endpoint"]
    indexed.identifiers(of["identifier"], resource.get("identifier", ()))
    indexed.string(of["name"], resource.get("name"))
    indexed.coding(of["connection-type"], resource.get("connectionType"))
    indexed.code(of["status"], resource.get("status"), "http://hl7.org/fhir/endpoint-status")


def _imaging_study(resource: Json, indexed: Indexed, bases: tuple[str, ...]) -> None:
    of = PARAMETERS["ImagingStudy"]
    indexed.identifiers(of["identifier"], resource.get("identifier", ()))
    subject = resource.get("subject")
    indexed.reference(of["patient"], subject, bases)
    indexed.reference(of["subject"], subject, bases)
    indexed.date(of["started"], resource.get("started"))
    indexed.code(of["status"], resource.get("status"), "http://hl7.org/fhir/imagingstudy-status")
    endpoint = of["endpoint"]
    for reference in resource.get("endpoint", ()):
        indexed.reference(endpoint, reference, bases)
    series_number, instance_number = of["series"].number, of["instance"].number
    classes: set[tuple[str, str]] = set()
    tokens = indexed.tokens
    for series in resource.get("series", ()):
        if uid := series.get("uid"):
            tokens.add((series_number, uid, ""))
        _both_spellings(indexed, of["modality"], series.get("modality"))
        for reference in series.get("endpoint", ()):
            indexed.reference(endpoint, reference, bases)
        for instance in series.get("instance", ()):
            if uid := instance.get("uid"):
                tokens.add((instance_number, uid, ""))
            sop_class = instance.get("sopClass", {})
            classes.add((sop_class.get("code", ""), sop_class.get("system", "")))
    for code, system in classes:
        if code:
            _both_spellings(indexed, of["dicom-class"], {"code": code, "system": system})


def _both_spellings(indexed: Indexed, parameter: Parameter, coding: Json | None) -> None:
    """File DICOM codes as DICOM people and as FHIR people spell them (dicom-cast.md §8)."""
    if not coding or not (code := coding.get("code")):
        return
    system = coding.get("system", "")
    indexed.token(parameter, code, system)
    for short, long in _UNITS.items():
        if system in (short, long):
            indexed.token(parameter, code, short)
            indexed.token(parameter, code, long)
    if parameter.name == "dicom-class":
        uid = code.removeprefix(_OID)
        if (system, code) in (("", uid), (_URI, _OID + uid)):
            indexed.token(parameter, uid)
            indexed.token(parameter, _OID + uid, _URI)


def _observation(resource: Json, indexed: Indexed, bases: tuple[str, ...]) -> None:
    of = PARAMETERS["Observation"]
    indexed.identifiers(of["identifier"], resource.get("identifier", ()))
    subject = resource.get("subject")
    indexed.reference(of["patient"], subject, bases)
    indexed.reference(of["subject"], subject, bases)
    for coding in resource.get("code", {}).get("coding", ()):
        indexed.coding(of["code"], coding)
    for reference in resource.get("partOf", ()):
        indexed.reference(of["part-of"], reference, bases)
    indexed.date(of["date"], resource.get("effectiveDateTime"))
    indexed.date(of["date"], resource.get("effectiveInstant"))
    if period := resource.get("effectivePeriod"):
        indexed.period(of["date"], _between([period.get("start")], [period.get("end")]))
    if timing := resource.get("effectiveTiming"):
        events = [event for event in timing.get("event", ()) if event]
        if events:
            indexed.period(of["date"], _between(events, events))


def _between(starts: list[str | None], ends: list[str | None]) -> Period:
    """From the earliest start to the latest end; a missing one leaves that side open."""
    lows = [period.low for period in _periods(starts)]
    highs = [period.high for period in _periods(ends)]
    return Period(min(lows, default=-FOREVER), max(highs, default=FOREVER))


def _periods(texts: Iterable[str | None]) -> Iterator[Period]:
    for text in texts:
        if text and (period := parse_period(text)):
            yield period


def _from_paths(resource: Json, parameters: Iterable[Parameter], indexed: Indexed, bases: tuple[str, ...]) -> None:
    for parameter in parameters:
        for path in parameter.paths:
            for value in _at(resource, path.split(".")):
                _one(parameter, value, indexed, bases)


def _one(parameter: Parameter, value: Any, indexed: Indexed, bases: tuple[str, ...]) -> None:
    """File one value of a parameter, which is of the types its paths can have."""
    if parameter.kind == "reference":
        indexed.reference(parameter, value, bases)
    elif parameter.kind == "string":
        indexed.string(parameter, value)
    elif parameter.kind == "date":
        if isinstance(value, str):
            indexed.date(parameter, value)
        else:
            indexed.period(parameter, _between([value.get("start")], [value.get("end")]))
    elif isinstance(value, str):
        indexed.code(parameter, value, parameter.system)
    elif "value" in value:
        indexed.identifiers(parameter, [value])
    else:
        for coding in value.get("coding", ()):
            indexed.coding(parameter, coding)


def _at(element: Any, path: list[str]) -> Iterator[Any]:
    """The values at a path, of every item of a list on the way."""
    if isinstance(element, list):
        for item in element:
            yield from _at(item, path)
    elif not path:
        if element is not None:
            yield element
    elif isinstance(element, dict) and path[0] in element:
        yield from _at(element[path[0]], path[1:])


_EXTRACT = {
    "Patient": _patient,
    "Endpoint": _endpoint,
    "ImagingStudy": _imaging_study,
    "Observation": _observation,
}
