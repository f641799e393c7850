"""Reading single values out of DICOM JSON (PS3.18 annex F) the way the FHIR mapping wants them (dicom-cast.md §6).

A tag that is absent, empty, multi-valued or not what its VR promises counts as absent: None. So does a text with
control characters (PS3.5 §6.1.3), which no FHIR server takes: an entry must not fail for a description.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_UNSIGNED_INT = 2**31 - 1
"""The largest FHIR unsignedInt."""
_PADDING = " \0"
_CONTROL = re.compile("[\0-\x08\x0b\x0e-\x1f]")
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


class Values:
    """One dataset (or sequence item) in DICOM JSON."""

    __slots__ = ("_dataset",)

    def __init__(self, dataset: Mapping[str, Any]) -> None:
        self._dataset = dataset

    def all(self, tag: str) -> list[Any]:
        """Everything in the attribute ``tag`` (eight hexadecimal digits), as JSON has it; empty if absent."""
        element = self._dataset.get(tag)
        found = element.get("Value") if isinstance(element, Mapping) else None
        return found if isinstance(found, list) else []

    def _single(self, tag: str) -> Any:
        found = self.all(tag)
        return found[0] if len(found) == 1 else None

    def text(self, tag: str) -> str | None:
        """The one string, without trailing padding; None if nothing but white space is left."""
        found = self._single(tag)
        if not isinstance(found, str):
            return None
        # The one control character of long texts that FHIR does not know: a new page is a new line.
        found = found.rstrip(_PADDING).replace("\f", "\n")
        return found if found.strip() and not _CONTROL.search(found) else None

    def code(self, tag: str) -> str | None:
        """The one string, for VRs whose leading spaces mean nothing either (CS, DA, TM, UI, SH as a code).

        White space inside is one space, as in a FHIR code.
        """
        found = self.text(tag)
        return None if found is None else " ".join(found.split())

    def codes(self, tag: str) -> list[str]:
        """All strings of a CS, padding removed; for the few tags where several values are not the same as none."""
        return [text.strip(_PADDING) for text in self.all(tag) if isinstance(text, str)]

    def person_name(self, tag: str) -> str | None:
        """The alphabetic group of the one PN value, padding removed."""
        return _name_groups(self._single(tag))[0] or None

    def person_names(self, tag: str) -> list[str]:
        """The alphabetic groups of all PN values that have one, padding removed."""
        return [name for value in self.all(tag) if (name := _name_groups(value)[0])]

    def further_name_groups(self, tag: str) -> tuple[str, str]:
        """The ideographic and phonetic groups of the one PN value, padding removed; empty where there is none."""
        _, ideographic, phonetic = _name_groups(self._single(tag))
        return ideographic, phonetic

    def unsigned(self, tag: str) -> int | None:
        """The one IS value (a JSON number or string) where it fits FHIR's unsignedInt."""
        found = self._single(tag)
        try:
            number = int(found.strip(_PADDING)) if isinstance(found, str) else found
        except ValueError:
            return None
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if not isinstance(number, int) or isinstance(number, bool):
            return None
        return number if 0 <= number <= MAX_UNSIGNED_INT else None

    def decimal(self, tag: str) -> int | float | None:
        """The one DS value (a JSON number or string), finite."""
        found = self._single(tag)
        try:
            number = float(found.strip(_PADDING)) if isinstance(found, str) else found
        except ValueError:
            return None
        if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number):
            return None
        return number

    def items(self, tag: str) -> Iterator["Values"]:
        """The items of a sequence, in order."""
        for item in self.all(tag):
            if isinstance(item, Mapping):
                yield Values(item)

    def first_item(self, tag: str) -> "Values | None":
        """The first item of a sequence, or None."""
        return next(self.items(tag), None)


def _name_groups(value: Any) -> tuple[str, str, str]:
    """The three groups of a PN value. Older writers of DICOM JSON leave all of them in the first."""
    groups = [value.get(name) for name in _GROUPS] if isinstance(value, Mapping) else [value]
    texts = [group if isinstance(group, str) else "" for group in groups]
    if len(texts) == 1 or "=" in texts[0]:
        texts = [*texts[0].split("="), "", ""]
    first, second, third = (text.strip(_PADDING) for text in texts[:3])
    return ("", "", "") if _CONTROL.search(first + second + third) else (first, second, third)
