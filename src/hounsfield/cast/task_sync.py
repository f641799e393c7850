"""Keeps one Task in FHIR true to each workitem, beside the change feed (``DicomCast:Features:SyncWorkitems``).

The worklist says which workitems have changed (worklist.changes); what is written follows from what a workitem is now,
so changes that come quickly become one, and whatever a crash left undone is done again. Every page first asks FHIR for
the Tasks and only then the worklist for the workitems: whoever else writes a Task meanwhile has read the worklist at
the same time or later, and is found out by ``If-Match``. So an older state never replaces a newer one, with any number
of processes.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from hounsfield.cast import orders, patient, task, workitem
from hounsfield.cast.creation import Creations
from hounsfield.cast.error_tables import ErrorRow, WorkitemKey, now
from hounsfield.cast.failure import EntryRefused, Faulted, Table, TryAgain, fhir_refusal, unexpected_refusal
from hounsfield.cast.journal import Journal
from hounsfield.cast.options import CastOptions
from hounsfield.cast.orders import Orders
from hounsfield.cast.patient import PatientIdentity
from hounsfield.cast.reference import (
    Parameters,
    batches,
    escape,
    identifier_parameter,
    local_reference,
    new_name,
    study_identifier,
)
from hounsfield.cast.retry import Availability, Patience, Throttle, budget_used_up, of_search, of_transaction
from hounsfield.cast.state import CastState, LastError
from hounsfield.cast.synchroniser import UNEXPECTED_ATTEMPTS, LeaseLost
from hounsfield.cast.transaction import Plan, Written, check, create_entry, update_entry
from hounsfield.cast.workitem import TaskValues
from hounsfield.database.engine import Database, Transaction
from hounsfield.errors import StoreUnavailable
from hounsfield.fhir.target import FhirError, FhirTarget, Resource
from hounsfield.worklist import changes
from hounsfield.worklist.changes import Content, Waiting

logger = logging.getLogger(__name__)

PAGE = 50
"""Workitems that are looked at together: what they refer to is asked for in one search of each type."""
_LONGEST_FAULT = timedelta(seconds=60)


@dataclass(slots=True)
class _Delay:
    """A workitem that waits for another attempt, until ``end`` of the loop's clock."""

    patience: Patience
    end: float = 0.0
    surprises: int = 0


@dataclass(slots=True)
class _Held:
    """What FHIR holds for a page, by what it is found by."""

    tasks: dict[str, list[Resource]]
    patients: dict[PatientIdentity, list[Resource]] = field(default_factory=dict)
    studies: dict[str, list[Resource]] = field(default_factory=dict)
    orders: Orders = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Work:
    """One workitem: what it says, and what has to be written for FHIR to say the same."""

    content: Content
    values: TaskValues
    plan: Plan
    is_linked: bool


class TaskSync:
    """One worker's. ``guard`` is called before every transaction and raises LeaseLost."""

    def __init__(
        self,
        target: FhirTarget,
        database: Database,
        state: CastState,
        journal: Journal,
        options: CastOptions,
        guard: Callable[[], None],
        creations: Creations,
    ) -> None:
        self._target = target
        self._database = database
        self._state = state
        self._journal = journal
        self._options = options
        self._guard = guard
        self._creations = creations
        self._availability = Availability(target, options.retry_timing)
        self._throttle = Throttle(options.retry_timing)
        self._slots = asyncio.Semaphore(options.concurrency)
        self._delays: dict[int, _Delay] = {}

    async def run(self, is_fit: Callable[[], bool]) -> None:
        """Work for ever. ``is_fit``: the FHIR server has been found to be one that can be written to.

        Raises LeaseLost and StoreUnavailable; whatever else goes wrong is reported, and tried again.
        """
        has_tasks = False
        while True:
            pause = self._options.watch_interval or self._options.poll_interval
            try:
                if is_fit():
                    if not has_tasks:
                        await self._check_target()
                        has_tasks = True
                    while await self.page():
                        pass
            except TryAgain as error:
                self._journal.workitems(LastError(error.name, error.public, now()))
                timing = self._options.retry_timing
                pause = timedelta(seconds=min(max(timing.probe, error.retry_after or 0.0), timing.longest))
            except (LeaseLost, StoreUnavailable):
                raise
            except Exception as error:
                has_tasks = False
                name, message = type(error).__name__, "Casting workitems failed unexpectedly."
                if isinstance(error, Faulted):
                    name, message = error.name, error.message
                logger.error("Casting workitems is at a standstill: %s: %s", name, message)
                self._journal.workitems(LastError(name, message, now()))
                pause = max(min(self._options.poll_interval, _LONGEST_FAULT), timedelta(seconds=1))
            await asyncio.sleep(pause.total_seconds())

    async def _check_target(self) -> None:
        """Raises Faulted where the server says which types it has, and Task is none of them."""
        try:
            statement = await self._target.capabilities()
        except FhirError as error:
            raise of_search(error) from error
        types = {each.get("type") for rest in statement.get("rest", []) for each in rest.get("resource", [])}
        if types and "Task" not in types:
            raise Faulted(
                "InvalidFhirServerException",
                "The FHIR server does not take Tasks: DicomCast:Features:SyncWorkitems needs one that does.",
            )
        self._journal.workitems(None)

    async def page(self) -> bool:
        """Work off the next workitems that have changed; False if there are none that can be tried now.

        Raises TryAgain, Faulted, LeaseLost, StoreUnavailable.
        """
        clock = asyncio.get_running_loop().time()
        delayed = {workitem_id for workitem_id, delay in self._delays.items() if delay.end > clock}
        found = await changes.waiting(self._database, self._options.partitions, PAGE, delayed)
        if found:
            await self._together(found)
        return bool(found)

    async def _together(self, found: Sequence[Waiting]) -> None:
        """Work off a page; where FHIR refuses to be asked for all of it at once, one by one."""
        try:
            works = await self._prepare(found)
        except EntryRefused as error:
            if len(found) == 1:
                await self._refuse(found[0], error)
                return
            for one in found:
                await self._together([one])
            return
        results = await asyncio.gather(*(self._settle(work) for work in works), return_exceptions=True)
        done = [work for work, result in zip(works, results, strict=True) if result is None]
        if done:
            await self._finish(done)
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in sorted(failures, key=lambda one: not isinstance(one, LeaseLost)):
            if not isinstance(failure, _Postponed):
                raise failure

    # --- what is to be done ---

    async def _prepare(self, found: Sequence[Waiting]) -> list[_Work]:
        """What to write for each. Those that cannot be written are filed here. Raises EntryRefused for all of them."""
        held = _Held(await self._tasks(found))
        contents = await changes.contents(self._database, [one.id for one in found])
        said: list[tuple[Content, TaskValues]] = []
        for one in found:
            try:
                said.append((contents[one.id], workitem.read(contents[one.id], self._options)))
            except Exception as error:
                await self._refuse(one, error, contents)
        await self._expect_studies(said)
        await self._look_up(held, [values for _, values in said])
        works: list[_Work] = []
        for content, values in said:
            try:
                works.append(self._work(content, values, held))
            except Exception as error:
                await self._refuse(Waiting(content.id, content.uid), error, contents)
        return works

    async def _tasks(self, found: Sequence[Waiting]) -> dict[str, list[Resource]]:
        tasks: dict[str, list[Resource]] = {}
        for some in batches(one.uid for one in found):
            for resource in await self._search("Task", task.search(some)):
                for uid in task.uids_of(resource):
                    tasks.setdefault(uid, []).append(resource)
        return tasks

    async def _expect_studies(self, said: Iterable[tuple[Content, TaskValues]]) -> None:
        """Have casting say when the studies come, before they are looked for."""
        studies = [(content.id, values.study or "") for content, values in said]

        async def unit(tx: Transaction) -> None:
            for workitem_id, study_uid in studies:
                await changes.about(tx, workitem_id, study_uid)

        if any(study_uid for _, study_uid in studies):
            await self._database.write(unit)

    async def _look_up(self, held: _Held, said: Sequence[TaskValues]) -> None:
        identities = {values.patient.identity for values in said if values.patient is not None}
        for some in batches(identity.value for identity in identities):
            wanted = [identity for identity in identities if identity.value in some]
            parameters = ",".join(identifier_parameter(one.system, one.value)[1] for one in wanted)
            for resource in await self._search("Patient", [("identifier", parameters)]):
                for identity in wanted:
                    if any(_is(one, identity) for one in resource.get("identifier", [])):
                        held.patients.setdefault(identity, []).append(resource)
        for some in batches({values.study for values in said if values.study}):
            identifiers = {f"urn:oid:{uid}": uid for uid in some}
            asked = (study_identifier(uid) for uid in some)
            parameters = ",".join(f"{escape(one['system'])}|{escape(one['value'])}" for one in asked)
            for resource in await self._search("ImagingStudy", [("identifier", parameters)]):
                for value in {one.get("value") for one in resource.get("identifier", [])} & identifiers.keys():
                    held.studies.setdefault(identifiers[str(value)], []).append(resource)
        numbers = {number for values in said for order in values.orders for number in order.numbers}
        held.orders = await orders.look_up(self._search, numbers)

    def _work(self, content: Content, values: TaskValues, held: _Held) -> _Work:
        """Raises EntryRefused."""
        written: list[Written] = []
        subject = None
        if values.patient is not None:
            who = _only(held.patients.get(values.patient.identity, []))
            subject = new_name() if who is None else local_reference(who)
            if who is None:
                identity = values.patient.identity
                search = [identifier_parameter(identity.system, identity.value)]
                written.append(create_entry(patient.create(values.patient), subject, search))
        study = _only(held.studies.get(values.study or "", []))
        found = _only(held.tasks.get(content.uid, []))
        wanted = task.merge(
            found,
            values,
            root=self._options.root_url,
            subject=subject,
            order_names=[
                orders.order_of(held.orders, order.numbers, {"reference": subject}) for order in values.orders
            ],
            study=None if study is None else local_reference(study),
        )
        if found is None:
            written.append(create_entry(wanted, new_name(), task.search([content.uid])))
        elif wanted != found:
            written.append(update_entry(found, wanted))
        return _Work(content, values, Plan(written, [], 0, {}), study is not None)

    async def _search(self, resource_type: str, parameters: Parameters) -> list[Resource]:
        await self._throttle.clear()
        try:
            matches = await self._target.search(resource_type, parameters)
        except FhirError as error:
            failure = of_search(error)
            if isinstance(failure, TryAgain) and failure.retry_after is not None:
                self._throttle.slow_down(failure.retry_after)
            raise failure from error
        return [match.resource for match in matches if match.mode == "match"]

    # --- doing it ---

    async def _settle(self, work: _Work) -> None:
        """Write one Task. Raises _Postponed if it is to be tried again, or has been filed; TryAgain in an outage."""
        began = asyncio.get_running_loop().time()
        one = Waiting(work.content.id, work.content.uid)
        try:
            await self._send(work.plan)
        except EntryRefused as error:
            await self._refuse(one, error, {work.content.id: work.content})
            raise _Postponed from error
        except TryAgain as error:
            await self._postpone(work, error, asyncio.get_running_loop().time() - began)
            raise _Postponed from error
        except (Faulted, LeaseLost, StoreUnavailable):
            raise
        except Exception as error:
            delay = self._delays.setdefault(one.id, _Delay(self._patience()))
            delay.surprises += 1
            if delay.surprises == UNEXPECTED_ATTEMPTS:
                await self._refuse(one, error, {work.content.id: work.content})
            else:
                pause = self._options.retry_timing.delay(delay.surprises, None)
                delay.end = asyncio.get_running_loop().time() + pause
            raise _Postponed from error

    async def _send(self, plan: Plan) -> None:
        if not plan.written:
            return
        async with self._slots, self._creations.alone(plan.written):
            await self._throttle.clear()
            self._guard()
            try:
                answer = await self._target.transaction(plan.bundle)
            except FhirError as error:
                raise of_transaction(error, may_be_gone=True) from error
        # That another transaction has made the Patient meanwhile is as good.
        check(plan, answer, shared=("Patient",))

    async def _postpone(self, work: _Work, error: TryAgain, took: float) -> None:
        """Have a workitem tried again later, or file it once its time is used up. Raises TryAgain in an outage."""
        content = work.content
        if error.retry_after is not None:
            self._throttle.slow_down(error.retry_after)
        delay = self._delays.setdefault(content.id, _Delay(self._patience()))
        patience = delay.patience
        patience.number += 1
        row = _row(content, Table.TRANSIENT_RETRY, error.name, error.message, retry_number=patience.number)
        await self._state.filed([row])
        self._journal.workitems(LastError(error.name, error.public, now()))
        if not (error.server_answers or await self._availability.check()):
            raise error  # all of them wait until the server is back, at nobody's expense
        pause = self._options.retry_timing.delay(patience.number, error.retry_after)
        if patience.used >= patience.budget:
            await self._refuse(Waiting(content.id, content.uid), budget_used_up(patience, error), {content.id: content})
            return
        patience.used += took + pause
        delay.end = asyncio.get_running_loop().time() + pause
        logger.info("Workitem %s waits %.1f s after attempt %d: %s", content.uid, pause, patience.number, error.name)

    def _patience(self) -> Patience:
        return Patience(self._options.total_retry_duration.total_seconds())

    async def _finish(self, done: Sequence[_Work]) -> None:
        """Record what is in FHIR now, in one commit."""

        async def unit(tx: Transaction) -> None:
            for work in done:
                content = work.content
                await changes.followed(tx, content.id, content.revision, is_linked=work.is_linked)
                await self._state.settled(tx, content.id, _invalid_rows(work))

        await self._database.write(unit)
        for work in done:
            self._delays.pop(work.content.id, None)
        self._journal.workitems(None)

    async def _refuse(self, one: Waiting, error: Exception, contents: dict[int, Content] | None = None) -> None:
        """File a workitem that cannot be written as it is; it is tried again when it changes, or somebody asks.

        Raises TryAgain where it is not a FHIR server that refuses: a proxy may answer in its place.
        """
        refusal = error if isinstance(error, EntryRefused) else unexpected_refusal(error)
        if refusal.table is Table.FHIR_FAIL and not await self._availability.check():
            public = "Something else answers in the FHIR server's place."
            raise TryAgain("RetryableException", f"{public} {refusal.message}", public=public) from error
        if contents is None or one.id not in contents:
            contents = await changes.contents(self._database, [one.id])
        content = contents[one.id]
        row = _row(content, refusal.table, refusal.name, refusal.message)

        async def unit(tx: Transaction) -> None:
            await changes.followed(tx, content.id, content.revision)
            await self._state.settled(tx, content.id, [row])

        await self._database.write(unit)
        self._delays.pop(one.id, None)
        self._journal.workitems(LastError(refusal.name, refusal.public, now()))
        logger.warning("Workitem %s was not cast: %s, see %s", one.uid, refusal.name, refusal.table.value)


class _Postponed(Exception):
    """A workitem is not in FHIR yet, and that has been seen to."""


def _only(found: list[Resource]) -> Resource | None:
    if len(found) > 1:
        name = found[0].get("resourceType")
        message = f"Multiple '{name}' matching the search criteria found."
        raise fhir_refusal("MultipleMatchingResourcesException", message)
    return found[0] if found else None


def _is(identifier: Resource, identity: PatientIdentity) -> bool:
    return identifier.get("value") == identity.value and identifier.get("system") == identity.system


def _row(
    content: Content, table: Table, name: str, message: str, retry_number: int | None = None, once: str | None = None
) -> ErrorRow:
    key = WorkitemKey(content.id, content.uid, workitem.study_of(content.dataset) or "")
    return ErrorRow(table, key, name, message, retry_number, once)


def _invalid_rows(work: _Work) -> list[ErrorRow]:
    """The rows of values a Task was written without: once per workitem and tag."""
    content = work.content
    return [
        _row(content, error.table, error.name, error.message, once=f"workitem {content.id} {error.public}")
        for error in work.values.invalid
    ]
