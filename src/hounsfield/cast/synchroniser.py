"""Works off pages of the feed (dicom-cast.md §3, §5).

Chains go side by side, the runs of a chain one after the other, and every failing entry is filed alone. What waits for
another attempt holds up its own study and patient, not the pages after it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field

from hounsfield.cast import endpoint, further_resources, sources
from hounsfield.cast.creation import Creations
from hounsfield.cast.error_tables import RetryRequest
from hounsfield.cast.failure import EntryRefused, Faulted, Table, TryAgain, conflict, unexpected_refusal
from hounsfield.cast.feed import Action, FeedEntry, State
from hounsfield.cast.further_resources import Further
from hounsfield.cast.journal import Journal, invalid_rows, refusal_row
from hounsfield.cast.options import CastOptions
from hounsfield.cast.reference import Parameters
from hounsfield.cast.retry import (
    GONE,
    Availability,
    Patience,
    Throttle,
    budget_used_up,
    of_search,
    of_transaction,
    wait,
)
from hounsfield.cast.schedule import Chain, Schedule
from hounsfield.cast.state import CastState, Outcome
from hounsfield.cast.step import Run, Step, prepare
from hounsfield.cast.study_values import InstanceValues
from hounsfield.cast.task_links import releases
from hounsfield.cast.transaction import Found, Plan, check, needs_observations, patient_search, plan, study_search
from hounsfield.errors import StoreUnavailable
from hounsfield.fhir.target import FhirError, FhirTarget, Resource

logger = logging.getLogger(__name__)

UNEXPECTED_ATTEMPTS = 3
"""How often an entry that fails in an unforeseen way is tried (dicom-cast.md §5)."""
UNFINISHED_PAGES = 4
"""Pages' worth of entries that may be unfinished: so many may wait for another attempt before all others do."""
MERGED_ATTEMPTS = 3
"""Tries of a merged run that a living server answers with an error, before its entries are suspected one by one."""


class LeaseLost(Exception):
    """Another process may be the active worker now: stop writing."""


class Synchroniser:
    """Writes entries to one FHIR target. ``guard`` is called before every transaction and raises LeaseLost.

    ``creations`` is shared with whoever else writes to it.
    """

    def __init__(
        self,
        target: FhirTarget,
        state: CastState,
        journal: Journal,
        options: CastOptions,
        guard: Callable[[], None],
        creations: Creations | None = None,
    ) -> None:
        self._target = target
        self._state = state
        self._journal = journal
        self._options = options
        self._guard = guard
        self._creations = creations or Creations()
        self._availability = Availability(target, options.retry_timing)
        self._throttle = Throttle(options.retry_timing)
        self._slots = asyncio.Semaphore(options.concurrency)
        self._endpoint_lock = asyncio.Lock()

    @asynccontextmanager
    async def batch(self) -> AsyncIterator["Batch"]:
        """Pages that are worked off together. At its end everything is written or filed.

        Raises Faulted, LeaseLost, StoreUnavailable: then what is under way is given up, and the saved position stands
        before the first entry that is not finished.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                yield Batch(self, self._journal, tasks, self._options.page_size * UNFINISHED_PAGES)
        except BaseExceptionGroup as group:
            telling = _most_telling(group)
            raise telling from telling.__cause__

    async def process(self, entries: Sequence[FeedEntry], through: int) -> None:
        """Write or file every entry; the saved position is ``through`` when this returns. A batch of one page."""
        async with self.batch() as batch:
            await batch.add(entries, through)

    async def process_again(self, entries: Sequence[FeedEntry], request: RetryRequest) -> None:
        """Write, or file anew, entries that were skipped before; the position stays. In sequence order.

        A Delete of an instance that has been stored again since asks for nothing: the later entry says what holds.
        """
        await self._journal.begin_again(entries, request)
        outdated: list[FeedEntry] = []
        valid: list[FeedEntry] = []
        for entry in entries:
            replaced = entry.action is Action.DELETE and entry.state is not State.DELETED
            (outdated if replaced else valid).append(entry)
        if outdated:
            await self._journal.finished(outdated, Outcome(), synced=False)
        async with self.batch() as batch:
            batch.begin(await self.prepare(valid))

    async def prepare(self, entries: Sequence[FeedEntry]) -> list[Step]:
        """What there is to do. Entries that ask for nothing, or for something impossible, are finished here."""
        steps: list[Step] = []
        skipped: list[FeedEntry] = []
        for entry in entries:
            try:
                step = prepare(entry, self._options)
            except Exception as error:
                refusal = error if isinstance(error, EntryRefused) else unexpected_refusal(error)
                self._refused(entry, refusal)
                await self._journal.finished([entry], Outcome([refusal_row(entry, refusal)]), synced=False)
            else:
                if step is None:
                    skipped.append(entry)
                else:
                    steps.append(step)
        if skipped:
            await self._journal.finished(skipped, Outcome(), synced=False)
        return steps

    async def work_off(self, chain: Chain) -> None:
        """Write, or file, the runs of a chain in their order. Raises what :meth:`batch` does."""
        for run in chain.runs:
            await self._settle(run)

    async def _settle(self, run: Run) -> None:
        """Write a run, or find out which of its entries cannot be written and file those."""
        work = _Work(run, Patience(self._options.total_retry_duration.total_seconds()))
        refusal: EntryRefused | None = None
        unexpected = 0
        while refusal is None:
            began = asyncio.get_running_loop().time()
            again: TryAgain | None = None
            try:
                await self._write(work)
                return
            except EntryRefused as error:
                again = await self._stands_in(error)
                refusal = error if again is None else None
            except TryAgain as error:
                again = error
            except (Faulted, LeaseLost, StoreUnavailable):
                raise
            except Exception as error:
                unexpected += 1
                if len(work.run.steps) > 1 or unexpected == UNEXPECTED_ATTEMPTS:
                    refusal = unexpected_refusal(error)
                else:
                    await asyncio.sleep(self._options.retry_timing.delay(unexpected, None))
            if again is not None and not await self._patient(work, again, asyncio.get_running_loop().time() - began):
                if len(work.run.steps) > 1 or work.is_last_try:
                    refusal = budget_used_up(work.patience, again)
                elif await self._serves_others():
                    work.is_last_try = True  # the server may have recovered since the last one
                else:
                    work.patience.used = 0.0
        await self._give_up(work.run, refusal)

    async def _serves_others(self) -> bool:
        """Whether the FHIR server answers a search: only then an entry that fails is at fault itself (D6).

        One whose database is away, or that is busy for everybody, may well still tell what it can do.
        """
        with suppress(EntryRefused):
            try:
                await self._search("Endpoint", endpoint.search(self._options.root_url))
            except TryAgain:
                return False
        return True

    async def _stands_in(self, error: EntryRefused) -> TryAgain | None:
        """What a refusal is that does not come from a FHIR server, as one would tell what it can do; None for others.

        A proxy answers 404 while the server behind it is replaced, or 200 with a page that speaks of maintenance.
        """
        if error.table is not Table.FHIR_FAIL or await self._availability.check():
            return None
        public = "Something else answers in the FHIR server's place."
        return TryAgain("RetryableException", f"{public} {error.message}", public=public)

    async def _give_up(self, run: Run, error: EntryRefused) -> None:
        """File the one entry of a run; of several, look for the ones to blame."""
        if len(run.steps) > 1:
            for half in run.halves():
                await self._settle(half)
            return
        step = run.steps[0]
        self._refused(step, error)
        await self._journal.finished([step], Outcome([refusal_row(step, error)]), synced=False)

    async def _patient(self, work: "_Work", error: TryAgain, took: float) -> bool:
        """Wait for the next attempt; False if there should be none."""
        patience, timing = work.patience, self._options.retry_timing
        patience.number += 1
        if error.retry_after is not None:
            self._throttle.slow_down(error.retry_after)
        available = error.server_answers or await self._availability.check()
        if available:
            patience.used += took
            if len(work.run.steps) > 1 and not error.server_answers and patience.number >= MERGED_ATTEMPTS:
                return False
        delay = timing.delay(patience.number, error.retry_after)
        step = work.run.steps[0]
        logger.info(
            "Change feed entry %d waits %.1f s after attempt %d: %s", step.sequence, delay, patience.number, error.name
        )
        await self._journal.retrying(step, patience.number, delay, error)
        try:
            return await wait(patience, delay, timing, self._availability, available=available)
        finally:
            self._journal.resumed(step)

    def _refused(self, step: Step | FeedEntry, error: EntryRefused) -> None:
        self._journal.failed(error.name, error.public)
        logger.warning(
            "Change feed entry %d (study %s, series %s, instance %s) was not cast: %s, see %s",
            step.sequence,
            step.study_uid,
            step.series_uid,
            step.sop_uid,
            error.name,
            error.table.value,
        )

    async def _write(self, work: "_Work") -> None:
        """Plan and send until FHIR holds what the run says, then record it."""
        while True:
            async with self._slots:
                await self._throttle.clear()
                self._guard()
                intended = await self._plan(work)
                while intended.creates_shared and self._endpoint_lock.locked():
                    # Of many studies that arrive in an empty server, one makes the Endpoint; the others find it.
                    async with self._endpoint_lock:
                        pass
                    intended = await self._plan(work)
                async with self._endpoint_lock if intended.creates_shared else nullcontext():
                    if intended.refused:
                        await self._file(work, intended.refused)
                    await self._send(work, intended)
            if not work.run.steps:
                return
            if intended.remaining == 0:
                break
            if work.remaining is not None and intended.remaining >= work.remaining:
                raise conflict("The FHIR server does not find what was just written.")
            work.remaining = intended.remaining
        errors = [row for step in work.run.steps for row in invalid_rows(step)]
        outcome = Outcome(errors, work.study_uid, intended.updated, work.updated_before, has_study=intended.has_study)
        await self._journal.finished(work.run.steps, outcome, synced=True)

    async def _file(self, work: "_Work", refused: list[tuple[Step, EntryRefused]]) -> None:
        """File entries of a run that are refused, before the rest is sent.

        Whether an entry is refused can depend on what follows it (a series gets its modality), so after a crash it
        must not be judged again.
        """
        for step, error in refused:
            self._refused(step, error)
        steps = [step for step, _ in refused]
        work.run = Run(tuple(step for step in work.run.steps if step not in steps))
        rows = [refusal_row(step, error) for step, error in refused]
        await self._journal.finished(steps, Outcome(rows), synced=False)

    async def _plan(self, work: "_Work") -> Plan:
        run = work.run

        async def nothing() -> list[Resource]:
            return []

        search = self._search
        who = patient_search(run)
        study = study_search(run.study_uid)
        patients, endpoints, studies, observations, updated = await asyncio.gather(
            search("Patient", who) if who else nothing(),
            search("Endpoint", endpoint.search(self._options.root_url)) if who else nothing(),
            search("ImagingStudy", study),
            search("Observation", study) if needs_observations(run) else nothing(),
            self._state.updated_instances(run.study_uid),
        )
        work.updated_before = updated
        if not who and any(sources.depends_on_endpoint(study, self._options.root_url) for study in studies):
            endpoints = await search("Endpoint", endpoint.search(self._options.root_url))
        known = _one(studies)
        further = Further()
        if further_resources.wanted(known, is_extended=self._options.extended_mapping):
            further = await further_resources.look_up(search, run.steps, study)
        found = Found(_one(patients), _one(endpoints), known, observations, further, updated)
        return plan(run, found, self._options)

    async def _search(self, resource_type: str, parameters: Parameters) -> list[Resource]:
        try:
            matches = await self._target.search(resource_type, parameters)
        except FhirError as error:
            raise of_search(error) from error
        return [match.resource for match in matches if match.mode == "match"]

    async def _send(self, work: "_Work", intended: Plan) -> None:
        if not intended.written:
            return

        async def is_linked() -> bool:
            return self._options.sync_workitems or await self._state.is_linked(work.study_uid)

        for one in (*await releases(intended.written, self._search, is_linked), intended):
            self._guard()
            try:
                async with self._creations.alone(one.written):
                    answer = await self._target.transaction(one.bundle)
            except FhirError as error:
                methods = {written.method for written in one.written}
                # Of what is to be changed, a fresh search tells: what says that it is gone once more means something
                # else.
                updates = "PUT" in methods and not work.was_gone
                work.was_gone |= updates and error.status in GONE
                raise of_transaction(error, may_be_gone=updates or "DELETE" in methods) from error
            check(one, answer)


class Batch:
    """Pages under way: :meth:`Synchroniser.batch`. ``room`` entries may be unfinished before more are taken."""

    def __init__(self, synchroniser: Synchroniser, journal: Journal, tasks: asyncio.TaskGroup, room: int) -> None:
        self._synchroniser = synchroniser
        self._journal = journal
        self._tasks = tasks
        self._room = room
        self._schedule = Schedule()
        self._unfinished = 0
        self._moved = asyncio.Event()

    @property
    def is_done(self) -> bool:
        """Whether every entry is finished."""
        return not self._unfinished

    @property
    def has_room(self) -> bool:
        """Whether another page may be added."""
        return self._unfinished < self._room

    async def add(self, entries: Sequence[FeedEntry], through: int) -> None:
        """Begin with a page: ``entries`` in sequence order, all after those of the page before.

        Returns before they are written. The saved position reaches ``through`` when all up to there are.
        """
        self.begin(await self._synchroniser.prepare(await self._journal.begin(entries, through)))

    def begin(self, steps: Sequence[Step]) -> None:
        """Begin with steps that follow those there are."""
        self._unfinished += len(steps)
        self._start(self._schedule.add(steps))

    async def wait(self, seconds: float) -> None:
        """Until every entry is finished, or there is room where there was none; at most ``seconds``."""
        had_room = self.has_room
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.is_done and (had_room or not self.has_room):
                    self._moved.clear()
                    await self._moved.wait()

    def _start(self, chains: Sequence[Chain]) -> None:
        for chain in chains:
            self._tasks.create_task(self._work_off(chain))

    async def _work_off(self, chain: Chain) -> None:
        await self._synchroniser.work_off(chain)
        self._unfinished -= sum(len(run.steps) for run in chain.runs)
        self._start(self._schedule.end(chain))
        self._moved.set()


@dataclass(slots=True)
class _Work:
    """A run under way: what is left of it, how often it was tried, and what was known before."""

    run: Run
    patience: Patience
    remaining: int | None = None
    was_gone: bool = False
    """A transaction was refused because something it was to change is not there."""
    is_last_try: bool = False
    """The budget is used up, and the FHIR server was seen to serve others."""
    updated_before: Mapping[str, InstanceValues] = field(default_factory=dict)
    study_uid: str = field(init=False)

    def __post_init__(self) -> None:
        self.study_uid = self.run.study_uid


def _one(found: list[Resource]) -> Resource | None:
    if len(found) > 1:
        resource_type = found[0].get("resourceType")
        raise EntryRefused(
            Table.FHIR_FAIL,
            "MultipleMatchingResourcesException",
            f"Multiple '{resource_type}' matching the search criteria found.",
        )
    return found[0] if found else None


def _most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception to go on with: a lost lease, else a fault, else whatever came first."""
    found = list(group.exceptions)
    found.sort(key=lambda error: (not isinstance(error, LeaseLost), not isinstance(error, Faulted)))
    return found[0]
