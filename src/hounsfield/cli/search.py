"""QIDO-RS (PS3.18 §10.6) for the commands: one search, and the list of all instances of a study or series."""

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from hounsfield.cli.connection import Answer, Connection, Patience
from hounsfield.dicom import uid
from hounsfield.errors import HounsfieldError

PAGE: Final = 200
"""Instances asked for at once: the most the reference server allows (query.md §2)."""

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
