"""What the worker tells the world while it works: position, current entry, state, newest failure, error rows."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from hounsfield.cast.error_tables import ErrorRow, RetryRequest, now
from hounsfield.cast.failure import EntryRefused, Faulted, Table, TryAgain
from hounsfield.cast.feed import FeedEntry
from hounsfield.cast.pace import Pace
from hounsfield.cast.state import Activity, Attempt, CastState, LastError, Outcome, Progress
from hounsfield.cast.step import Step, Upsert


def refusal_row(step: Step | FeedEntry, error: EntryRefused) -> ErrorRow:
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


class Journal:
    """One worker's diary in the tables of cast. Not shared between event loops."""

    def __init__(self, state: CastState, fhir_endpoint: str, dicom_web_endpoint: str) -> None:
        self._state = state
        self._endpoints = (fhir_endpoint, dicom_web_endpoint)
        self._entries: Sequence[Step | FeedEntry] = ()
        self._next = 0
        self._finished: set[int] = set()
        self._waiting: dict[int, Attempt] = {}
        self._position = 0
        self._outcomes: list[Outcome] = []
        self._saving = asyncio.Lock()
        self._resting = "idle"
        self._last_error: LastError | None = None
        self._table_store_error: LastError | None = None
        self._pace = Pace()
        self._request: RetryRequest | None = None
        self._tried: set[int] = set()

    async def resume(self) -> int:
        """Take up what is saved; the position."""
        progress = await self._state.progress()
        self._position, self._finished = progress.position, set(progress.finished)
        self._outcomes.clear()
        return progress.position

    async def begin(self, entries: Sequence[FeedEntry]) -> list[FeedEntry]:
        """A page is going to be worked off; its entries that are not finished already."""
        self._entries, self._next, self._request = entries, 0, None
        self._waiting.clear()
        await self._state.report(self._activity())
        return [entry for entry in entries if entry.sequence not in self._finished]

    async def begin_again(self, entries: Sequence[FeedEntry], request: RetryRequest) -> None:
        """Entries that were skipped are going to be tried again; the position stays where it is."""
        self._entries, self._next, self._request = entries, 0, request
        self._tried.clear()
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
        await self._save()

    def _move(self) -> None:
        done = self._finished if self._request is None else self._tried
        while self._next < len(self._entries) and self._entries[self._next].sequence in done:
            if self._request is None:
                self._position = self._entries[self._next].sequence
                self._finished.discard(self._position)
            self._next += 1

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

    async def end(self, position: int) -> None:
        """All entries of the page are finished, and there are no others up to ``position``."""
        self._entries = ()
        if position != self._position:
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

    async def faulted(self, error: Faulted) -> None:
        """Nothing goes on until somebody changes something."""
        self.failed(error.name, error.message)
        await self.rest("faulted")

    async def rest(self, state: str) -> None:
        """No entry is being worked on."""
        self._entries, self._resting = (), state
        self._waiting.clear()
        await self._state.report(self._activity())

    async def beat(self) -> None:
        """Say that the worker lives."""
        await self._state.report(self._activity())

    def _activity(self) -> Activity:
        current, state = None, self._resting
        if self._entries:
            state = "retrying" if self._waiting else "running"
            if self._waiting:
                current = self._waiting[min(self._waiting)]
            elif self._next < len(self._entries):
                current = _attempt(self._entries[self._next])
        rate = self._pace.rate()
        return Activity(state, *self._endpoints, current, self._last_error, rate, self._table_store_error)


def _attempt(step: Step | FeedEntry, number: int = 1, next_date: int | None = None) -> Attempt:
    return Attempt(step.sequence, step.study_uid, step.series_uid, step.sop_uid, number, next_date)
