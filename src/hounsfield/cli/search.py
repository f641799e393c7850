"""QIDO-RS (PS3.18 §10.6) for the commands: one search, and the list of all instances of a study or series."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from hounsfield.cli.connection import Answer, Connection, Patience
from hounsfield.dicom import uid
from hounsfield.errors import HounsfieldError

PAGE: Final = 200
"""Matches asked for at once: the most the reference server allows (query.md §2)."""

Match = dict[str, Any]
"""One result in the DICOM JSON model: tag → element."""


class AnswerNotDicomJson(HounsfieldError):
    """The server's answer to a search is not a DICOM JSON array."""


def search(
    connection: Connection, patience: Patience, resource: str, parameters: Sequence[tuple[str, str]]
) -> tuple[Answer, list[Match]]:
    """Runs one search, e.g. of ``/studies``; no matches for any status but 200. Raises AnswerNotDicomJson."""
    target = f"{resource}?{urlencode(parameters, quote_via=quote)}" if parameters else resource
    answer = patience.try_until_answered(lambda: connection.ask("GET", target, {"Accept": "application/dicom+json"}))
    if answer.status != 200:
        return answer, []
    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(match, dict) for match in found):
        raise AnswerNotDicomJson(
            f"{connection.server.url}{resource} did not answer with DICOM JSON. Is this a DICOMweb server's URL?"
        )
    return answer, found


_LINK: Final = re.compile(r'<([^>]*)>\s*;\s*rel="?next\b')


def pages(
    connection: Connection, patience: Patience, resource: str, parameters: Sequence[tuple[str, str]], begin: int = 0
) -> Iterator[tuple[Answer, list[Match]]]:
    """All matches of a search from the one at ``begin`` on, page by page; the last answer tells how it ended.

    By cursor where the server has them and ``begin`` is 0, so that nothing is missed or comes twice while others store;
    else by offset.
    """
    size = ("limit", str(PAGE))
    where = ("offset", str(begin)) if begin else ("cursor", "first")
    done = begin
    while True:
        answer, matches = search(connection, patience, resource, [*parameters, size, where])
        if answer.status == 400 and where == ("cursor", "first"):
            where = ("offset", "0")
            continue
        yield answer, matches
        done += len(matches)
        following = _cursor(answer)
        if following is not None:
            where = ("cursor", following)
        elif len(matches) < PAGE or (where[0] == "cursor" and where[1] != "first"):
            return
        else:
            # A full page without an address to go on: the end, or a server that ignores what it does not know.
            where = ("offset", str(done))


def _cursor(answer: Answer) -> str | None:
    """The cursor of the next page. Not its address: behind a proxy a server may take itself for somebody else."""
    link = _LINK.search(answer.headers.get("link", ""))
    if link is None:
        return None
    found = parse_qs(urlsplit(link[1]).query).get("cursor")
    return found[0] if found else None


def list_instances(
    connection: Connection, patience: Patience, study: str, series: str | None
) -> tuple[Answer, set[tuple[str, str]]]:
    """All (Series, SOP Instance UID) of a study or of one series, page by page.

    The answer is the last one: other than 200 and 204 it tells why there is no list. Goes on until a page brings
    nothing new, because servers cut pages at limits of their own.
    """
    resource = f"/studies/{study}" + (f"/series/{series}" if series else "") + "/instances"
    known: set[tuple[str, str]] = set()
    offset = 0
    while True:
        asked = [("limit", str(PAGE)), ("offset", str(offset))]
        answer, matches = search(connection, patience, resource, asked)
        offset += len(matches)
        before = len(known)
        known.update((series or _uid(match, "0020000E"), _uid(match, "00080018")) for match in matches)
        if len(known) == before:
            return answer, {pair for pair in known if all(pair)}


def _uid(match: Match, tag: str) -> str:
    element = match.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    value = uid.normalise(str(values[0])) if isinstance(values, list) and values else ""
    return value if uid.is_valid(value) else ""
