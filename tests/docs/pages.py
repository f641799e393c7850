"""The pages as tests read them: fenced blocks, tables, links, headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"(?:^<!-- (?P<mark>\w+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. ``mark`` is the word of the comment above it: ``tour``, ``prints`` or nothing."""

    mark: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks, in order."""
    found = _FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(block["mark"] or "", block["language"], block["text"]) for block in found]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """The targets of all links, in order."""
    return _LINK.findall(prose(page))


def code(page: Path) -> set[str]:
    """Everything set in backticks outside fenced blocks."""
    return set(_CODE.findall(prose(page)))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


def tables(page: Path) -> Iterator[list[dict[str, str]]]:
    """Every table as rows by heading."""
    lines: list[str] = []
    for line in [*prose(page).splitlines(), ""]:
        if line.startswith("|"):
            lines.append(line)
        elif lines:
            heads, _, *rows = [[cell.strip() for cell in _cells(line)] for line in lines]
            yield [dict(zip(heads, row, strict=True)) for row in rows]
            lines = []


def table(page: Path, *heads: str) -> list[dict[str, str]]:
    """The rows of all tables of ``page`` with exactly these headings; there must be some."""
    found = [row for rows in tables(page) for row in rows if tuple(row) == heads]
    assert found, f"{page.name} has no table with the headings {heads}"
    return found


def bare(cell: str) -> str:
    """A cell without backticks around it."""
    return cell.removeprefix("`").removesuffix("`")


def _cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line.strip())[1:-1]
