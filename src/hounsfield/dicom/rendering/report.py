"""Structured reports as lines, plain text and HTML (PS3.3 C.17.3, PS3.18 §8.7.4)."""

import html
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

from hounsfield.dicom.rendering.header import first_item, sequence, text, values_of

_VALUE_TYPE, _CONTENT = 0x0040A040, 0x0040A730
_CONCEPT_NAME, _CONCEPT_CODE = 0x0040A043, 0x0040A168
_MEASURED_VALUE, _NUMERIC_VALUE, _UNITS, _QUALIFIER = 0x0040A300, 0x0040A30A, 0x004008EA, 0x0040A301
_REFERENCED_SOP, _REFERENCED_INSTANCE, _FRAMES = 0x00081199, 0x00081155, 0x00081160
_MAX_DEPTH, _MAX_ITEMS = 40, 20_000
"""Of the content tree. Real reports have at most some ten levels and some thousand items."""
_PLAIN_VALUES = {
    "TEXT": 0x0040A160,
    "DATE": 0x0040A121,
    "TIME": 0x0040A122,
    "DATETIME": 0x0040A120,
    "UIDREF": 0x0040A124,
    "PNAME": 0x0040A123,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One content item: its depth in the tree, what it is called, and its value; containers have none."""

    level: int
    name: str
    value: str

    @property
    def text(self) -> str:
        """Name and value on one line."""
        return ": ".join(part for part in (self.name, self.value) if part)


def title_of(dataset: Dataset) -> str:
    """The document's title: what its root is called."""
    return _code(dataset, _CONCEPT_NAME) or "Report"


def head_lines(dataset: Dataset) -> list[Line]:
    """Whose report it is, and its state."""
    attributes = (
        ("Patient", 0x00100010),
        ("Patient ID", 0x00100020),
        ("Birth date", 0x00100030),
        ("Sex", 0x00100040),
        ("Study date", 0x00080020),
        ("Study", 0x00081030),
        ("Completion", 0x0040A491),
        ("Verification", 0x0040A493),
    )
    lines = []
    for name, tag in attributes:
        value = text(dataset, tag)
        if value:
            lines.append(Line(0, name, _name(value) if tag == 0x00100010 else value))
    return lines


def content_lines(dataset: Dataset) -> list[Line]:
    """The content tree in reading order, without its root."""
    lines: list[Line] = []
    for level, item in _items(dataset, 0):
        if len(lines) == _MAX_ITEMS:
            lines.append(Line(0, "…", ""))
            break
        line = Line(level, _code(item, _CONCEPT_NAME), _value(item))
        if line.text:
            lines.append(line)
    return lines


def _items(parent: Dataset, level: int) -> Iterator[tuple[int, Dataset]]:
    if level >= _MAX_DEPTH:
        return
    for item in sequence(parent, _CONTENT):
        yield level, item
        yield from _items(item, level + 1)


def _value(item: Dataset) -> str:
    kind = text(item, _VALUE_TYPE)
    if kind in _PLAIN_VALUES:
        value = text(item, _PLAIN_VALUES[kind])
        return _name(value) if kind == "PNAME" else value
    if kind == "CODE":
        return _code(item, _CONCEPT_CODE)
    if kind == "NUM":
        return _measured(item)
    if kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
        return _reference(item, kind)
    if kind in ("SCOORD", "SCOORD3D", "TCOORD"):
        shape = text(item, 0x00700023) or text(item, 0x0040A130)
        points = len(values_of(item, 0x00700022)) // (3 if kind == "SCOORD3D" else 2)
        return f"{shape} of {points} points" if points else shape
    return ""


def _measured(item: Dataset) -> str:
    measured = first_item(item, _MEASURED_VALUE)
    if measured is None:
        return _code(item, _QUALIFIER) or "no value"
    units = first_item(measured, _UNITS)
    unit = "" if units is None else text(units, 0x00080100)
    # A unit of 1 is what says that there is none.
    return " ".join(part for part in (text(measured, _NUMERIC_VALUE), "" if unit == "1" else unit) if part)


def _reference(item: Dataset, kind: str) -> str:
    referenced = first_item(item, _REFERENCED_SOP)
    if referenced is None:
        return kind.lower()
    frames = ", ".join(str(number) for number in values_of(referenced, _FRAMES))
    return f"{kind.lower()} {text(referenced, _REFERENCED_INSTANCE)}" + (f", frames {frames}" if frames else "")


def _code(item: Dataset, tag: int) -> str:
    code = first_item(item, tag)
    return "" if code is None else text(code, 0x00080104) or text(code, 0x00080100)


def _name(value: str) -> str:
    """A person name as it is read: the first group that is there, components by spaces."""
    group = next((group for group in value.split("=") if group.strip("^ ")), "")
    family, *given = group.split("^")
    return ", ".join(part for part in (family.strip(), " ".join(" ".join(given).split())) if part)


def plain_text(dataset: Dataset) -> str:
    """The report as text, two spaces a level."""
    title = title_of(dataset)
    head = [line.text for line in head_lines(dataset)]
    content = ["  " * line.level + line.text for line in content_lines(dataset)]
    return "\n".join([title, "=" * len(title), "", *head, "", *content, ""])


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="{charset}">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #1a1a1a; }}
table {{ border-collapse: collapse; margin-bottom: 1.5em; }}
th {{ text-align: left; font-weight: 600; padding-right: 1.5em; }}
ul {{ list-style: none; padding-left: 1.25em; border-left: 1px solid #ccc; }}
.value {{ white-space: pre-wrap; }}
</style>
</head>
<body>
<h1>{title}</h1>
<table>
{head}
</table>
{content}
</body>
</html>
"""


def html_page(dataset: Dataset, charset: str) -> str:
    """The report as one HTML page that loads nothing and runs nothing."""
    head = "\n".join(
        f"<tr><th>{html.escape(line.name)}</th><td>{html.escape(line.value)}</td></tr>" for line in head_lines(dataset)
    )
    title = html.escape(title_of(dataset))
    content = "\n".join(_list(content_lines(dataset)))
    return _PAGE.format(charset=html.escape(charset), title=title, head=head, content=content)


def _list(lines: list[Line]) -> Iterator[str]:
    depth = -1
    for line in lines:
        level = min(line.level, depth + 1)  # an item without name and value has no line, its children have
        if level > depth:
            yield "<ul>"
        else:
            yield "</li>" + "</ul></li>" * (depth - level)
        depth = level
        name, value = html.escape(line.name), html.escape(line.value)
        shown = f"<strong>{name}</strong>" if not value else f'{name}: <span class="value">{value}</span>'
        yield f"<li>{shown if name else value}"
    if depth >= 0:
        yield "</li></ul>" * (depth + 1)
