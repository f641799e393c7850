"""Compares what the feed says with what FHIR holds, study by study, and changes nothing.

Casting may go on meanwhile: a study that differs is compared again once the worker has dealt with all that has been
read of the feed, so only what stays different is reported.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from hounsfield.cast import error_tables
from hounsfield.cast.expected import Change, expected, normal
from hounsfield.cast.failure import EntryRefused
from hounsfield.cast.feed import FeedReader
from hounsfield.cast.feed_digest import FeedDigest, StudySteps
from hounsfield.cast.fhir_reading import FhirReader
from hounsfield.cast.options import CastOptions
from hounsfield.cast.rebuild import unknown_studies
from hounsfield.cast.state import CastState
from hounsfield.database.engine import Database
from hounsfield.fhir.target import FhirTarget, Resource

READ_AT_ONCE = 2000
STUDIES_AT_ONCE = 100
LOOK_SECONDS = 0.5
"""How often the worker is asked how far it is."""
MAX_FIELDS = 50
"""Fields named of one resource: of a study that lacks 5,000 instances, these tell enough."""

Problem = Literal["missing", "extra", "different", "unreadable"]


@dataclass(frozen=True, slots=True)
class FieldDrift:
    """One element that differs: its path, and its value by the archive and in FHIR (None: it has none)."""

    path: str
    archive: Any
    fhir: Any


@dataclass(frozen=True, slots=True)
class Drift:
    """A resource that is not as a clean pass over the feed would write it.

    ``unreadable``: FHIR cannot be compared, ``reason`` says why. ``fields`` are of ``different`` ones; ``more`` are
    not named. ``skipped`` is how many entries of the study are in the error tables.
    """

    study_uid: str
    resource: str
    problem: Problem
    fields: list[FieldDrift] = field(default_factory=list)
    more: int = 0
    skipped: int = 0
    reason: str = ""


@dataclass(slots=True)
class Verification:
    """One comparison of everything; the counts are of what has been done so far."""

    feed: FeedReader
    target: FhirTarget
    database: Database
    options: CastOptions
    patience: float = 30.0
    """Seconds that the worker is waited for, in all."""
    latest: int = 0
    read: int = 0
    studies: int = 0
    refused: int = 0
    """Entries that cannot be cast, see the error tables."""
    behind: int = 0
    """Numbers of the feed that casting had not dealt with at the end."""

    async def run(self) -> AsyncIterator[Drift]:
        """Everything that differs. Raises FeedUnavailable, TryAgain, Faulted, StoreUnavailable."""
        digest = FeedDigest(self.feed, self.options)
        reader = FhirReader(self.target, self.options)
        try:
            self.latest = await self.feed.latest()
            while not await digest.read(READ_AT_ONCE):
                self.read = digest.through
            await self._settle(digest)
            after = ""
            while uids := digest.study_uids(after, STUDIES_AT_ONCE):
                for uid in uids:
                    async for drift in self._study(digest, reader, uid):
                        yield drift
                    self.studies += 1
                after = uids[-1]
            async for uid in unknown_studies(reader, digest, self.options):
                for drift in await self._compare(reader, digest, StudySteps(uid)):
                    yield drift
            self.behind = max(digest.through - await CastState(self.database).position(), 0)
        finally:
            digest.close()

    async def _settle(self, digest: FeedDigest) -> None:
        self.read = digest.through
        for _ in digest.settle():
            await asyncio.sleep(0)

    async def _study(self, digest: FeedDigest, reader: FhirReader, uid: str) -> AsyncIterator[Drift]:
        found = await self._compare(reader, digest, digest.study(uid))
        if found:
            await digest.read_to_end()
            await self._settle(digest)
            await self._wait_for(digest.through)
            found = await self._compare(reader, digest, digest.study(uid))
        self.refused += len(digest.study(uid).refusals)
        for drift in found:
            yield drift

    async def _wait_for(self, sequence: int) -> None:
        """Until casting has come so far, as long as there is patience."""
        state = CastState(self.database)
        while self.patience > 0 and await state.position() < sequence:
            await asyncio.sleep(LOOK_SECONDS)
            self.patience -= LOOK_SECONDS

    async def _compare(self, reader: FhirReader, digest: FeedDigest, study: StudySteps) -> list[Drift]:
        identities = list(digest.clean(study).patients)
        said = {identity: values for identity in identities if (values := digest.patient(identity)) is not None}
        skipped = len(await error_tables.skipped(self.database, study.study_uid))
        try:
            held = await reader.held(study.study_uid, identities, study.steps)
            changes = expected(study, said, held, self.options).changes
        except EntryRefused as error:
            return [Drift(study.study_uid, "ImagingStudy", "unreadable", skipped=skipped, reason=error.public)]
        return [_drift(study.study_uid, change, skipped) for change in changes]


def _drift(study_uid: str, change: Change, skipped: int) -> Drift:
    if change.before is None:
        return Drift(study_uid, change.resource_type, "missing", skipped=skipped)
    if change.after is None:
        return Drift(study_uid, change.resource_type, "extra", skipped=skipped)
    fields = list(differences(change.after, change.before))
    return Drift(
        study_uid, change.resource_type, "different", fields[:MAX_FIELDS], max(len(fields) - MAX_FIELDS, 0), skipped
    )


def differences(wanted: Resource, found: Resource, path: str = "") -> Iterator[FieldDrift]:
    """What differs between two resources, element by element; series and instances are told apart by their UIDs."""
    for name in dict.fromkeys([*wanted, *found]):
        archive, fhir = wanted.get(name), found.get(name)
        if normal(archive) == normal(fhir):
            continue
        if name in ("series", "instance"):
            yield from _by_uid(archive or [], fhir or [], f"{path}{name}")
        else:
            yield FieldDrift(f"{path}{name}", archive, fhir)


def _by_uid(wanted: list[Resource], found: list[Resource], path: str) -> Iterator[FieldDrift]:
    archive, fhir = ({str(one.get("uid")): one for one in each} for each in (wanted, found))
    for uid in dict.fromkeys([*archive, *fhir]):
        place = f"{path}[{uid}]"
        if uid in archive and uid in fhir:
            yield from differences(archive[uid], fhir[uid], f"{place}.")
        else:
            yield FieldDrift(place, archive.get(uid), fhir.get(uid))
    if len(found) > len(fhir):
        yield FieldDrift(path, None, None)
