"""Conditions of requests: If-None-Match (RFC 9110 §13.1.2)."""

import re
from collections.abc import Sequence

_LIST_ITEM = re.compile(r'\s*((?:W/)?"[^"]*"|[^,]*)\s*')


def matches(conditions: Sequence[str], etag: str) -> bool:
    """Whether If-None-Match names ``etag``: raw as sent, quoted, weak, in a list, or ``*`` (retrieve.md [H] 3)."""
    wanted = etag.removeprefix("W/").strip('"').lower()
    for condition in conditions:
        for item in _LIST_ITEM.findall(condition):
            tag = item.strip().removeprefix("W/").strip('"')
            if tag == "*" or tag.lower() == wanted:
                return True
    return False
