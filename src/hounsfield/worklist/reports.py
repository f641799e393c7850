"""Event reports: what subscribers are told of workitems (PS3.4 §CC.2.4, PS3.18 §11.13), and the queue they wait in.

A report is queued for each subscriber in the transaction that changes the workitem, and stays until the subscriber's
connection has confirmed it, is too old, or too many wait. Numbers are drawn from one row, last in the transaction, and
its lock is held to the commit: they become visible in order, and that row tells with one look that there is more.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from hounsfield.database.engine import Database, Transaction
from hounsfield.dicom.dictionary import key_of
from hounsfield.worklist.cancellation import (
    CONTACT_DISPLAY_NAME,
    CONTACT_URI,
    DISCONTINUATION_REASON_CODE_SEQUENCE,
    PROGRESS_INFORMATION_SEQUENCE,
    REASON_FOR_CANCELLATION,
)
from hounsfield.worklist.dataset import PROCEDURE_STEP_STATE, Dataset, element, items, unpacked

MAX_WAITING = 10_000
"""Reports that wait for one subscriber; of more the oldest go."""
MAX_AGE_SECONDS = 7 * 24 * 3600
"""How long a report waits for a subscriber that does not come."""
EVENT_SOP_CLASS = "1.2.840.10008.5.1.4.34.6.4"
"""Unified Procedure Step - Event."""
WORKLIST = "1.2.840.10008.5.1.4.34.5"
"""Well-known instance: the whole worklist."""

INPUT_READINESS_STATE = key_of("InputReadinessState")
REQUESTING_AE = key_of("RequestingAE")
_STATION_NAME = key_of("ScheduledStationNameCodeSequence")
_HUMAN_PERFORMERS = key_of("ScheduledHumanPerformersSequence")
_HUMAN_PERFORMER_CODE = key_of("HumanPerformerCodeSequence")
_SCP_STATUS = key_of("SCPStatus")
_SUBSCRIPTION_LIST_STATUS = key_of("SubscriptionListStatus")


class Event(IntEnum):
    """Event Type ID (0000,1002)."""

    STATE = 1
    CANCEL_REQUESTED = 2
    PROGRESS = 3
    SERVER_STATUS = 4
    ASSIGNED = 5


def _report(event: Event, uid: str, attributes: Dataset) -> str:
    """A report as it waits: its JSON, but for the Message ID."""
    report = {
        "00000002": element("UI", EVENT_SOP_CLASS),
        "00001000": element("UI", uid),
        "00001002": element("US", int(event)),
        **attributes,
    }
    return msgspec.json.encode(report).decode()


def numbered(report: str, sequence: int) -> str:
    """A report as it is sent: a Message ID (0000,0110) follows from its number in the queue."""
    return f'{{"00000110":{{"vr":"US","Value":[{sequence % 65535 + 1}]}},{report[1:]}'


def state_report(uid: str, dataset: Dataset) -> str:
    """In which state the workitem is; if it is canceled, why."""
    shown = {key: dataset[key] for key in (PROCEDURE_STEP_STATE, INPUT_READINESS_STATE) if key in dataset}
    for progress in items(dataset, PROGRESS_INFORMATION_SEQUENCE)[:1]:
        for key in (REASON_FOR_CANCELLATION, DISCONTINUATION_REASON_CODE_SEQUENCE):
            if progress.get(key, {}).get("Value"):
                shown[key] = progress[key]
    return _report(Event.STATE, uid, shown)


def tells_state(report: str) -> bool:
    """Whether a report is one of the state."""
    return bool(msgspec.json.decode(report)["00001002"]["Value"] == [Event.STATE])


def cancel_report(uid: str, request: Dataset) -> str:
    """Somebody asks the owner to cancel the workitem."""
    wanted = (REQUESTING_AE, REASON_FOR_CANCELLATION, DISCONTINUATION_REASON_CODE_SEQUENCE)
    shown = {key: request[key] for key in (*wanted, CONTACT_URI, CONTACT_DISPLAY_NAME) if key in request}
    return _report(Event.CANCEL_REQUESTED, uid, {REQUESTING_AE: element("AE")} | shown)


def going_down() -> str:
    """The server ends; subscriptions stay."""
    shown = {_SCP_STATUS: element("CS", "GOING DOWN"), _SUBSCRIPTION_LIST_STATUS: element("CS", "WARM START")}
    return _report(Event.SERVER_STATUS, WORKLIST, shown)


def change_reports(uid: str, before: Dataset, after: Dataset) -> list[str]:
    """What an update is worth telling."""

    def changed(key: str) -> bool:
        return before.get(key) != after.get(key)

    found = []
    if changed(INPUT_READINESS_STATE):
        found.append(state_report(uid, after))
    if changed(PROGRESS_INFORMATION_SEQUENCE):
        shown = {PROGRESS_INFORMATION_SEQUENCE: after[PROGRESS_INFORMATION_SEQUENCE]}
        found.append(_report(Event.PROGRESS, uid, shown))
    if changed(_STATION_NAME) or changed(_HUMAN_PERFORMERS):
        codes = [
            code for performer in items(after, _HUMAN_PERFORMERS) for code in items(performer, _HUMAN_PERFORMER_CODE)
        ]
        shown = {_STATION_NAME: after[_STATION_NAME]} if _STATION_NAME in after else {}
        found.append(_report(Event.ASSIGNED, uid, shown | {_HUMAN_PERFORMER_CODE: element("SQ", *codes)}))
    return found


# --- the queue ---

_QUEUE = "INSERT INTO worklist_report (workitem_id, created, sequence, subscriber_id, content)"
# One statement, as there may be hundreds of subscribers: a third of the time of as many.
_QUEUE_ARRAYS = (
    f"{_QUEUE} SELECT CAST(? AS bigint), CAST(? AS bigint), r.* "
    "FROM unnest(CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS text[])) r"
)
_CONFIRM = "DELETE FROM worklist_report WHERE subscriber_id = ? AND sequence <= ?"
_CONFIRM_ARRAYS = (
    "DELETE FROM worklist_report USING unnest(CAST(? AS bigint[]), CAST(? AS bigint[])) AS done (subscriber, number) "
    "WHERE subscriber_id = done.subscriber AND sequence <= done.number"
)


async def queue(tx: Transaction, workitem_id: int, subscribers: Iterable[int], reports: Sequence[str | None]) -> None:
    """Have reports of a workitem wait for subscribers; None is its state when it is sent. Last in a transaction."""
    rows = [(subscriber, report) for report in reports for subscriber in subscribers]
    if not rows:
        return
    last = await draw(tx, len(rows))
    now = time.time_ns() // 1000
    numbers = range(last - len(rows) + 1, last + 1)
    if tx.dialect == "postgresql":
        subscriber_ids, contents = map(list, zip(*rows, strict=True))
        await tx.execute(_QUEUE_ARRAYS, workitem_id, now, list(numbers), subscriber_ids, contents)
    else:
        await tx.execute_many(
            f"{_QUEUE} VALUES (?, ?, ?, ?, ?)",
            [(workitem_id, now, number, *row) for number, row in zip(numbers, rows, strict=True)],
        )


async def draw(tx: Transaction, count: int) -> int:
    """The last of ``count`` new numbers, which become visible before any later ones."""
    row = await tx.fetch_one("UPDATE worklist_head SET sequence = sequence + ? WHERE id = 1 RETURNING sequence", count)
    assert row is not None
    return int(row[0])


@dataclass(frozen=True, slots=True)
class Waiting:
    """A report that waits for a subscriber; None is the state of the workitem when it is sent."""

    sequence: int
    subscriber_id: int
    workitem_id: int
    content: str | None


_COLUMNS = "sequence, subscriber_id, workitem_id, content"


async def newest(database: Database) -> int:
    """The number of the newest report."""
    row = await database.fetch_one("SELECT sequence FROM worklist_head WHERE id = 1", quick=True)
    assert row is not None
    return int(row[0])


async def after(database: Database, sequence: int, limit: int) -> list[Waiting]:
    """Reports after a number, for whomever, in order."""
    sql = f"SELECT {_COLUMNS} FROM worklist_report WHERE sequence > ? ORDER BY sequence LIMIT ?"
    return [Waiting(*row) for row in await database.fetch(sql, sequence, limit)]


async def waiting(database: Database, subscriber_id: int, sequence: int, limit: int) -> list[Waiting]:
    """Reports after a number for a subscriber, in order."""
    sql = f"SELECT {_COLUMNS} FROM worklist_report WHERE subscriber_id = ? AND sequence > ? ORDER BY sequence LIMIT ?"
    return [Waiting(*row) for row in await database.fetch(sql, subscriber_id, sequence, limit)]


async def current_states(database: Database, workitem_ids: Iterable[int]) -> dict[int, str]:
    """State reports of workitems as they are now, by id."""
    ids = sorted(set(workitem_ids))
    if not ids:
        return {}
    marks = ", ".join("?" * len(ids))
    rows = await database.fetch(
        "SELECT w.id, w.uid, c.dataset FROM workitem w JOIN workitem_content c ON c.workitem_id = w.id "
        f"WHERE w.id IN ({marks})",
        *ids,
    )
    return {row[0]: state_report(row[1], unpacked(row[2])) for row in rows}


async def confirmed(database: Database, until: Sequence[tuple[int, int]]) -> None:
    """Forget reports that have arrived: for each subscriber those up to a number."""

    async def unit(tx: Transaction) -> None:
        if tx.dialect == "postgresql" and until:
            await tx.execute(_CONFIRM_ARRAYS, *map(list, zip(*until, strict=True)))
        else:
            await tx.execute_many(_CONFIRM, until)

    await database.write(unit)


async def trim(database: Database, max_waiting: int = MAX_WAITING, max_age_seconds: float = MAX_AGE_SECONDS) -> None:
    """Forget reports that are too old, and the oldest of those that are too many for one subscriber."""
    rows = await database.fetch(
        "SELECT subscriber_id FROM worklist_report GROUP BY subscriber_id HAVING count(*) > ?", max_waiting
    )
    oldest = int((time.time() - max_age_seconds) * 1_000_000)

    async def unit(tx: Transaction) -> None:
        await tx.execute("DELETE FROM worklist_report WHERE created < ?", oldest)
        for (subscriber_id,) in rows:
            await tx.execute(
                "DELETE FROM worklist_report WHERE subscriber_id = ? AND sequence <= (SELECT sequence FROM "
                "worklist_report WHERE subscriber_id = ? ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
                subscriber_id,
                subscriber_id,
                max_waiting,
            )

    await database.write(unit)
