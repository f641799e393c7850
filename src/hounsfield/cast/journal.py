"""What the worker tells the world while it works: position, current entry, state, newest failure, error rows."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hounsfield.cast.error_tables import Entry, ErrorRow, RetryRequest, now
from hounsfield.cast.failure import EntryRefused, Faulted, Standstill, Table, TryAgain
from hounsfield.cast.feed import FeedEntry
from hounsfield.cast.pace import Pace
from hounsfield.cast.state import Activity, Attempt, CastState, LastError, Outcome, Progress
from hounsfield.cast.step import Step, Upsert


def refusal_row(step: Entry, error: EntryRefused) -> ErrorRow:
    """The row of an entry that was skipped; one row for an entry, however often a crash repeats it."""
    return ErrorRow(error.table, step, error.name, error.message, once=str(step.sequence))


def invalid_rows(step: Step) -> list[ErrorRow]:
    """The rows of values an entry was written without: once per sequence and tag."""
    if not isinstance(step, Upsert):
        return []
    return [
        ErrorRow(error.table, step, error.name, error.message, once=f"{step.sequence} {error.public}")
        for error in step.invalid
    ]


@dataclass(frozen=True, slots=True)
class _Place:
    """A number of the feed that the position passes when its entry is finished; at once where there is none."""

    sequence: int
    entry: Attempt | None


class Journal:
    """One worker's diary in the tables of cast. Not shared between event loops."""

    def __init__(self, state: CastState, fhir_endpoint: str, dicom_web_endpoint: str) -> None:
        self._state = state
        self._endpoints = (fhir_endpoint, dicom_web_endpoint)
        self._places: deque[_Place] = deque()
        self._finished: set[int] = set()
        self._waiting: dict[int, Attempt] = {}
        self._position = 0
        self._outcomes: list[Outcome] = []
        self._saving = asyncio.Lock()
        self._resting = "idle"
        self._last_error: LastError | None = None
        self._table_store_error: LastError | None = None
        self._workitem_error: LastError | None = None
        self._pace = Pace()
        self._request: RetryRequest | None = None
        self._tried: set[int] = set()

    async def resume(self) -> int:
        """Take up what is saved; the position."""
        progress = await self._state.progress()
        self._position, self._finished = progress.position, set(progress.finished)
        self._outcomes.clear()
        self._places.clear()
        return progress.position

    async def begin(self, entries: Sequence[FeedEntry], through: int) -> list[FeedEntry]:
        """A page is going to be worked off, maybe beside those before it; its entries that are not finished already.

        The saved position reaches ``through`` when these and all before them are finished.
        """
        self._request = None
        is_first = not self._places
        self._places.extend(_Place(entry.sequence, _attempt(entry)) for entry in entries)
        self._places.append(_Place(through, None))
        wanted = [entry for entry in entries if entry.sequence not in self._finished]
        before = self._position
        self._move()
        if self._position != before:
            self._outcomes.append(Outcome())
            await self._save()
        elif is_first:
            await self._state.report(self._activity())
        return wanted

    async def begin_again(self, entries: Sequence[FeedEntry], request: RetryRequest) -> None:
        """Entries that were skipped are going to be tried again; the position stays where it is."""
        self._places = deque(_Place(entry.sequence, _attempt(entry)) for entry in entries)
        self._request = request
        self._tried.clear()
        self._outcomes.clear()
        self._waiting.clear()
        await self._state.report(self._activity())

    async def finished(self, steps: Sequence[Step | FeedEntry], outcome: Outcome, *, synced: bool) -> None:
        """Entries are written or filed; the position passes them as soon as it has passed all before them.

        Of entries that are tried again, the rows that said why they were skipped go with the same commit.
        """
        sequences = [step.sequence for step in steps]
        if self._request is None:
            self._finished.update(sequences)
        else:
            self._tried.update(sequences)
            outcome = replace(outcome, tried_again=sequences, request=self._request)
        self._move()
        self._pace.add(len(sequences))
        if synced:
            self._last_error = None
        self._outcomes.append(outcome)
        # Of entries tried again, none is settled before those that have the last word about it are written as well.
        if self._request is None or not self._places:
            await self._save()

    def _move(self) -> None:
        done = self._finished if self._request is None else self._tried
        while self._places and (self._places[0].entry is None or self._places[0].sequence in done):
            place = self._places.popleft()
            if self._request is None:
                self._position = max(self._position, place.sequence)
                self._finished.discard(place.sequence)

    async def _save(self) -> None:
        """Save what is not saved yet. Those who come while a save is under way share the next."""
        async with self._saving:
            outcomes, self._outcomes = self._outcomes, []
            if outcomes:
                try:
                    progress = Progress(self._position, frozenset(self._finished))
                    await self._state.save(progress, outcomes, self._activity())
                except BaseException:
                    self._outcomes = outcomes + self._outcomes
                    raise

    async def take_over(self, position: int) -> None:
        """Begin after ``position`` instead."""
        self._position = position
        self._finished = {sequence for sequence in self._finished if sequence > position}
        self._outcomes.append(Outcome())
        await self._save()

    def failed(self, name: str, public: str) -> None:
        """Something went wrong that is filed elsewhere."""
        self._last_error = LastError(name, public, now())

    async def retrying(self, step: Step, number: int, delay: float, error: TryAgain) -> None:
        """``step`` (the first of its run) failed for the ``number``-th time and waits ``delay`` seconds."""
        self.failed(error.name, error.public)
        self._waiting[step.sequence] = _attempt(step, number + 1, now() + int(delay * 1_000_000))
        row = ErrorRow(Table.TRANSIENT_RETRY, step, error.name, error.message, retry_number=number)
        await self._state.retrying(row, self._activity())

    def resumed(self, step: Step) -> None:
        """``step`` waits no longer."""
        self._waiting.pop(step.sequence, None)

    async def unavailable(self, error: TryAgain) -> None:
        """The FHIR server does not answer before any entry was tried, or the DICOM server does not."""
        self.failed(error.name, error.public)
        await self.rest("retrying")

    def table_store(self, error: LastError | None) -> None:
        """How copying to the Azure tables goes."""
        self._table_store_error = error

    def workitems(self, error: LastError | None) -> None:
        """How casting workitems goes."""
        self._workitem_error = error

    async def faulted(self, error: Faulted, reason: Standstill) -> None:
        """Nothing goes on until somebody changes something."""
        self.failed(error.name, error.message)
        await self.rest("faulted", reason)

    async def rest(self, state: str, reason: Standstill | None = None) -> None:
        """No entry is being worked on; for a ``reason`` that is counted."""
        self._places.clear()
        self._resting = state
        self._waiting.clear()
        await self._state.report(self._activity(), reason)

    async def beat(self) -> None:
        """Say that the worker lives."""
        await self._state.report(self._activity())

    def _activity(self) -> Activity:
        current, state = None, self._resting
        if self._places:
            state = "retrying" if self._waiting else "running"
            current = self._waiting[min(self._waiting)] if self._waiting else self._places[0].entry
        rate = self._pace.rate()
        apart = (self._table_store_error, self._workitem_error)
        return Activity(state, *self._endpoints, current, self._last_error, rate, *apart)


def _attempt(step: Step | FeedEntry, number: int = 1, next_date: int | None = None) -> Attempt:
    """Without metadata: there may be thousands of entries under way."""
    return Attempt(step.sequence, step.study_uid, step.series_uid, step.sop_uid, number, next_date)
