"""JSON content as block YAML, so that no YAML library is needed to serve it."""

import json
import re
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_$/][A-Za-z0-9_$/{}-]*")
_NOT_STRINGS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))


def to_yaml(doc: dict[str, Any]) -> str:
    """JSON content as block YAML, readable by any YAML parser."""
    return "".join(f"{line}\n" for line in _yaml(doc, ""))


def _yaml(value: Any, indent: str) -> Iterator[str]:
    """The lines of a mapping or sequence that is not empty."""
    entries = (
        ((f"{_scalar(key)}:", item) for key, item in value.items())
        if isinstance(value, dict)
        else (("-", item) for item in value)
    )
    for head, item in entries:
        if not isinstance(item, dict | list) or not item:
            yield f"{indent}{head} {_scalar(item)}"
        elif head == "-":
            first, *rest = _yaml(item, indent + "  ")
            yield f"{indent}- {first.lstrip()}"
            yield from rest
        else:
            yield f"{indent}{head}"
            yield from _yaml(item, indent + "  ")


def _scalar(value: Any) -> str:
    """A scalar or empty collection: bare where no parser can take it for something else, otherwise as JSON writes it,
    which YAML understands."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_STRINGS:
        return value
    return json.dumps(value, ensure_ascii=False)
