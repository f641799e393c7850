"""Who is told of which workitems (PS3.4 §CC.2.3, PS3.18 §11.10–11.12).

A subscriber is an application entity in a data partition. It may subscribe to single workitems, to the whole worklist,
and to what meets a filter; what it says of a single workitem comes first. Workitems are never deleted, so every
deletion lock is granted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hounsfield.database.engine import Database, Row, Transaction
from hounsfield.errors import BadRequest, NotFound
from hounsfield.worklist import reports
from hounsfield.worklist.index import IndexValues
from hounsfield.worklist.reports import WORKLIST
from hounsfield.worklist.search import Condition, Equal, Query, Scheduled, driving, meets
from hounsfield.worklist.states import State

FILTERED_WORKLIST = "1.2.840.10008.5.1.4.34.5.1"
"""Well-known instance: what meets a filter."""
LEASE_SECONDS = 30.0
"""How long a connection counts as one after it was last seen to be there."""


class NotSubscribed(NotFound):
    """The application entity has no such subscription."""

    def __init__(self) -> None:
        super().__init__("There is no such subscription.")


class NoSuchWorkitem(NotFound):
    """What was to be subscribed to does not exist."""

    def __init__(self) -> None:
        super().__init__("The workitem instance is not found.")


@dataclass(frozen=True, slots=True)
class Subscriber:
    """An application entity in a partition."""

    id: int
    ae_title: str


async def subscribe(
    database: Database,
    partition_key: int,
    ae_title: str,
    resource: str,
    *,
    deletion_lock: bool,
    conditions: Sequence[Condition] = (),
) -> None:
    """Subscribe to a workitem, the worklist, or what meets ``conditions``; again is as good as once.

    The states of all it covers are queued as first reports. Raises NoSuchWorkitem.
    """

    async def unit(tx: Transaction) -> None:
        subscriber_id = await _subscriber_id(tx, partition_key, ae_title)
        if resource in (WORKLIST, FILTERED_WORKLIST):
            await _subscribe_worklist(tx, partition_key, subscriber_id, deletion_lock, conditions)
            return
        workitem_id = await _workitem_id(tx, partition_key, resource)
        await tx.execute(_SUBSCRIBE_ONE, workitem_id, subscriber_id, 1, int(deletion_lock))
        await reports.queue(tx, workitem_id, [subscriber_id], [None])

    await database.write(unit)


_SUBSCRIBE_ONE = (
    "INSERT INTO workitem_subscription (workitem_id, subscriber_id, subscribed, deletion_lock) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (workitem_id, subscriber_id) DO UPDATE "
    "SET subscribed = excluded.subscribed, deletion_lock = excluded.deletion_lock"
)


async def _subscriber_id(tx: Transaction, partition_key: int, ae_title: str) -> int:
    await tx.execute(
        "INSERT INTO worklist_subscriber (partition_key, ae_title) VALUES (?, ?) "
        "ON CONFLICT (partition_key, ae_title) DO NOTHING",
        partition_key,
        ae_title,
    )
    row = await tx.fetch_one(
        "SELECT id FROM worklist_subscriber WHERE partition_key = ? AND ae_title = ?", partition_key, ae_title
    )
    assert row is not None
    return int(row[0])


async def _workitem_id(tx: Transaction, partition_key: int, uid: str) -> int:
    row = await tx.fetch_one("SELECT id FROM workitem WHERE partition_key = ? AND uid = ?", partition_key, uid)
    if row is None:
        raise NoSuchWorkitem
    return int(row[0])


async def _subscribe_worklist(
    tx: Transaction, partition_key: int, subscriber_id: int, deletion_lock: bool, conditions: Sequence[Condition]
) -> None:
    kept = msgspec.json.encode(list(map(_as_json, conditions))).decode() if conditions else None
    await tx.execute(
        "INSERT INTO worklist_subscription (subscriber_id, filtered, partition_key, deletion_lock, filter, "
        "last_workitem_id) VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT (subscriber_id, filtered) DO UPDATE "
        "SET deletion_lock = excluded.deletion_lock, filter = excluded.filter, last_workitem_id = NULL",
        subscriber_id,
        int(bool(conditions)),
        partition_key,
        int(deletion_lock),
        kept,
    )
    # As many first reports as may wait; a client that wants more states searches.
    if conditions:
        query = Query(partition_key, tuple(conditions), limit=reports.MAX_WAITING)
        sql, values = driving(query, conditions[0], tx.dialect, ids=True)
        rows = await tx.fetch(sql, *values)
        await tx.execute_many(_SUBSCRIBE_ONE, [(row[0], subscriber_id, 1, int(deletion_lock)) for row in rows])
    else:
        rows = await tx.fetch(
            "SELECT w.id FROM workitem w WHERE w.partition_key = ? AND NOT EXISTS (SELECT 1 FROM workitem_subscription "
            f"s WHERE s.workitem_id = w.id AND s.subscriber_id = ?) ORDER BY w.id DESC LIMIT {reports.MAX_WAITING}",
            partition_key,
            subscriber_id,
        )
    await _queue_states(tx, subscriber_id, [row[0] for row in reversed(rows)])


async def _queue_states(tx: Transaction, subscriber_id: int, workitem_ids: Sequence[int]) -> None:
    if not workitem_ids:
        return
    first = await reports.draw(tx, len(workitem_ids)) - len(workitem_ids) + 1
    now = time.time_ns() // 1000
    await tx.execute_many(
        "INSERT INTO worklist_report (sequence, subscriber_id, workitem_id, created) VALUES (?, ?, ?, ?)",
        [(first + number, subscriber_id, workitem_id, now) for number, workitem_id in enumerate(workitem_ids)],
    )


async def unsubscribe(database: Database, partition_key: int, ae_title: str, resource: str) -> None:
    """End a subscription. Of the whole worklist, those to its workitems end as well. Raises NotFound."""

    async def unit(tx: Transaction) -> None:
        subscriber = await _known(tx, partition_key, ae_title)
        if resource in (WORKLIST, FILTERED_WORKLIST):
            gone = await tx.execute(
                "DELETE FROM worklist_subscription WHERE subscriber_id = ? AND filtered = ?",
                subscriber.id,
                int(resource == FILTERED_WORKLIST),
            )
            if not gone:
                raise NotSubscribed
            await tx.execute("DELETE FROM workitem_subscription WHERE subscriber_id = ?", subscriber.id)
            await tx.execute("DELETE FROM worklist_report WHERE subscriber_id = ?", subscriber.id)
            return
        workitem_id = await _workitem_id(tx, partition_key, resource)
        if subscriber.id not in await recipients(tx, partition_key, workitem_id):
            raise NotSubscribed
        # It stays as a row: a subscription to the worklist may cover the workitem.
        await tx.execute(_SUBSCRIBE_ONE, workitem_id, subscriber.id, 0, 0)
        await tx.execute(
            "DELETE FROM worklist_report WHERE subscriber_id = ? AND workitem_id = ?", subscriber.id, workitem_id
        )

    await database.write(unit)


async def suspend(database: Database, partition_key: int, ae_title: str, resource: str) -> None:
    """Have a subscription to the worklist cover what it covers now, and nothing new. Raises NotFound, BadRequest."""
    if resource not in (WORKLIST, FILTERED_WORKLIST):
        raise BadRequest("Only subscriptions to the worklist can be suspended.")

    async def unit(tx: Transaction) -> None:
        subscriber = await _known(tx, partition_key, ae_title)
        changed = await tx.execute(
            "UPDATE worklist_subscription SET last_workitem_id = coalesce(last_workitem_id, "
            "(SELECT coalesce(max(id), 0) FROM workitem WHERE partition_key = ?)) "
            "WHERE subscriber_id = ? AND filtered = ?",
            partition_key,
            subscriber.id,
            int(resource == FILTERED_WORKLIST),
        )
        if not changed:
            raise NotSubscribed

    await database.write(unit)


async def _known(tx: Transaction, partition_key: int, ae_title: str) -> Subscriber:
    row = await tx.fetch_one(
        "SELECT id, ae_title FROM worklist_subscriber WHERE partition_key = ? AND ae_title = ?", partition_key, ae_title
    )
    if row is None:
        raise NotSubscribed
    return Subscriber(*row)


# --- who is told ---


async def recipients(tx: Transaction, partition_key: int, workitem_id: int) -> list[int]:
    """The subscribers of a workitem, filters aside: those it met are subscribers of their own."""
    rows = await tx.fetch(
        "SELECT subscriber_id, subscribed FROM workitem_subscription WHERE workitem_id = ?", workitem_id
    )
    own = {row[0]: row[1] for row in rows}
    rows = await tx.fetch(
        "SELECT subscriber_id FROM worklist_subscription WHERE partition_key = ? AND filtered = 0 "
        "AND (last_workitem_id IS NULL OR last_workitem_id >= ?)",
        partition_key,
        workitem_id,
    )
    everything = {row[0] for row in rows} - own.keys()
    return sorted(everything | {subscriber for subscriber, subscribed in own.items() if subscribed})


async def publish(
    tx: Transaction,
    partition_key: int,
    workitem_id: int,
    state: State,
    values: IndexValues,
    contents: Sequence[str],
) -> None:
    """Queue reports of a workitem that now has these values for all who subscribe to it; last in a transaction.

    Whose filter it has come to meet is told its state first, as whoever subscribes is.
    """
    newly = []
    for row in await tx.fetch(
        "SELECT subscriber_id, deletion_lock, filter, last_workitem_id FROM worklist_subscription "
        "WHERE partition_key = ? AND filtered = 1",
        partition_key,
    ):
        if _is_met(row, workitem_id, state, values) and await tx.execute(
            "INSERT INTO workitem_subscription (workitem_id, subscriber_id, subscribed, deletion_lock) "
            "VALUES (?, ?, 1, ?) ON CONFLICT (workitem_id, subscriber_id) DO NOTHING",
            workitem_id,
            row[0],
            row[1],
        ):
            newly.append(row[0])
    if newly and not any(map(reports.tells_state, contents)):
        await reports.queue(tx, workitem_id, newly, [None])
    if contents:
        await reports.queue(tx, workitem_id, await recipients(tx, partition_key, workitem_id), contents)


def _is_met(row: Row, workitem_id: int, state: State, values: IndexValues) -> bool:
    _, _, kept, last = row
    if last is not None and workitem_id > last:
        return False
    conditions = [_from_json(one) for one in msgspec.json.decode(kept)]
    return all(meets(condition, state, values) for condition in conditions)


def _as_json(condition: Condition) -> list[str | int | None]:
    if isinstance(condition, Equal):
        return [int(condition.attribute), condition.key]
    if isinstance(condition, Scheduled):
        return [condition.state, condition.low, condition.high]
    raise BadRequest("A filter cannot ask for fuzzy matching.")


def _from_json(kept: list[str | int | None]) -> Condition:
    return Equal(*kept) if len(kept) == 2 else Scheduled(*kept)  # type: ignore[arg-type]


# --- connections ---


async def connect(database: Database, partition_key: int, ae_title: str, connection: str) -> Subscriber:
    """Note that a subscriber listens on ``connection``, in place of any it had before. Raises NotSubscribed."""

    async def unit(tx: Transaction) -> Subscriber:
        subscriber = await _known(tx, partition_key, ae_title)
        await tx.execute(
            "UPDATE worklist_subscriber SET connection = ?, connected_until = ? WHERE id = ?",
            connection,
            _lease_end(),
            subscriber.id,
        )
        return subscriber

    return await database.write(unit)


async def still_connected(database: Database, connections: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
    """Note that connections of subscribers are there, and return those that have not been replaced."""

    async def unit(tx: Transaction) -> set[tuple[int, str]]:
        until, found = _lease_end(), set()
        for subscriber_id, connection in sorted(connections):
            if await tx.execute(
                "UPDATE worklist_subscriber SET connected_until = ? WHERE id = ? AND connection = ?",
                until,
                subscriber_id,
                connection,
            ):
                found.add((subscriber_id, connection))
        return found

    return await database.write(unit)


async def disconnect(database: Database, subscriber_id: int, connection: str) -> None:
    """Note that a connection has ended."""

    async def unit(tx: Transaction) -> None:
        await tx.execute(
            "UPDATE worklist_subscriber SET connection = NULL, connected_until = 0 WHERE id = ? AND connection = ?",
            subscriber_id,
            connection,
        )

    await database.write(unit)


async def is_anyone_connected(tx: Transaction, subscribers: Sequence[int]) -> bool:
    """Whether one of the subscribers listens."""
    if not subscribers:
        return False
    marks = ", ".join("?" * len(subscribers))
    now = time.time_ns() // 1000
    sql = f"SELECT 1 FROM worklist_subscriber WHERE id IN ({marks}) AND connected_until > ? LIMIT 1"
    return await tx.fetch_one(sql, *subscribers, now) is not None


def _lease_end() -> int:
    return int((time.time() + LEASE_SECONDS) * 1_000_000)
