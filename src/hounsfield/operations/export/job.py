"""Working exports off (operations.md §3, Execution).

An operation has as many parts as batches may be copied at a time, and its batches of identifiers are dealt out to
them in turn. A step copies a page of instances; it may be done twice, since it writes the same files again. Only lines
of the log repeat then. Where a step begins is said by identifiers, not by numbers, so that neither a new version of an
instance nor another instance beside it makes it skip any.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from hounsfield import faults
from hounsfield.archive.archive import Archive
from hounsfield.errors import StoreUnavailable
from hounsfield.index import instances
from hounsfield.index.instances import StoredInstance
from hounsfield.operations.export import formats, nifti
from hounsfield.operations.export.destinations import Destination, DestinationRefused
from hounsfield.operations.export.formats import sentence
from hounsfield.operations.export.request import KIND, ExportRequest, Format, from_arguments, path_of
from hounsfield.operations.export.sources import Sources, deidentifier_of
from hounsfield.operations.job import Job, Operation, Part, Plan, Retry, Step
from hounsfield.security.sealing import Seal

PAGE_INSTANCES = 64
"""Of the first step. Each further one takes twice as many, up to LARGEST_PAGE: a short export shows early how far it
is, and a long one does not stop for a commit again and again."""
LARGEST_PAGE = 256
PAGE_BYTES = 256 << 20
"""A page ends with the file that reaches this: what a crash has done again stays small."""
AT_A_TIME = 8
"""Files of a page that are copied at the same time: while some wait for the destination, others are read."""
SOURCE_PAUSES = (1.0, 4.0)
"""Seconds before a file is read again when our own store does not answer."""
STEP_SECONDS = 24 * 3600.0
"""A zip file of a large study through a thin line is one step."""
RETRY = Retry(attempts=4, first_seconds=2.0, factor=6.0)

Cursor = tuple[int, str, str]
"""Which identifier of the part, and behind which series and instance of it."""


@dataclass(frozen=True, slots=True)
class Batching:
    """DicomFunctions:Export:Batching."""

    size: int = 100
    at_a_time: int = 2


OpenDestination = Callable[[ExportRequest, str, dict[str, str]], Destination]
"""The destination of a request, for the folder of an operation, with its secret."""


@dataclass(frozen=True, slots=True)
class Exporter:
    """What steps of exports need."""

    archive: Archive
    seal: Seal
    open_destination: OpenDestination
    work: Path
    """Directory for files under way."""
    batching: Batching = Batching()

    def job(self) -> Job:
        """The job that works exports off."""
        return Job(KIND, self.step, split=self.split, retry=RETRY, step_seconds=STEP_SECONDS)

    async def split(self, operation: Operation) -> Sequence[Plan]:
        """As many parts as batches may be under way, each with every so-manieth batch."""
        count = len(operation.arguments["identifiers"])
        batches = -(-count // self.batching.size)
        parts = min(batches, self.batching.at_a_time)
        size = self.batching.size
        plans = []
        for number in range(parts):
            ranges = [[start, min(start + size, count)] for start in range(number * size, count, parts * size)]
            plans.append(Plan(sum(end - start for start, end in ranges), {"ranges": ranges}))
        return plans

    async def step(self, operation: Operation, part: Part) -> Step:
        """Copy the page that begins at the cursor. Raises DestinationRefused, CannotUnseal."""
        limit = min(PAGE_INSTANCES << min(part.step, 8), LARGEST_PAGE)
        async with self._opened(operation, limit) as page:
            mine = [operation.arguments["identifiers"][slice(*each)] for each in part.arguments["ranges"]]
            identifiers = [identifier for batch in mine for identifier in batch]
            cursor: Cursor = (0, "", "") if part.cursor is None else msgspec.json.decode(part.cursor, type=Cursor)
            match page.request.format:
                case Format.FILES:
                    following = await page.copy(identifiers, cursor)
                case Format.ZIP:
                    following = await page.zip(identifiers, cursor)
                case Format.NIFTI:
                    following = await page.convert(identifiers, cursor)
            await page.destination.settle()
            faults.point("export: page written")
            if page.lines:
                await page.destination.append(f"{part.number:03d}-{part.step:06d}", b"".join(page.lines))
                faults.point("export: log written")
        before = part.results or {"exported": 0, "skipped": 0}
        results = {
            "exported": before["exported"] + page.exported,
            "skipped": before["skipped"] + len(page.lines),
        }
        is_last = following[0] >= len(identifiers)
        return Step(msgspec.json.encode(following).decode(), following[0] - cursor[0], is_last, results=results)

    @asynccontextmanager
    async def _opened(self, operation: Operation, limit: int) -> AsyncIterator["_Page"]:
        secret: dict[str, Any] = {"destination": {}, "key": ""}
        if operation.secret is not None:
            secret = msgspec.json.decode(await asyncio.to_thread(self.seal.unseal, operation.secret, operation.id))
        request = from_arguments(operation.arguments)
        destination = self.open_destination(request, operation.id, secret["destination"])
        try:
            deidentifier = deidentifier_of(request.deidentification, bytes.fromhex(secret["key"]))
            yield _Page(request, destination, Sources(self.archive, self.work, deidentifier), limit)
        finally:
            await destination.close()


@dataclass(slots=True)
class _Page:
    """One step: what it has copied, and what it has skipped."""

    request: ExportRequest
    destination: Destination
    sources: Sources
    limit: int
    """Instances that are copied in it."""
    exported: int = 0
    lines: list[bytes] = field(default_factory=list)

    async def copy(self, identifiers: Sequence[str], cursor: Cursor) -> Cursor:
        """Copy instances from ``cursor`` on, and say where the next page begins."""
        found: list[StoredInstance] = []
        index, *after = cursor
        room = PAGE_BYTES
        misses = 0
        while index < len(identifiers) and len(found) < self.limit and room > 0 and misses < self.limit:
            page = await self._page(identifiers[index], (after[0], after[1]), self.limit - len(found))
            if not page and after == ["", ""]:
                misses += 1
                self._not_found(identifiers[index])
            for instance in page:
                found.append(instance)
                after = [instance.series_uid, instance.sop_uid]
                room -= instance.file_size
                if room <= 0:
                    break
            else:
                if len(found) < self.limit:
                    index, after = index + 1, ["", ""]
        gate = asyncio.Semaphore(AT_A_TIME)
        try:
            async with asyncio.TaskGroup() as group:
                for instance in found:
                    await gate.acquire()
                    group.create_task(self._copied(instance)).add_done_callback(lambda _: gate.release())
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        return index, after[0], after[1]

    async def zip(self, identifiers: Sequence[str], cursor: Cursor) -> Cursor:
        """Write the zip file of one identifier."""
        index = cursor[0]
        identifier = identifiers[index]
        if not await self._page(identifier, ("", ""), 1):
            self._not_found(identifier)
            return index + 1, "", ""

        def skip(instance: StoredInstance, why: str) -> None:
            self._skipped("/".join(self.sources.place(instance)), why)

        try:
            self.exported += await formats.put_zip(
                self.destination, self.sources, identifier, lambda: self._pages(identifier), skip
            )
        except DestinationRefused:
            raise
        except Exception as error:
            self._skipped(self.sources.identifier(identifier), sentence(error))
        return index + 1, "", ""

    async def convert(self, identifiers: Sequence[str], cursor: Cursor) -> Cursor:
        """Write the volumes of one series."""
        index, after, _ = cursor
        identifier = identifiers[index]
        # All characters of a UID sort below this one.
        page = await self._page(identifier, (after, "~" if after else ""), 1)
        if not page:
            if not after:
                self._not_found(identifier)
            return index + 1, "", ""
        series = page[0]
        wanted = identifier if identifier.count("/") == 2 else f"{series.study_uid}/{series.series_uid}"
        study_uid, series_uid, _ = self.sources.place(series)
        try:
            self.exported += await nifti.put_volumes(
                self.destination, self.sources, f"results/{study_uid}/{series_uid}", lambda: self._pages(wanted)
            )
        except DestinationRefused:
            raise
        except Exception as error:
            self._skipped(f"{study_uid}/{series_uid}", sentence(error))
        faults.point("export: file written")
        return index, series.series_uid, ""

    async def _copied(self, instance: StoredInstance) -> None:
        try:
            await self._patiently(lambda: formats.put_file(self.destination, self.sources, instance))
        except DestinationRefused:
            raise
        except Exception as error:
            self._skipped("/".join(self.sources.place(instance)), sentence(error))
        else:
            self.exported += 1

    async def _patiently(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try again while our own object store does not answer."""
        for pause in SOURCE_PAUSES:
            try:
                return await attempt()
            except StoreUnavailable:
                await asyncio.sleep(pause)
        return await attempt()

    async def _page(self, identifier: str, after: tuple[str, str], limit: int) -> list[StoredInstance]:
        path = path_of(self.request.partition_key, identifier)
        return await instances.page(self.sources.archive.database, path, after, limit)

    async def _pages(self, identifier: str) -> AsyncIterator[Sequence[StoredInstance]]:
        after = ("", "")
        while page := await self._page(identifier, after, PAGE_INSTANCES):
            yield page
            after = (page[-1].series_uid, page[-1].sop_uid)

    def _not_found(self, identifier: str) -> None:
        level = ("study", "series", "instance")[identifier.count("/")]
        self._skipped(identifier, f"The specified {level} cannot be found.")

    def _skipped(self, identifier: str, why: str) -> None:
        line = {"timestamp": datetime.now(UTC).isoformat(), "identifier": identifier, "error": why}
        self.lines.append(msgspec.json.encode(line) + b"\n")
