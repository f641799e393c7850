"""Works off a page of the feed (dicom-cast.md §3, §5).

Chains go side by side, the runs of a chain one after the other, and every failing entry is filed alone.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from hounsfield.cast import endpoint
from hounsfield.cast.error_tables import RetryRequest
from hounsfield.cast.failure import EntryRefused, Faulted, Table, TryAgain, conflict
from hounsfield.cast.feed import Action, FeedEntry, State
from hounsfield.cast.journal import Journal, invalid_rows, refusal_row
from hounsfield.cast.options import CastOptions
from hounsfield.cast.reference import Parameters
from hounsfield.cast.retry import Availability, Patience, of_search, of_transaction, wait
from hounsfield.cast.state import CastState, Outcome
from hounsfield.cast.step import Run, Step, chains, prepare
from hounsfield.cast.study_values import InstanceValues
from hounsfield.cast.transaction import Found, Plan, check, needs_observations, patient_search, plan, study_search
from hounsfield.errors import StoreUnavailable
from hounsfield.fhir.target import FhirError, FhirTarget, Resource

logger = logging.getLogger(__name__)

UNEXPECTED_ATTEMPTS = 3
"""How often an entry that fails in an unforeseen way is tried (dicom-cast.md §5)."""
MERGED_ATTEMPTS = 3
"""Tries of a merged run that a living server answers with an error, before its entries are suspected one by one."""


class LeaseLost(Exception):
    """Another process may be the active worker now: stop writing."""


class Synchroniser:
    """Writes entries to one FHIR target. ``guard`` is called before every transaction and raises LeaseLost."""

    def __init__(
        self,
        target: FhirTarget,
        state: CastState,
        journal: Journal,
        options: CastOptions,
        guard: Callable[[], None],
    ) -> None:
        self._target = target
        self._state = state
        self._journal = journal
        self._options = options
        self._guard = guard
        self._availability = Availability(target, options.retry_timing)
        self._slots = asyncio.Semaphore(options.concurrency)
        self._endpoint_lock = asyncio.Lock()

    async def process(self, entries: Sequence[FeedEntry], through: int) -> None:
        """Write or file every entry; the saved position is ``through`` when this returns.

        ``entries`` are in sequence order, all after the journal's position. Raises Faulted, LeaseLost,
        StoreUnavailable: then the saved position stands before the first entry that is not finished.
        """
        await self._write_all(await self._journal.begin(entries))
        await self._journal.end(through)

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
        await self._write_all(valid)

    async def _write_all(self, entries: Sequence[FeedEntry]) -> None:
        steps = await self._prepare(entries)
        try:
            async with asyncio.TaskGroup() as tasks:
                for chain in chains(steps):
                    tasks.create_task(self._work_off(chain))
        except BaseExceptionGroup as group:
            raise _most_telling(group) from group

    async def _prepare(self, entries: Sequence[FeedEntry]) -> list[Step]:
        """What there is to do. Entries that ask for nothing, or for something impossible, are finished here."""
        steps: list[Step] = []
        skipped: list[FeedEntry] = []
        for entry in entries:
            try:
                step = prepare(entry, self._options)
            except Exception as error:
                refusal = error if isinstance(error, EntryRefused) else _unexpected(error)
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

    async def _work_off(self, chain: list[Run]) -> None:
        for run in chain:
            await self._settle(run)

    async def _settle(self, run: Run) -> None:
        """Write a run, or find out which of its entries cannot be written and file those."""
        work = _Work(run, Patience(self._options.total_retry_duration.total_seconds()))
        refusal: EntryRefused | None = None
        unexpected = 0
        while refusal is None:
            began = asyncio.get_running_loop().time()
            try:
                await self._write(work)
                return
            except EntryRefused as error:
                refusal = error
            except TryAgain as error:
                took = asyncio.get_running_loop().time() - began
                if not await self._patient(work, error, took):
                    refusal = _budget_used_up(work.patience, error)
            except (Faulted, LeaseLost, StoreUnavailable):
                raise
            except Exception as error:
                unexpected += 1
                if len(work.run.steps) > 1 or unexpected == UNEXPECTED_ATTEMPTS:
                    refusal = _unexpected(error)
                else:
                    await asyncio.sleep(self._options.retry_timing.delay(unexpected, None))
        await self._give_up(work.run, refusal)

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
                self._guard()
                intended = await self._plan(work)
                while intended.creates_endpoint and self._endpoint_lock.locked():
                    # Of many studies that arrive in an empty server, one makes the Endpoint; the others find it.
                    async with self._endpoint_lock:
                        pass
                    intended = await self._plan(work)
                async with self._endpoint_lock if intended.creates_endpoint else nullcontext():
                    if intended.refused:
                        await self._file(work, intended.refused)
                    await self._send(intended)
            if not work.run.steps:
                return
            if intended.remaining == 0:
                break
            if work.remaining is not None and intended.remaining >= work.remaining:
                raise conflict("The FHIR server does not find what was just written.")
            work.remaining = intended.remaining
        errors = [row for step in work.run.steps for row in invalid_rows(step)]
        outcome = Outcome(errors, work.study_uid, intended.updated, work.updated_before)
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
        found = Found(_one(patients), _one(endpoints), _one(studies), observations, updated)
        return plan(run, found, self._options)

    async def _search(self, resource_type: str, parameters: Parameters) -> list[Resource]:
        try:
            matches = await self._target.search(resource_type, parameters)
        except FhirError as error:
            raise of_search(error) from error
        return [match.resource for match in matches if match.mode == "match"]

    async def _send(self, intended: Plan) -> None:
        if not intended.written:
            return
        self._guard()
        try:
            answer = await self._target.transaction(intended.bundle)
        except FhirError as error:
            deletes = any(written.method == "DELETE" for written in intended.written)
            raise of_transaction(error, deletes=deletes) from error
        check(intended, answer)


@dataclass(slots=True)
class _Work:
    """A run under way: what is left of it, how often it was tried, and what was known before."""

    run: Run
    patience: Patience
    remaining: int | None = None
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


def _unexpected(error: Exception) -> EntryRefused:
    name = type(error).__name__
    return EntryRefused(Table.FHIR_FAIL, name, str(error), "Casting the entry failed unexpectedly.")


def _budget_used_up(patience: Patience, error: TryAgain) -> EntryRefused:
    message = f"The operation did not succeed in {patience.number} attempts within the time allowed; last:"
    return EntryRefused(
        Table.TRANSIENT_FAILURE, "TimeoutRejectedException", f"{message} {error.message}", f"{message} {error.public}"
    )


def _most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception to go on with: a lost lease, else a fault, else whatever came first."""
    found = list(group.exceptions)
    found.sort(key=lambda error: (not isinstance(error, LeaseLost), not isinstance(error, Faulted)))
    return found[0]
