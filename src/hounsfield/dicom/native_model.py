"""The DICOM JSON Model (PS3.18 annex F) ⇄ the Native DICOM Model, an XML document (PS3.19 §A.1; PS3.18 §F.3).

Nothing is lost but for what XML cannot hold: control characters are written as U+FFFD, and empty parts at the end of a
name are left out. A private element is written as an offset in the block of its creator, as the model asks; the element
that reserves the block stays, so the way back finds the same one, or the first that is free where a document has none.

Reading trusts nobody: no document type, so no entities but XML's own; depth and what is left out between values have
limits, and whatever the model does not have is refused.
"""

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from hounsfield.dicom.dataset_reader import MAX_DEPTH
from hounsfield.dicom.dictionary import attribute, display_tag, is_private
from hounsfield.dicom.encodings import VRS
from hounsfield.dicom.values import NUMBER_CODES

Dataset = dict[str, Any]
"""Elements by eight upper-case hexadecimal digits."""

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
MAX_LEFT_OUT = 10_000
"""Values of a document that are not there because the next has a higher number: they take memory, but no bytes."""

_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_CHILDREN: Mapping[str, tuple[str, ...]] = {
    "": ("NativeDicomModel",),
    "NativeDicomModel": ("DicomAttribute",),
    "DicomAttribute": ("Value", "PersonName", "Item", "InlineBinary", "BulkData"),
    "Item": ("DicomAttribute",),
    "PersonName": _GROUPS,
    **dict.fromkeys(_GROUPS, _COMPONENTS),
}
_TEXTS = frozenset((*_COMPONENTS, "Value", "InlineBinary"))
_INTEGERS = frozenset(vr for vr, code in NUMBER_CODES.items() if code not in "df")
_INFINITE = {"inf": "Infinity", "infinity": "Infinity", "nan": "NaN"}
_EXACT = 2**53
"""Up to here every JSON reader has whole numbers right (PS3.18 §F.2.3)."""

_tag = re.compile(r"[0-9A-Fa-f]{8}").fullmatch
_number = re.compile(r"[1-9][0-9]{0,6}").fullmatch
_integer = re.compile(r"[+-]?[0-9]{1,20}").fullmatch
_decimal = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?").fullmatch

_ESCAPED: Mapping[int, str] = {
    **dict.fromkeys((*range(32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}"),
    **{ord(character): f"&#{ord(character)};" for character in '\t\n\r&<>"'},
}


class BadDocument(Exception):
    """No document of the Native DICOM Model; the text says what is wrong, without any value."""


# --- writing ---


def to_xml(dataset: Mapping[str, Any]) -> bytes:
    """The document of a dataset, in UTF-8."""
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
    return "".join((head, *_attributes(dataset), "</NativeDicomModel>")).encode()


def _attributes(dataset: Mapping[str, Any]) -> Iterator[str]:
    blocks = {block: creator for creator, block in _reserved(dataset).items()}
    for key, element in dataset.items():
        number, vr = int(key, 16), element["vr"]
        creator = blocks.get((number >> 16, number >> 8 & 0xFF))
        row = attribute(number)
        if creator is not None:
            named = f'tag="{key[:4]}00{key[6:]}" vr="{vr}" privateCreator="{_escaped(creator[1])}"'
        else:
            named = f'tag="{key}" vr="{vr}"' + (f' keyword="{row.keyword}"' if row and row.keyword else "")
        yield f"<DicomAttribute {named}>"
        yield from _content(vr, element)
        yield "</DicomAttribute>"


def _reserved(dataset: Mapping[str, Any]) -> dict[tuple[int, str], tuple[int, int]]:
    """The private blocks of a dataset (group, block), by group and creator; of several alike the first."""
    found: dict[tuple[int, str], tuple[int, int]] = {}
    for key, element in dataset.items():
        number = int(key, 16)
        if is_private(number) and 0x10 <= number & 0xFFFF <= 0xFF:
            creator = next(iter(element.get("Value", ())), None)
            if isinstance(creator, str) and creator.strip():
                found.setdefault((number >> 16, creator.strip()), (number >> 16, number & 0xFF))
    return found


def _content(vr: str, element: Mapping[str, Any]) -> Iterator[str]:
    if "InlineBinary" in element:
        yield f"<InlineBinary>{_escaped(element['InlineBinary'])}</InlineBinary>"
    if "BulkDataURI" in element:
        yield f'<BulkData uri="{_escaped(element["BulkDataURI"])}"/>'
    for number, value in enumerate(element.get("Value", ()), 1):
        if vr == "SQ":
            yield f'<Item number="{number}">'
            yield from _attributes(value or {})
            yield "</Item>"
        elif vr == "PN":
            yield f'<PersonName number="{number}">{_person_name(value or {})}</PersonName>'
        else:
            yield f'<Value number="{number}">{_escaped(_text(vr, value))}</Value>'


def _person_name(value: Mapping[str, str | None]) -> str:
    written = ""
    for group in _GROUPS:
        # What stands behind a fifth delimiter belongs to no component, and stays with the last.
        parts = zip(_COMPONENTS, (value.get(group) or "").split("^", 4), strict=False)
        components = "".join(f"<{name}>{_escaped(part)}</{name}>" for name, part in parts if part)
        if components:
            written += f"<{group}>{components}</{group}>"
    return written


def _text(vr: str, value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    is_whole = isinstance(value, float) and value.is_integer() and (vr in _INTEGERS or vr == "IS")
    return str(int(value)) if is_whole else repr(value)


def _escaped(text: str) -> str:
    return text.translate(_ESCAPED)


# --- reading ---


def from_xml(document: bytes) -> Dataset:
    """The dataset of a document, in order of its tags. Raises BadDocument.

    Numbers stay text where a number would be written otherwise. What base64 and texts hold is not looked at.
    """
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_document_type
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise BadDocument(f"it is not well-formed XML: {expat.ErrorString(error.code)}, line {error.lineno}") from error
    except (LookupError, ValueError) as error:
        if type(error) not in (LookupError, ValueError):
            raise  # not the parser's
        raise BadDocument("it is in a character encoding that this server does not know") from error
    return reader.dataset


def _refuse_document_type(*_: Any) -> None:
    raise BadDocument("it must not have a document type")


@dataclass(slots=True)
class _Attribute:
    """An attribute whose end has not come. ``creator``: of a private one; ``content``: what is no Value."""

    tag: int
    vr: str
    creator: str | None
    values: dict[int, Any] = field(default_factory=dict)
    content: dict[str, str] = field(default_factory=dict)


class _Reader:
    """Follows a document; ``dataset`` is what it holds once it has ended."""

    def __init__(self) -> None:
        self.dataset: Dataset = {}
        self._open = [""]
        self._datasets: list[list[_Attribute]] = []
        self._attributes: list[_Attribute] = []
        self._numbers: list[int] = []
        self._name: dict[str, str] = {}
        self._components: dict[str, str] = {}
        self._text: list[str] = []
        self._left_out = 0

    def start(self, name: str, given: dict[str, str]) -> None:
        namespace, _, name = name.rpartition(" ")
        if namespace not in ("", NAMESPACE) or name not in _CHILDREN.get(self._open[-1], ()):
            where = f"<{self._open[-1]}>" if self._open[-1] else "the document"
            raise BadDocument(f"{where} has an element that the Native DICOM Model does not have there")
        self._open.append(name)
        self._text = []
        if name in ("Value", "PersonName", "Item"):
            self._numbers.append(self._numbered(name, given))
        if name in ("NativeDicomModel", "Item"):
            self._datasets.append([])
            if len(self._datasets) > MAX_DEPTH + 1:
                raise BadDocument("sequences are nested deeper than this server reads")
        elif name == "DicomAttribute":
            self._attributes.append(_named(given))
        elif name == "PersonName":
            self._name = {}
        elif name in _GROUPS:
            self._components = {}
        elif name in ("InlineBinary", "BulkData"):
            self._only_content()
            if name == "BulkData":
                if "uri" not in given:
                    raise _flaw(self._attributes[-1], "has a <BulkData> without a uri")
                self._attributes[-1].content["BulkDataURI"] = given["uri"]

    def data(self, text: str) -> None:
        if self._open[-1] in _TEXTS:
            self._text.append(text)
        elif not text.isspace():
            raise BadDocument(f"<{self._open[-1]}> has text, where only elements belong")

    def end(self, _: str) -> None:
        name, text = self._open.pop(), "".join(self._text)
        self._text = []
        if name == "Value":
            one = self._attributes[-1]
            one.values[self._numbers.pop()] = _value(one.vr, text)
        elif name == "InlineBinary":
            self._attributes[-1].content[name] = "".join(text.split())
        elif name in _COMPONENTS:
            if name in self._components:
                raise _flaw(self._attributes[-1], f"has two <{name}> in a group of a name")
            self._components[name] = text
        elif name in _GROUPS:
            if name in self._name:
                raise _flaw(self._attributes[-1], f"has two <{name}> in a name")
            self._name[name] = "^".join(self._components.get(part, "") for part in _COMPONENTS).rstrip("^")
        elif name == "PersonName":
            filled = {group: self._name[group] for group in _GROUPS if self._name.get(group)}
            self._attributes[-1].values[self._numbers.pop()] = filled or None
        elif name == "Item":
            self._attributes[-1].values[self._numbers.pop()] = _dataset(self._datasets.pop())
        elif name == "DicomAttribute":
            one = self._attributes.pop()
            self._left_out += max(one.values, default=0) - len(one.values)
            if self._left_out > MAX_LEFT_OUT:
                raise _flaw(one, "leaves out more values than this server fills in")
            self._datasets[-1].append(one)
        elif name == "NativeDicomModel":
            self.dataset = _dataset(self._datasets.pop())

    def _numbered(self, name: str, given: dict[str, str]) -> int:
        """The number of a value, which is one of its attribute's alone."""
        one = self._attributes[-1]
        if name != {"PN": "PersonName", "SQ": "Item"}.get(one.vr, "Value") or one.content:
            raise _flaw(one, f"has a <{name}> that its VR or what else it has does not allow")
        written = _number(given.get("number", ""))
        number = int(written[0]) if written else 0
        if not number or number in one.values:
            raise _flaw(one, f"has a <{name}> whose number is not a new one from 1 on")
        return number

    def _only_content(self) -> None:
        one = self._attributes[-1]
        if one.values or one.content:
            raise _flaw(one, "must have values, or one <InlineBinary>, or one <BulkData>")


def _named(given: dict[str, str]) -> _Attribute:
    tag = _tag(given.get("tag", ""))
    if tag is None:
        raise BadDocument("the tag of a <DicomAttribute> must be eight hexadecimal digits")
    number = int(tag[0], 16)
    row = attribute(number)
    vr = given.get("vr", row.vr if row else "")
    one = _Attribute(number, vr, None)
    if vr not in VRS:
        raise _flaw(one, "has no VR that DICOM knows")
    creator = given.get("privateCreator", "").strip()
    if creator:
        if not is_private(number):
            raise _flaw(one, "has a privateCreator, but is not private")
        one.creator = creator
    return one


def _dataset(attributes: list[_Attribute]) -> Dataset:
    """The dataset of some attributes, the private ones in blocks of their creators."""
    found: Dataset = {}
    for one in attributes:
        if one.creator is None:
            _add(found, f"{one.tag:08X}", one)
    blocks = _reserved(found)
    taken = {(int(key[:4], 16), int(key[6:] if key[4:6] == "00" else key[4:6], 16)) for key in found}
    for one in attributes:
        if one.creator is not None:
            group = one.tag >> 16
            if (group, one.creator) not in blocks:
                block = blocks[group, one.creator] = _free_block(taken, one)
                taken.add(block)
                found[f"{group:04X}00{block[1]:02X}"] = {"vr": "LO", "Value": [one.creator]}
            _add(found, f"{group:04X}{blocks[group, one.creator][1]:02X}{one.tag & 0xFF:02X}", one)
    return dict(sorted(found.items()))


def _free_block(taken: Container[tuple[int, int]], one: _Attribute) -> tuple[int, int]:
    group, own = one.tag >> 16, one.tag >> 8 & 0xFF
    for number in (*((own,) if own >= 0x10 else ()), *range(0x10, 0x100)):
        if (group, number) not in taken:
            return group, number
    raise _flaw(one, "has a privateCreator for whom its group has no block left")


def _add(found: Dataset, key: str, one: _Attribute) -> None:
    if key in found:
        raise _flaw(one, "appears twice")
    found[key] = {"vr": one.vr, **one.content}
    if one.values:
        missing: Dataset | None = {} if one.vr == "SQ" else None
        found[key]["Value"] = [one.values.get(number, missing) for number in range(1, max(one.values) + 1)]


def _value(vr: str, text: str) -> float | str | None:
    """A value as the DICOM JSON Model has it."""
    bare = text.strip()
    if vr in _INTEGERS and _integer(bare):
        return int(bare) if abs(int(bare)) <= _EXACT else str(int(bare))
    if vr in ("FL", "FD"):
        if bare.lower().lstrip("+-") in _INFINITE:
            return ("-" if bare[0] == "-" else "") + _INFINITE[bare.lower().lstrip("+-")]
        return _plain_number(bare) if _decimal(bare) else text or None
    if (_decimal if vr == "DS" else _integer)(bare) and vr in ("DS", "IS"):
        number = _plain_number(bare)
        return number if _text(vr, number) == text else text
    return text or None


def _plain_number(text: str) -> float | str:
    """The number of a decimal; text where it has too many digits or is too large."""
    number = float(text)
    if _integer(text) and abs(int(text)) <= _EXACT:
        return int(text)
    return number if abs(number) != float("inf") else text


def _flaw(one: _Attribute, rule: str) -> BadDocument:
    return BadDocument(f"the attribute '{display_tag(one.tag)}' {rule}")
