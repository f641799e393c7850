"""Person names as FHIR wants them: parts of a HumanName, or one line for people to read."""

from hounsfield.cast.values import Values
from hounsfield.dicom.person_name import NameComponents, parse
from hounsfield.fhir.target import Resource

REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"


def human_name(parts: NameComponents) -> Resource | None:
    """The usual HumanName of one group of a person name; None if it names nobody.

    Other white space than spaces names nobody either, and no FHIR server takes it alone.
    """
    name: Resource = {"use": "usual"}
    if parts.family.strip():
        name["family"] = parts.family
    for element, texts in (
        ("given", [parts.given, parts.middle]),
        ("prefix", [parts.prefix]),
        ("suffix", [parts.suffix]),
    ):
        words = [word for text in texts for word in text.split(" ") if word.strip()]
        if words:
            name[element] = words
    return name if len(name) > 1 else None


def further_names(values: Values, tag: str) -> tuple[Resource, ...]:
    """The ideographic and phonetic groups of a name as HumanNames (ISO 21090, EN representation)."""
    names = []
    for group, code in zip(values.further_name_groups(tag), ("IDE", "SYL"), strict=True):
        name = human_name(parse(group).alphabetic)
        if name is not None:
            names.append({"extension": [{"url": REPRESENTATION, "valueCode": code}]} | name)
    return tuple(names)


def representation(name: Resource) -> str | None:
    """``IDE`` or ``SYL`` for a HumanName in ideographs or as spoken; None for others."""
    for extension in name.get("extension", []):
        if extension.get("url") == REPRESENTATION:
            code = extension.get("valueCode")
            return None if code == "ABC" else code
    return None


def display_name(values: Values, tag: str) -> str | None:
    """The one name of a PN attribute in one line: prefix, given, middle, family, suffix."""
    return _line(values.person_name(tag))


def display_names(values: Values, tag: str) -> tuple[str, ...]:
    """All names of a PN attribute, each in one line, each once."""
    return tuple(dict.fromkeys(line for name in values.person_names(tag) if (line := _line(name))))


def _line(name: str | None) -> str | None:
    parts = parse(name or "").alphabetic
    words = " ".join((parts.prefix, parts.given, parts.middle, parts.family)).split()
    line = " ".join(words)
    return ", ".join(part for part in (line, " ".join(parts.suffix.split())) if part) or None
