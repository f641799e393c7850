"""What came after an entry that is tried again, as far as it says the last word (dicom-cast.md §6).

"Replaced by the newest" means the newest in the feed, not the latest written: an entry that was skipped, and is cast
after others of its study or its Patient, must not put back what those have said since. So it is written together with
those that came later and say the same things, and with the name and the sex they give the Patient.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from hounsfield.cast import error_tables, patient
from hounsfield.cast.failure import EntryRefused
from hounsfield.cast.feed import FeedEntry, FeedReader
from hounsfield.cast.feed_digest import READ_WIDTH
from hounsfield.cast.imaging_study import ImageValues
from hounsfield.cast.options import CastOptions
from hounsfield.cast.patient import PatientIdentity
from hounsfield.cast.state import CastState
from hounsfield.cast.step import Upsert, prepare
from hounsfield.database.engine import Database

_WORDS = {"name": patient.PATIENT_NAME, "gender": patient.PATIENT_SEX}
"""What later entries say of a Patient, and the tag they say it with."""


async def with_later(
    feed: FeedReader, entries: Collection[FeedEntry], database: Database, options: CastOptions
) -> list[FeedEntry]:
    """``entries`` and those after them that have a say, in feed order. Raises FeedUnavailable.

    Those that are not in FHIR say nothing there: entries that were skipped as well, or whose turn is still to come. Of
    a series as many are taken as say different things, mostly one, so few are held however many there are.
    """
    upserts = [step for entry in entries if (step := _upsert(entry, options)) is not None]
    if not upserts:
        return list(entries)
    later = _Later({step.study_uid for step in upserts}, {step.patient.identity for step in upserts})
    position, newest = min(step.sequence for step in upserts), await CastState(database).position()
    ours = {entry.sequence for entry in entries}
    width = max(options.page_size, READ_WIDTH)
    while position < newest:
        page = await feed.page(position, min(width, newest - position))
        skipped = await error_tables.skipped_between(database, position, page.through)
        for entry in page.entries:
            if entry.sequence not in ours and entry.sequence not in skipped:
                later.hear(entry, _upsert(entry, options))
        if page.through <= position:
            break
        position = page.through
    found = [later.corrected(entry, _upsert(entry, options)) for entry in entries]
    return sorted([*found, *later.speakers()], key=lambda entry: entry.sequence)


def _upsert(entry: FeedEntry, options: CastOptions) -> Upsert | None:
    try:
        step = prepare(entry, options)
    except EntryRefused:
        return None
    return step if isinstance(step, Upsert) else None


class _Later:
    """Who said what last, of some studies and Patients."""

    def __init__(self, study_uids: Collection[str], identities: Collection[PatientIdentity]) -> None:
        self._study_uids = study_uids
        self._identities = identities
        self._speakers: dict[tuple[str, str], list[tuple[frozenset[str], FeedEntry]]] = {}
        self._words: dict[tuple[PatientIdentity, str], tuple[int, Any]] = {}

    def hear(self, entry: FeedEntry, step: Upsert | None) -> None:
        """A later entry, in feed order."""
        if step is None:
            return
        if step.study_uid in self._study_uids:
            said = _said(step)
            series = self._speakers.setdefault((step.study_uid, step.series_uid), [])
            series[:] = [(before, one) for before, one in series if not before <= said] + [(said, entry)]
        identity = step.patient.identity
        if identity in self._identities:
            for word, tag in _WORDS.items():
                if getattr(step.patient, word) is not None and entry.metadata is not None:
                    self._words[identity, word] = entry.sequence, entry.metadata[tag]

    def speakers(self) -> Iterator[FeedEntry]:
        """The entries that say something no later one of their series does; nothing about the Patient."""
        for series in self._speakers.values():
            for _, entry in series:
                metadata = entry.metadata or {}
                yield replace(entry, metadata={tag: metadata[tag] for tag in metadata.keys() - set(_WORDS.values())})

    def corrected(self, entry: FeedEntry, step: Upsert | None) -> FeedEntry:
        """``entry`` with the last words about its Patient."""
        if step is None or entry.metadata is None:
            return entry
        metadata: Mapping[str, Any] = entry.metadata
        for word, tag in _WORDS.items():
            sequence, element = self._words.get((step.patient.identity, word), (0, None))
            if sequence > entry.sequence:
                metadata = {**metadata, tag: element}
        return entry if metadata is entry.metadata else replace(entry, metadata=metadata)


def _said(step: Upsert) -> frozenset[str]:
    """The values an instance gives its study and series; an Update also says whose study it is."""
    values = {field.name for field in fields(ImageValues) if getattr(step.image, field.name) is not None}
    return frozenset(values | ({"subject"} if step.is_update else set()))
