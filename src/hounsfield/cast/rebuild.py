"""Makes FHIR equal to what a clean pass over the feed writes, study by study, while casting goes on.

The feed is read once into a digest; then every study is compared with what FHIR holds and what differs is written, in
one transaction where that is possible. At last what is ours in FHIR and in no feed entry goes. All is done by the
active worker, in turns with its passes, as an operation: the place where it goes on after a crash is the UID of the
last study that was written. Nothing is written where nothing differs, so doing something twice does no harm.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hounsfield.cast import device, document, endpoint, error_tables, observation
from hounsfield.cast.expected import Change, Expected, expected
from hounsfield.cast.failure import EntryRefused, Faulted, TryAgain
from hounsfield.cast.feed import FeedReader, FeedUnavailable
from hounsfield.cast.feed_digest import FeedDigest, StudySteps
from hounsfield.cast.fhir_reading import FhirReader, study_uid_of
from hounsfield.cast.imaging_study import is_ours
from hounsfield.cast.journal import refusal_row
from hounsfield.cast.options import CastOptions
from hounsfield.cast.rebuild_operation import KIND
from hounsfield.cast.reference import Parameters, identifier_parameter
from hounsfield.cast.retry import of_transaction
from hounsfield.cast.state import CastState, Outcome
from hounsfield.cast.task_links import releases
from hounsfield.cast.transaction import (
    MAX_FOLLOWERS,
    MAX_REMOVALS,
    Plan,
    Written,
    check,
    create_entry,
    delete_entry,
    study_search,
    update_entry,
)
from hounsfield.database.engine import Database, Transaction
from hounsfield.errors import HounsfieldError
from hounsfield.fhir.target import FhirError, FhirTarget
from hounsfield.operations import job as jobs
from hounsfield.operations.job import Job, Json, Operation, Part, Retry, Status, Step
from hounsfield.worklist import changes

_FOLLOWERS = ("Observation", *document.TYPES)
READ_AT_ONCE = 2000
"""Numbers of the feed that one step reads."""
STUDIES_AT_ONCE = 20
"""Studies that one step compares; new entries wait for one step at most."""
ATTEMPTS = 5
"""Tries of a study whose resources somebody else changes meanwhile, before the step rests."""
MAX_NAMED = 100
"""Studies named in the results because they could not be written; the rest is counted."""
RETRY = Retry(attempts=1500, longest_seconds=60.0)
"""An outage of a day is waited for."""
STEP_SECONDS = 4 * 3600.0
"""After a crash the first step reads all of the feed again; and any waits while casting itself waits."""


class RebuildWaits(HounsfieldError):
    """The rebuild cannot go on now; the message says why, without patient data."""


class RebuildJob:
    """The operation's code. ``guard`` raises unless this process may write; ``turn`` is held by whoever writes.

    ``is_fit``: whether the FHIR server has been found to be one that can be written to.
    """

    def __init__(
        self,
        feed: FeedReader,
        target: FhirTarget,
        state: CastState,
        database: Database,
        options: CastOptions,
        *,
        guard: Callable[[], None],
        is_fit: Callable[[], bool],
        turn: asyncio.Lock,
    ) -> None:
        self._feed = feed
        self._target = target
        self._state = state
        self._database = database
        self._options = options
        self._guard = guard
        self._is_fit = is_fit
        self._turn = turn
        self._reader = FhirReader(target, options)
        self._digest: tuple[str, FeedDigest] | None = None

    def job(self) -> Job:
        """For the runner of the active worker."""
        return Job(KIND, self._step, split=self._split, finish=self._finish, retry=RETRY, step_seconds=STEP_SECONDS)

    async def _split(self, operation: Operation) -> Sequence[jobs.Plan]:
        """One part; its units are entries read, and entries of studies compared."""
        async with _told():
            latest = await self._feed.latest()
        return [jobs.Plan(2 * latest + 1)]

    async def _step(self, operation: Operation, part: Part) -> Step:
        async with _told():
            return await self._next(operation, part)

    async def _next(self, operation: Operation, part: Part) -> Step:
        digest = self._digest_of(operation)
        place, _, study_uid = (part.cursor or "read ").partition(" ")
        results = _Results.of(part)
        if place == "read":
            before = digest.through
            is_at_end = await digest.read(READ_AT_ONCE)
            done = digest.through - before
            return Step("study " if is_at_end else f"read {digest.through}", done)
        async with self._turn:
            if not self._is_fit():
                raise RebuildWaits("The FHIR server cannot be written to now: see /cast/status.")
            # What the worker has cast since belongs to what a clean pass writes.
            await digest.read_to_end()
            for _ in digest.settle():
                await asyncio.sleep(0)
            if place == "study":
                return await self._studies(digest, study_uid, operation.arguments["fromSequence"], results)
            await self._clean_up(digest, results)
        self.close()
        # Of Tasks, a clean run gives what their workitems say now.
        unit = changes.all_again if self._options.sync_workitems else None
        return Step(None, is_last=True, unit=unit, results=results.json())

    def close(self) -> None:
        """Give back what a rebuild under way has in memory and on disk."""
        if self._digest is not None:
            self._digest[1].close()
            self._digest = None

    async def _finish(self, tx: Transaction, operation: Operation, status: Status) -> str | None:
        failed = _Results(**(operation.results or {})).failed
        studies = "1 study" if failed == 1 else f"{failed} studies"
        return f"{studies} could not be written; the results say which and why." if failed else None

    def _digest_of(self, operation: Operation) -> FeedDigest:
        if self._digest is None or self._digest[0] != operation.id:
            self.close()
            self._digest = operation.id, FeedDigest(self._feed, self._options)
        return self._digest[1]

    async def _studies(self, digest: FeedDigest, after: str, from_sequence: int, results: "_Results") -> Step:
        """Compare and write the next studies."""
        uids = digest.study_uids(after, STUDIES_AT_ONCE, from_sequence)
        outcomes = [await self._study(digest, uid, results) for uid in uids]

        async def unit(tx: Transaction) -> None:
            for outcome in outcomes:
                await self._state.rebuilt(tx, outcome)

        done = sum(digest.number_of_entries(uid) for uid in uids)
        if len(uids) == STUDIES_AT_ONCE:
            return Step(f"study {uids[-1]}", done, unit=unit, results=results.json())
        # Only a whole rebuild knows which studies no feed entry is about.
        is_last = from_sequence > 0
        if is_last:
            self.close()
        return Step(None if is_last else "clean", done, is_last, unit, results.json())

    async def _study(self, digest: FeedDigest, study_uid: str, results: "_Results") -> Outcome:
        """Bring one study up to date; what has to be recorded then."""
        study = digest.study(study_uid)
        results.studies += 1
        results.refused += len(study.refusals)
        errors = [refusal_row(each, each.error) for each in study.refusals]
        failed = await error_tables.skipped(self._database, study_uid)
        updated_before = await self._state.updated_instances(study_uid)
        try:
            try:
                was_different, found = await self._write_until_equal(digest, study)
                written = failed
            except EntryRefused:
                if not failed & {step.sequence for step in study.steps}:
                    raise
                # One of those that were skipped before may be what the server does not take: the others go without.
                study.steps[:] = [step for step in study.steps if step.sequence not in failed]
                was_different, found = await self._write_until_equal(digest, study)
                written = set()
        except EntryRefused as error:
            await self._require_fhir()
            results.fail(study_uid, error)
            return Outcome()
        results.written += was_different
        refused = {step.sequence for step, _ in found.clean.refused}
        done = written & {step.sequence for step in study.steps} - refused
        has_study = found.clean.study is not None
        return Outcome(errors, study_uid, found.clean.updated, updated_before, sorted(done), has_study=has_study)

    async def _write_until_equal(self, digest: FeedDigest, study: StudySteps) -> tuple[bool, Expected]:
        """Whether anything had to be written, and what FHIR holds now."""
        was_different, tried = False, 0
        while True:
            found = await self._compare(digest, study)
            if not found.changes:
                return was_different, found
            try:
                await self._send(_bundle_of(study.study_uid, found.changes), study.study_uid)
                was_different = True
            except TryAgain as error:
                tried += 1
                if tried == ATTEMPTS or not error.server_answers:
                    raise
                await asyncio.sleep(self._options.retry_timing.delay(tried, error.retry_after))

    async def _require_fhir(self) -> None:
        """Raise TryAgain if what refuses is not the FHIR server, but something that answers in its place."""
        try:
            await self._target.capabilities()
        except FhirError as error:
            raise TryAgain("RetryableException", str(error), public="The FHIR server is not there.") from error

    async def _compare(self, digest: FeedDigest, study: StudySteps) -> Expected:
        identities = list(digest.clean(study).patients)
        said = {identity: values for identity in identities if (values := digest.patient(identity)) is not None}
        return expected(study, said, await self._reader.held(study.study_uid, identities, study.steps), self._options)

    async def _send(self, written: list[Written], study_uid: str) -> None:
        async def is_linked() -> bool:
            return self._options.sync_workitems or await self._state.is_linked(study_uid)

        for intended in (*await releases(written, self._reader.search, is_linked), Plan(written, [], 0, {})):
            self._guard()
            try:
                answer = await self._target.transaction(intended.bundle)
            except FhirError as error:
                deletes = any(one.method == "DELETE" for one in intended.written)
                raise of_transaction(error, may_be_gone=deletes) from error
            check(intended, answer)

    async def _clean_up(self, digest: FeedDigest, results: "_Results") -> None:
        """Take out what is ours and of studies that no entry of the feed is about."""
        async for study_uid in unknown_studies(self._reader, digest, self._options):
            study = StudySteps(study_uid)
            try:
                was_different, _ = await self._write_until_equal(digest, study)
                results.removed += was_different
            except EntryRefused as error:
                await self._require_fhir()
                results.fail(study_uid, error)


async def unknown_studies(reader: FhirReader, digest: FeedDigest, options: CastOptions) -> AsyncIterator[str]:
    """Studies of which FHIR holds something of ours, and of which the feed has no entry."""
    ours = await reader.endpoint()
    if ours is not None:
        async for resource in reader.studies_at(ours):
            uid = study_uid_of(resource)
            if uid is not None and is_ours(resource, options.root_url) and not digest.has(uid):
                digest.note(uid)
    async for resource in reader.keyed_observations():
        uid = study_uid_of(resource)
        if uid is not None and not digest.has(uid):
            digest.note(uid)
    if options.extended_mapping:
        async for resource in reader.documents():
            uid = study_uid_of(resource)
            if uid is not None and not digest.has(uid):
                digest.note(uid)
    for uid in digest.noted():
        yield uid


def _bundle_of(study_uid: str, changes: Sequence[Change]) -> list[Written]:
    """The transaction for some changes: all but Observations and documents beyond what servers take at once."""
    devices = [change for change in changes if change.resource_type == "Device"]
    if len(devices) > MAX_FOLLOWERS:
        return [_written(study_uid, change) for change in devices[:MAX_FOLLOWERS]]
    studies = [change for change in changes if change.resource_type not in _FOLLOWERS]
    removed = [change for change in changes if change.resource_type in _FOLLOWERS and change.after is None]
    removed.sort(key=lambda change: change.resource_type == "Observation")  # reports refer to theirs, and go first
    kept = [change for change in changes if change.resource_type in _FOLLOWERS and change.after is not None]
    letting_go: list[Change] = []
    if len(removed) > MAX_REMOVALS or (removed and len(kept) + len(devices) > MAX_FOLLOWERS):
        removed = removed[:MAX_REMOVALS]
        letting_go, studies, kept = _letting_go(kept, removed), [], []
    elif len(kept) + len(devices) > MAX_FOLLOWERS:
        kept = [] if studies else kept[:MAX_FOLLOWERS]
    written = [_written(study_uid, change) for change in (*studies, *removed, *letting_go, *kept)]
    return sorted(written, key=lambda one: one.resource_type)


def _letting_go(kept: Sequence[Change], removed: Sequence[Change]) -> list[Change]:
    """Changes of the reports among ``kept`` to what they are without the Observations that are ``removed``."""
    gone = [change.name for change in removed]
    found = [(each.name, each.before) for each in kept if each.before and each.resource_type in document.TYPES]
    loosened = [Change(name, before, document.without_results(before, gone)) for name, before in found]
    return [change for change in loosened if change.after != change.before]


def _written(study_uid: str, change: Change) -> Written:
    if change.after is None:
        assert change.before is not None
        return delete_entry(change.before)
    if change.before is not None:
        return update_entry(change.before, change.after)
    return create_entry(change.after, change.name, _search_for(study_uid, change))


def _search_for(study_uid: str, change: Change) -> Parameters:
    """What tells that somebody else has created it meanwhile."""
    resource = change.after or {}
    if change.resource_type == "Endpoint":
        return endpoint.search(resource["address"])
    if change.resource_type == "ImagingStudy":
        return study_search(study_uid)
    if change.resource_type == "Observation":
        return [identifier_parameter(observation.KEY_SYSTEM, observation.key(resource) or "")]
    if change.resource_type == "Device":
        return device.search([device.key(resource) or ""])
    if change.resource_type in document.TYPES:
        return document.search(document.key(resource) or "")
    identifier = resource["identifier"][0]
    return [identifier_parameter(identifier.get("system"), identifier["value"])]


@dataclass(slots=True)
class _Results:
    """What has come of it so far."""

    studies: int = 0
    """Compared."""
    written: int = 0
    """Of these, different and therefore written."""
    removed: int = 0
    """Ours, and in no feed entry."""
    refused: int = 0
    """Entries that cannot be cast."""
    failed: int = 0
    """Studies the FHIR server does not take."""
    failures: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, part: Part) -> "_Results":
        return cls(**(part.results or {}))

    def fail(self, study_uid: str, error: EntryRefused) -> None:
        self.failed += 1
        if len(self.failures) < MAX_NAMED:
            self.failures.append(f"{study_uid}: {error.name}: {error.public}")

    def json(self) -> Json:
        found: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return found


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """What goes wrong becomes an error whose sentence may be shown."""
    try:
        yield
    except TryAgain as error:
        raise RebuildWaits(error.public) from error
    except Faulted as error:
        raise RebuildWaits(error.message) from error
    except FeedUnavailable as error:
        raise RebuildWaits(str(error)) from error
