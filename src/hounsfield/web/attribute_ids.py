"""Attributes as clients name them: a keyword of PS3.6, or eight hexadecimal digits (query.md §2)."""

import re

from hounsfield.dicom import dictionary

_HEX = re.compile(r"[0-9A-Fa-f]{8}")


def tag_number(identifier: str) -> int | None:
    """The tag that a keyword or digits name; None where there is no such attribute. Any private tag passes."""
    number = int(identifier, 16) if _HEX.fullmatch(identifier) else dictionary.tag_of(identifier)
    if number is None or not (dictionary.attribute(number) or dictionary.is_private(number)):
        return None
    return number
