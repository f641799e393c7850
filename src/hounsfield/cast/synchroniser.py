"""Works off a page of the feed (dicom-cast.md §3, §5).

Chains go side by side, the runs of a chain one after the other, and every failing entry is filed alone.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from hounsfield.cast import endpoint
from hounsfield.cast.failure import EntryRefused, Faulted, Table, TryAgain, conflict
from hounsfield.cast.feed import FeedEntry
from hounsfield.cast.journal import Journal, invalid_rows, refusal_row
from hounsfield.cast.options import CastOptions
from hounsfield.cast.reference import Parameters
from hounsfield.cast.retry import Availability, Patience, of_search, of_transaction, wait
from hounsfield.cast.state import CastState, Outcome
from hounsfield.cast.step import Run, Step, chains, prepare
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

    async def process(self, entries: Sequence[FeedEntry], position: int, through: int) -> None:
        """Write or file every entry; the saved position is ``through`` when this returns.

        ``entries`` are in sequence order, all after ``position``. Raises Faulted, LeaseLost, StoreUnavailable: then
        the saved position stands before the first entry that is not finished.
        """
        await self._journal.begin(entries, position)
        steps = await self._prepare(entries)
        try:
            async with asyncio.TaskGroup() as tasks:
                for chain in chains(steps):
                    tasks.create_task(self._work_off(chain))
        except BaseExceptionGroup as group:
            raise _most_telling(group) from group
        await self._journal.end(through)

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
        patience = Patience(self._options.total_retry_duration.total_seconds())
        unexpected = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                written, found = await self._write(run)
            except EntryRefused as error:
                return await self._give_up(run, error)
            except TryAgain as error:
                took = asyncio.get_running_loop().time() - began
                if not await self._patient(run, patience, error, took):
                    return await self._give_up(run, _budget_used_up(patience, error))
            except (Faulted, LeaseLost, StoreUnavailable):
                raise
            except Exception as error:
                unexpected += 1
                if len(run.steps) > 1 or unexpected == UNEXPECTED_ATTEMPTS:
                    return await self._give_up(run, _unexpected(error))
                await asyncio.sleep(self._options.retry_timing.delay(unexpected, None))
            else:
                return await self._finish(run, written, found)

    async def _finish(self, run: Run, written: Plan, found: Found) -> None:
        refused = {step.sequence for step, _ in written.refused}
        errors = [refusal_row(step, error) for step, error in written.refused]
        for step in run.steps:
            if step.sequence not in refused:
                errors += invalid_rows(step)
        for step, error in written.refused:
            self._refused(step, error)
        outcome = Outcome(errors, run.study_uid, written.updated, found.updated)
        await self._journal.finished(run.steps, outcome, synced=len(refused) < len(run.steps))

    async def _give_up(self, run: Run, error: EntryRefused) -> None:
        """File the one entry of a run; of several, look for the ones to blame."""
        if len(run.steps) > 1:
            for half in run.halves():
                await self._settle(half)
            return
        step = run.steps[0]
        self._refused(step, error)
        await self._journal.finished([step], Outcome([refusal_row(step, error)]), synced=False)

    async def _patient(self, run: Run, patience: Patience, error: TryAgain, took: float) -> bool:
        """Wait for the next attempt; False if there should be none."""
        patience.number += 1
        available = error.server_answers or await self._availability.check()
        if available:
            patience.used += took
            if len(run.steps) > 1 and not error.server_answers and patience.number >= MERGED_ATTEMPTS:
                return False
        timing = self._options.retry_timing
        delay = timing.delay(patience.number, error.retry_after)
        step = run.steps[0]
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

    async def _write(self, run: Run) -> tuple[Plan, Found]:
        """Plan and send until FHIR holds what the run says; the last plan, and what the first one knew."""
        first: Found | None = None
        left: int | None = None
        while True:
            async with self._slots:
                self._guard()
                found, intended = await self._plan(run)
                if intended.creates_endpoint:
                    # Of many studies that arrive in an empty server, one makes the Endpoint; the others find it.
                    is_another_making_it = self._endpoint_lock.locked()
                    async with self._endpoint_lock:
                        if is_another_making_it:
                            found, intended = await self._plan(run)
                        await self._send(intended)
                else:
                    await self._send(intended)
            first = first or found
            if intended.remaining == 0:
                return intended, first
            if left is not None and intended.remaining >= left:
                raise conflict("The FHIR server does not find what was just written.")
            left = intended.remaining

    async def _plan(self, run: Run) -> tuple[Found, Plan]:
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
        found = Found(_one(patients), _one(endpoints), _one(studies), observations, updated)
        return found, plan(run, found, self._options)

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
