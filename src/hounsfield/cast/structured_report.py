"""The tree of an SR document in DICOM JSON: names, direct children, coded, measured, text values (PS3.3 C.17.3)."""

from collections.abc import Iterator
from dataclasses import dataclass

from hounsfield.cast.values import Values

CONCEPT_NAME_CODE_SEQUENCE = "0040A043"
CONTENT_SEQUENCE = "0040A730"
CONCEPT_CODE_SEQUENCE = "0040A168"
MEASURED_VALUE_SEQUENCE = "0040A300"
MEASUREMENT_UNITS_CODE_SEQUENCE = "004008EA"
NUMERIC_VALUE = "0040A30A"
TEXT_VALUE = "0040A160"
UID_VALUE = "0040A124"
CODE_VALUE = "00080100"
CODING_SCHEME_DESIGNATOR = "00080102"
CODE_MEANING = "00080104"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept. Concepts are the same when value and scheme are; the meaning is for people."""

    value: str
    scheme: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """A numeric value and the code value of its unit (UCUM)."""

    value: int | float
    unit: str


class Node:
    """One content item, or the document itself as its root."""

    __slots__ = ("_values", "children", "name")

    def __init__(self, values: Values) -> None:
        self._values = values
        self.name = _code(values.first_item(CONCEPT_NAME_CODE_SEQUENCE))
        self.children = [Node(item) for item in values.items(CONTENT_SEQUENCE)]

    def walk(self) -> Iterator["Node"]:
        """This node and all below it, parents before children, in document order."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))

    def child(self, name: Code) -> "Node | None":
        """The first direct child of that concept name."""
        return next((child for child in self.children if child.name == name), None)

    def text(self) -> str | None:
        """The value of a TEXT item."""
        return self._values.text(TEXT_VALUE)

    def uid(self) -> str | None:
        """The value of a UIDREF item."""
        return self._values.code(UID_VALUE)

    def code(self) -> Code | None:
        """The value of a CODE item."""
        return _code(self._values.first_item(CONCEPT_CODE_SEQUENCE))

    def meaning(self) -> str | None:
        """The meaning of a CODE item's value."""
        coded = self._values.first_item(CONCEPT_CODE_SEQUENCE)
        return None if coded is None else coded.text(CODE_MEANING)

    def measurement(self) -> Measurement | None:
        """The value of a NUM item; None without number or unit."""
        measured = self._values.first_item(MEASURED_VALUE_SEQUENCE)
        if measured is None:
            return None
        unit = _code(measured.first_item(MEASUREMENT_UNITS_CODE_SEQUENCE))
        value = measured.decimal(NUMERIC_VALUE)
        return None if value is None or unit is None else Measurement(value, unit.value)


def _code(item: Values | None) -> Code | None:
    if item is None:
        return None
    value, scheme = item.code(CODE_VALUE), item.code(CODING_SCHEME_DESIGNATOR)
    return None if value is None else Code(value, scheme or "")
