"""The change feed of a DICOM server over HTTP: v1 of the reference's API (change-feed.md; dicom-cast.md §2)."""

import logging
import re
from asyncio import sleep
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from hounsfield.cast.feed import (
    DEFAULT_PARTITION,
    Action,
    FeedAway,
    FeedEntry,
    FeedPage,
    FeedRefused,
    FeedUnavailable,
    FeedUnreadable,
    State,
)
from hounsfield.security.access_tokens import BearerAuth, TokenRefused, TokenUnavailable
from hounsfield.security.retry_after import retry_after

logger = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0)
"""Pauses after 5xx, 408, 429 and lost connections, the reference's; longer ones where the server asks for them."""
LONGEST_RETRY_SECONDS = 60.0
"""The cap of what a server may ask for (dicom-cast.md, D1)."""
_TRANSIENT = (408, 429)
MAX_WINDOW = 100
"""The widest window the reference's v1 change feed answers (change-feed.md)."""
FIRST_WINDOW = 10
"""Entries asked for before anything is known of their size; what the reference always asks for."""
PAGE_BYTES = 16 * 1024 * 1024
"""A page ends early when its metadata grow beyond this, and windows are chosen so that one alone hardly does."""
TIMEOUT_SECONDS = 100.0
"""The default of the reference's HTTP client."""
_REFUSALS = {
    401: "It wants a token that is for it: see DicomWeb:Authentication.",
    403: "Who we are signed in as (DicomWeb:Authentication) may not read the change feed.",
}
_TAG = re.compile("[0-9A-Fa-f]{8}")
_ACTIONS = {action.value.lower(): action for action in Action}
_STATES = {state.value.lower(): state for state in State}


class HttpFeedReader:
    """See :class:`~hounsfield.cast.feed.FeedReader`. ``endpoint`` is the DICOM server's root, without a version.

    ``auth`` signs in every request; it is closed with the reader. ``transport`` replaces the network.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        auth: BearerAuth | None = None,
        ignore_json_parsing_errors: bool = False,
        retry_seconds: tuple[float, ...] = RETRY_SECONDS,
        timeout: float = TIMEOUT_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = f"{endpoint.rstrip('/')}/v1/changefeed"
        self._ignore = ignore_json_parsing_errors
        self._window_size = FIRST_WINDOW
        self._retry_seconds = retry_seconds
        self._auth = auth
        headers = {"Accept": "application/json"}
        self._client = httpx.AsyncClient(auth=auth, timeout=timeout, transport=transport, headers=headers)

    async def latest(self) -> int:
        body = await self._get(f"{self._url}/latest", {"includeMetadata": "false"})
        if body is None:
            return 0
        try:
            sequence = msgspec.json.decode(body)["sequence"]
            if isinstance(sequence, int) and sequence >= 0:
                return sequence
        except (ValueError, TypeError, KeyError):
            pass
        raise FeedUnreadable("The newest change feed entry of the DICOM server has no sequence.")

    async def page(self, after: int, limit: int) -> FeedPage:
        entries: list[FeedEntry] = []
        through, size = after, 0
        while through < after + limit and size < PAGE_BYTES:
            width = min(self._window_size, after + limit - through)
            try:
                found, length = await self._readable_window(through, width)
            except FeedUnavailable:
                if through > after:
                    break  # what has been read can be cast; who asks for the rest is told
                raise
            self._adapt(len(found), length)
            entries += found
            through, size = through + width, size + length
        return FeedPage(entries, through)

    def _adapt(self, found: int, length: int) -> None:
        """Choose the next window's width, so that it is a quarter of a page if its entries are like the last ones."""
        fitting = PAGE_BYTES * found // (4 * length) if found and length else 2 * self._window_size
        self._window_size = min(max(fitting, 1), MAX_WINDOW)

    async def _readable_window(self, after: int, width: int) -> tuple[list[FeedEntry], int]:
        try:
            return await self._window(after, width)
        except FeedUnreadable:
            if not self._ignore:
                raise
        return await self._readable(after, width), 0

    async def _readable(self, after: int, width: int) -> list[FeedEntry]:
        """A window one entry at a time, without those that are not valid."""
        entries: list[FeedEntry] = []
        for offset in range(after, after + width):
            try:
                entries += (await self._window(offset, 1))[0]
            except FeedUnreadable:
                logger.warning("Change feed entry %d is not readable and is skipped.", offset + 1)
        return entries

    async def close(self) -> None:
        await self._client.aclose()
        if self._auth is not None:
            await self._auth.close()

    async def _window(self, offset: int, limit: int) -> tuple[list[FeedEntry], int]:
        """The entries of one request, and how many bytes they were."""
        parameters = {"offset": str(offset), "limit": str(limit), "includeMetadata": "true"}
        body = await self._get(self._url, parameters)
        try:
            found = [] if body is None else msgspec.json.decode(body, type=list[dict[str, Any]])
            return [parse_entry(entry) for entry in found], len(body or b"")
        except (ValueError, RecursionError) as error:
            # Neither parser's message may be shown: it can quote the document.
            raise FeedUnreadable(
                f"The change feed of the DICOM server from {offset + 1} to {offset + limit} is not valid DICOM JSON."
            ) from error

    async def _get(self, url: str, parameters: Mapping[str, str]) -> bytes | None:
        """The body of a 200, None for a 204. Raises FeedAway, FeedRefused, FeedUnavailable."""
        for pause in (*self._retry_seconds, None):
            asked = 0.0
            try:
                response = await self._client.get(url, params=parameters)
            except TokenRefused as error:
                raise FeedRefused("FailToRetrieveTokenException", str(error)) from error
            except TokenUnavailable as error:
                problem = str(error)
            except httpx.TransportError as error:
                problem = f"The DICOM server does not answer ({type(error).__name__})."
            except httpx.HTTPError as error:
                raise FeedUnavailable(f"The DICOM server cannot be asked ({type(error).__name__}).") from error
            else:
                if response.status_code == 200:
                    return response.content
                if response.status_code == 204:
                    return None
                problem = f"The DICOM server answered with status {response.status_code}."
                if response.status_code in _REFUSALS:
                    advice = _REFUSALS[response.status_code]
                    raise FeedRefused("DicomWebException", f"{problem} {advice}", status=response.status_code)
                if response.status_code < 500 and response.status_code not in _TRANSIENT:
                    raise FeedUnavailable(problem)
                asked = retry_after(response.headers.get("Retry-After")) or 0.0
            if pause is not None:
                await sleep(max(pause, min(asked, LONGEST_RETRY_SECONDS)))
        raise FeedAway(problem)


def parse_entry(entry: Mapping[str, Any]) -> FeedEntry:
    """One entry as the API spells it. Raises ValueError for anything that is none."""
    sequence = entry.get("sequence")
    uids = [entry.get(name) for name in ("studyInstanceUid", "seriesInstanceUid", "sopInstanceUid")]
    action = _ACTIONS.get(str(entry.get("action")).lower())
    state = _STATES.get(str(entry.get("state")).lower())
    metadata = entry.get("metadata")
    study_uid, series_uid, sop_uid = (uid if isinstance(uid, str) else None for uid in uids)
    if not isinstance(sequence, int) or not study_uid or not series_uid or not sop_uid or not action or not state:
        raise ValueError("not a change feed entry")
    if metadata is not None:
        check_dataset(metadata)
    partition = str(entry.get("partitionName") or DEFAULT_PARTITION)
    return FeedEntry(sequence, study_uid, series_uid, sop_uid, action, state, partition, metadata)


def check_dataset(dataset: object) -> None:
    """Raises ValueError unless ``dataset`` has the form of DICOM JSON (PS3.18 F.2): tags, each with a VR."""
    if not isinstance(dataset, Mapping):
        raise ValueError("not a dataset")
    for tag, element in dataset.items():
        if not isinstance(element, Mapping) or _TAG.fullmatch(tag) is None:
            raise ValueError("not a DICOM JSON attribute")
        vr = element.get("vr")
        if not isinstance(vr, str) or len(vr) != 2 or not isinstance(element.get("Value", []), list):
            raise ValueError("not a DICOM JSON attribute")
        if vr == "SQ":
            for item in element.get("Value", []):
                check_dataset({} if item is None else item)
