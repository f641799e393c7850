"""What the whole feed asks for, study by study: read once from its beginning, kept in a temporary file of our own.

A feed is in the order of what happened, a rebuild and a comparison go from study to study. In between stands a
temporary SQLite file without a name, which is gone with the process; it holds what mapping needs of an entry (about
half a kilobyte), not its metadata, so memory stays small however long the feed is.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum

import msgspec

from hounsfield.cast.clean_pass import CleanStudy, clean_pass
from hounsfield.cast.failure import EntryRefused, Table
from hounsfield.cast.feed import FeedEntry, FeedReader
from hounsfield.cast.options import CastOptions
from hounsfield.cast.patient import PatientIdentity, PatientValues
from hounsfield.cast.step import Remove, Step, Upsert, prepare

READ_WIDTH = 100
"""Width of the feed windows that are read: the widest version 1 of the change feed gives (change-feed.md)."""

_SCHEMA = """
CREATE TABLE entry (
    sequence INTEGER PRIMARY KEY, study_uid TEXT, series_uid TEXT, sop_uid TEXT, kind INTEGER, step BLOB
);
CREATE INDEX entry_study ON entry (study_uid, sequence);
CREATE TABLE patient (identity BLOB PRIMARY KEY, said BLOB) WITHOUT ROWID;
CREATE TABLE unsettled (study_uid TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE noted (study_uid TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Kind(IntEnum):
    """What became of an entry."""

    NOTHING = 0
    """It asks for nothing: its instance was deleted since, or it is of a partition that is not cast."""
    UPSERT = 1
    REMOVE = 2
    REFUSED = 3
    """It cannot be cast."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An entry that cannot be cast, and why: what becomes a row of an error table."""

    sequence: int
    study_uid: str
    series_uid: str
    sop_uid: str
    error: EntryRefused


@dataclass(frozen=True, slots=True)
class StudySteps:
    """What the feed says of one study. ``entries`` are all sequences, ``refusals`` those that cannot be cast."""

    study_uid: str
    steps: list[Step] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    sop_uids: set[str] = field(default_factory=set)


class FeedDigest:
    """Reads a feed on and on. Used by one task at a time; :meth:`close` gives the disk space back."""

    def __init__(self, feed: FeedReader, options: CastOptions) -> None:
        self._feed = feed
        self._options = options
        self._width = max(options.page_size, READ_WIDTH)
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._upserts = msgspec.msgpack.Decoder(Upsert)
        self._removes = msgspec.msgpack.Decoder(Remove)
        self._refusals = msgspec.msgpack.Decoder(tuple[str, str, str, str])
        self._said = msgspec.msgpack.Decoder(PatientValues)
        self._encode = msgspec.msgpack.Encoder().encode
        self._begun_at: int | None = None
        self._folded = 0
        self.through = 0
        """Everything up to this sequence has been read."""

    def close(self) -> None:
        """Forget everything."""
        self._database.close()

    async def read(self, limit: int) -> bool:
        """Read on, at least ``limit`` numbers of the feed; whether its end was reached. Raises FeedUnavailable."""
        latest = await self._feed.latest()
        if self._begun_at is None:
            self._begun_at = latest
        goal = self.through + limit
        while self.through < latest and self.through < goal:
            page = await self._feed.page(self.through, self._width)
            entries = sorted(
                (entry for entry in page.entries if entry.sequence > self.through), key=lambda entry: entry.sequence
            )
            # Numbers up to the newest that are not in the window will never be.
            through = max([min(page.through, latest), *(entry.sequence for entry in entries[-1:])])
            changed = [entry for entry in entries if entry.sequence > self._begun_at]
            again = [entry for sequence in self._read_before(changed) for entry in await self._once_more(sequence)]
            self._keep([*again, *entries])
            if through == self.through:
                return False
            self.through = through
        return self.through >= latest

    async def read_to_end(self) -> None:
        """Read until nothing is new. Raises FeedUnavailable."""
        while not await self.read(self._width * 100):
            pass

    def _read_before(self, changed: list[FeedEntry]) -> Iterator[int]:
        """Entries of the same instances: they read otherwise since these came, with the metadata of now or none."""
        for entry in changed:
            rows = self._database.execute(
                "SELECT sequence FROM entry WHERE study_uid = ? AND series_uid = ? AND sop_uid = ? AND sequence < ?",
                (entry.study_uid, entry.series_uid, entry.sop_uid, entry.sequence),
            )
            yield from [int(row[0]) for row in rows]

    async def _once_more(self, sequence: int) -> list[FeedEntry]:
        page = await self._feed.page(sequence - 1, 1)
        return [entry for entry in page.entries if entry.sequence == sequence]

    def _keep(self, entries: Iterable[FeedEntry]) -> None:
        rows = [self._row(entry) for entry in entries]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?)", rows)
        self._database.executemany("INSERT OR IGNORE INTO unsettled VALUES (?)", {(row[1],) for row in rows})
        if any(row[0] <= self._folded for row in rows):
            self._database.execute("DELETE FROM patient")
            self._folded = 0
        self._database.execute("COMMIT")

    def _row(self, entry: FeedEntry) -> tuple[int, str, str, str, int, bytes | None]:
        uids = (entry.study_uid, entry.series_uid, entry.sop_uid)
        try:
            step = prepare(entry, self._options)
        except EntryRefused as error:
            return (entry.sequence, *uids, Kind.REFUSED, self._refusal(error))
        if step is None:
            return (entry.sequence, *uids, Kind.NOTHING, None)
        if isinstance(step, Upsert):
            return (entry.sequence, *uids, Kind.UPSERT, self._encode(replace(step, invalid=())))
        return (entry.sequence, *uids, Kind.REMOVE, self._encode(step))

    def _refusal(self, error: EntryRefused) -> bytes:
        return self._encode((error.table.value, error.name, error.message, error.public))

    def settle(self) -> Iterator[None]:
        """Find out which entries are refused and what is said last of each Patient, as far as that is open.

        A generator that pauses between studies, so that others have their turn.
        """
        while rows := self._database.execute("SELECT study_uid FROM unsettled LIMIT 100").fetchall():
            for (study_uid,) in rows:
                found = self.study(study_uid)
                refused = [(self._refusal(error), step.sequence) for step, error in self.clean(found).refused]
                self._database.execute("BEGIN")
                self._database.executemany(
                    f"UPDATE entry SET kind = {Kind.REFUSED:d}, step = ? WHERE sequence = ?", refused
                )
                self._database.execute("DELETE FROM unsettled WHERE study_uid = ?", (study_uid,))
                self._database.execute("COMMIT")
                yield
        while rows := self._database.execute(
            "SELECT sequence, step FROM entry WHERE sequence > ? AND kind = ? ORDER BY sequence LIMIT 1000",
            (self._folded, Kind.UPSERT),
        ).fetchall():
            self._fold([self._upserts.decode(step) for _, step in rows])
            self._folded = rows[-1][0]
            yield

    def _fold(self, steps: Iterable[Upsert]) -> None:
        folded: dict[PatientIdentity, PatientValues] = {}
        for step in steps:
            identity = step.patient.identity
            before = folded.get(identity) or self.patient(identity)
            folded[identity] = step.patient if before is None else _said_last(before, step.patient)
        rows = [(self._encode(identity), self._encode(said)) for identity, said in folded.items()]
        self._database.executemany("INSERT OR REPLACE INTO patient VALUES (?, ?)", rows)

    def patient(self, identity: PatientIdentity) -> PatientValues | None:
        """What a clean pass says of a Patient in the end; None if nothing names it. After :meth:`settle`."""
        row = self._database.execute(
            "SELECT said FROM patient WHERE identity = ?", (self._encode(identity),)
        ).fetchone()
        return None if row is None else self._said.decode(row[0])

    def study_uids(self, after: str, limit: int, from_sequence: int = 0) -> list[str]:
        """The next studies in the order of their UIDs, of those with an entry at ``from_sequence`` or later."""
        rows = self._database.execute(
            "SELECT study_uid FROM entry WHERE study_uid > ? GROUP BY study_uid HAVING max(sequence) >= ? "
            "ORDER BY study_uid LIMIT ?",
            (after, from_sequence, limit),
        )
        return [str(row[0]) for row in rows]

    def study(self, study_uid: str) -> StudySteps:
        """All that the feed asks for in one study."""
        found = StudySteps(study_uid)
        for sequence, series_uid, sop_uid, kind, step in self._database.execute(
            "SELECT sequence, series_uid, sop_uid, kind, step FROM entry WHERE study_uid = ? ORDER BY sequence",
            (study_uid,),
        ):
            found.entries.append(sequence)
            found.sop_uids.add(sop_uid)
            if kind == Kind.REFUSED:
                table, *said = self._refusals.decode(step)
                error = EntryRefused(Table(table), *said)
                found.refusals.append(Refusal(sequence, study_uid, series_uid, sop_uid, error))
            elif kind == Kind.UPSERT:
                found.steps.append(self._upserts.decode(step))
            elif kind == Kind.REMOVE:
                found.steps.append(self._removes.decode(step))
        return found

    def clean(self, study: StudySteps) -> CleanStudy:
        """What a clean pass over its entries leaves."""
        return clean_pass(study.study_uid, study.steps, self._options)

    def has(self, study_uid: str) -> bool:
        """Whether the feed has an entry of the study."""
        return self._database.execute("SELECT 1 FROM entry WHERE study_uid = ?", (study_uid,)).fetchone() is not None

    def number_of_entries(self, study_uid: str) -> int:
        """How many entries of the feed are about the study."""
        row = self._database.execute("SELECT count(*) FROM entry WHERE study_uid = ?", (study_uid,)).fetchone()
        return int(row[0])

    def note(self, study_uid: str) -> None:
        """Remember a study that has to be looked at later."""
        self._database.execute("INSERT OR IGNORE INTO noted VALUES (?)", (study_uid,))

    def noted(self) -> Iterator[str]:
        """Take what was noted, each once, in order."""
        while row := self._database.execute("SELECT study_uid FROM noted ORDER BY study_uid LIMIT 1").fetchone():
            self._database.execute("DELETE FROM noted WHERE study_uid = ?", row)
            yield str(row[0])


def _said_last(before: PatientValues, newer: PatientValues) -> PatientValues:
    """Newer values in place of older ones; none never erases. The birth date is the first entry's (§6.1)."""
    values = {
        field.name: value
        for field in fields(PatientValues)
        if field.name not in ("identity", "birth_date", "further_names")
        and (value := getattr(newer, field.name)) is not None
    }
    if newer.name or newer.further_names:
        values["further_names"] = newer.further_names
    return replace(before, **values)
