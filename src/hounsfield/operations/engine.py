"""The states of operations and parts: every change is one transaction, and says here what it needs to be allowed.

Whoever changes more than the part it holds locks the row of the operation first, so that two that end the last two
parts see each other, and nobody waits for the other in a circle. Times are microseconds since 1970, UTC, and are the
caller's: clocks of machines that differ by less than a lease do no harm, and larger differences cost retries only.
"""

import secrets
import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from hounsfield import faults
from hounsfield.database.engine import Database, Transaction, Value
from hounsfield.errors import Conflict, NotFound
from hounsfield.operations import records
from hounsfield.operations.job import Job, Json, Operation, Part, Plan, Status, Step
from hounsfield.operations.records import decoded, encoded

LEASE_SECONDS = 20.0
"""How long a worker may say nothing before another takes over its part."""
MAX_PARTS = 1000
"""Of one operation: enough for any number of workers, few enough to be read whenever progress is asked for."""
DIED = "The worker died or hung."
"""What is known of a step whose worker said nothing more."""

_SECOND = 1_000_000
_HELD = "operation_id = ? AND number = ? AND owner = ? AND step = ?"
_GOES_ON = "EXISTS (SELECT 1 FROM operation WHERE id = ? AND stop IS NULL)"


class AlreadyRunning(Conflict):
    """An operation that must be alone cannot start beside the one named here."""

    def __init__(self, kind: str, operation_id: str) -> None:
        super().__init__(f"There is already an active {kind} operation with ID '{operation_id}'.")
        self.operation_id = operation_id


class AlreadyEnded(Conflict):
    """A finished operation cannot be cancelled."""


class LeaseLost(Exception):
    """The part is no longer this worker's, or the operation is to stop: what was prepared is thrown away."""


@dataclass(frozen=True, slots=True)
class Due:
    """A part that could be taken up."""

    operation_id: str
    number: int
    kind: str
    stops: bool
    """The operation is not to be worked on but to be ended (:func:`settle`)."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker has taken up."""

    operation: Operation
    part: Part


def timestamp() -> int:
    """Now, as rows have it."""
    return time.time_ns() // 1000


def new_id() -> str:
    """The id of an operation to come."""
    return uuid.uuid4().hex


async def start(
    tx: Transaction,
    kind: str,
    arguments: Json,
    *,
    secret: bytes | None = None,
    alone: bool = False,
    identifier: str | None = None,
) -> str:
    """Have an operation begin once ``tx`` is committed; returns its id, ``identifier`` if one is given (``new_id``).

    ``arguments`` become JSON. ``secret`` is kept as it is and wiped at the end. ``alone``: raises AlreadyRunning if
    one of this kind is active, also if both start at the same moment.
    """
    identifier = identifier or new_id()
    now = timestamp()
    values: tuple[Value, ...] = (identifier, kind, Status.NOT_STARTED.value, now, now, encoded(arguments), secret)
    while not await tx.execute(
        "INSERT INTO operation (id, kind, status, created, updated, arguments, secret, done, total, exclusion) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?) ON CONFLICT (exclusion) DO NOTHING",
        *values,
        kind if alone else None,
    ):
        running = await tx.fetch_one("SELECT id FROM operation WHERE exclusion = ?", kind)
        if running is not None:
            raise AlreadyRunning(kind, running[0])
    await _make_parts(tx, identifier, [Plan(0)], 0, now)
    faults.point("operation: started")
    return identifier


async def request_cancel(database: Database, operation_id: str) -> None:
    """Have an operation end as CANCELED; a worker does so once nobody works on it. Asking twice changes nothing.

    Raises NotFound, and AlreadyEnded for one that is over or is about to fail.
    """
    now = timestamp()

    async def unit(tx: Transaction) -> None:
        if await _stop(tx, operation_id, Status.CANCELED, None, now):
            return
        row = await tx.fetch_one("SELECT status, stop FROM operation WHERE id = ?", operation_id)
        if row is None:
            raise NotFound("There is no such operation.")
        if row[0] not in (Status.NOT_STARTED, Status.RUNNING) or row[1] != Status.CANCELED:
            raise AlreadyEnded("The operation has ended already and cannot be cancelled.")

    await database.write(unit)
    faults.point("operation: cancel asked")


async def next_due(database: Database, kinds: Collection[str], now: int) -> Due | None:
    """The part of an operation of these kinds that has waited longest to be taken up, if there is one.

    One look into an index, cheap enough to be repeated every second.
    """
    marks = ", ".join("?" * len(kinds))
    found = await database.fetch_one(
        "SELECT p.operation_id, p.number, o.kind, o.stop IS NOT NULL FROM operation_part p "
        f"JOIN operation o ON o.id = p.operation_id WHERE p.due <= ? AND o.kind IN ({marks}) "
        "ORDER BY p.due, p.number LIMIT 1",
        now,
        *kinds,
        quick=True,
    )
    return None if found is None else Due(found[0], found[1], found[2], bool(found[3]))


async def claim(database: Database, due: Due, now: int, lease: float = LEASE_SECONDS) -> Claim | None:
    """Take up a part; None if another worker was quicker, or the operation is to stop.

    A part whose worker's lease has ended without being given back counts one failure.
    """
    token = secrets.token_hex(8)

    async def unit(tx: Transaction) -> Claim | None:
        if not await tx.execute(
            "UPDATE operation SET updated = CASE WHEN status = 'notStarted' THEN ? ELSE updated END, "
            "status = 'running' WHERE id = ? AND stop IS NULL AND status IN ('notStarted', 'running')",
            now,
            due.operation_id,
        ):
            return None
        row = await tx.fetch_one(
            "UPDATE operation_part SET attempt = attempt + CASE WHEN owner IS NULL THEN 0 ELSE 1 END, "
            "error = CASE WHEN owner IS NULL THEN error ELSE ? END, owner = ?, due = ? "
            "WHERE operation_id = ? AND number = ? AND due <= ? "
            "RETURNING arguments, cursor, step, done, total, results, attempt, error",
            DIED,
            token,
            now + int(lease * _SECOND),
            due.operation_id,
            due.number,
            now,
        )
        operation = await records.read(tx, due.operation_id)
        if row is None or operation is None:
            return None
        arguments, cursor, step, done, total, results, attempt, error = row
        part = Part(
            operation_id=due.operation_id,
            number=due.number,
            arguments=decoded(arguments),
            cursor=cursor,
            step=step,
            done=done,
            total=total,
            results=decoded(results),
            attempt=attempt,
            error=error,
            owner=token,
        )
        return Claim(operation, part)

    claimed = await database.write(unit)
    if claimed is not None:
        faults.point("operation: claimed")
    return claimed


async def renew(database: Database, part: Part, now: int, lease: float = LEASE_SECONDS) -> bool:
    """Hold the part for longer; False if it is lost or the operation is to stop."""

    async def unit(tx: Transaction) -> bool:
        changed = await tx.execute(
            f"UPDATE operation_part SET due = ? WHERE {_HELD} AND {_GOES_ON}",
            now + int(lease * _SECOND),
            *_held(part),
            part.operation_id,
        )
        return changed > 0

    return await database.write(unit)


async def is_wanted(database: Database, part: Part) -> bool:
    """Whether the part is still this worker's and its operation goes on; cheaper than to renew."""
    sql = f"SELECT 1 FROM operation_part WHERE {_HELD} AND {_GOES_ON}"
    return await database.fetch_one(sql, *_held(part), part.operation_id, quick=True) is not None


async def commit(
    database: Database,
    job: Job,
    part: Part,
    step: Step,
    now: int,
    *,
    plans: Sequence[Plan] = (),
    keep: bool = True,
    lease: float = LEASE_SECONDS,
) -> Part | None:
    """Commit a prepared step with all that follows from it; returns the part to go on with.

    None: the part is done, or is given back as ``keep`` is False. ``plans`` are the further parts of a split. The last
    step of the last part ends the operation. Raises LeaseLost if the part is not this worker's at that moment, and what
    the unit and the finish of the job raise; nothing is changed then.
    """
    if not step.is_last and step.cursor == part.cursor:
        raise RuntimeError(f"a step of {job.kind} moved nothing")
    done = part.total if step.is_last else min(part.done + step.done, part.total)
    results = part.results if step.results is None else step.results
    owner: str | None = part.owner
    due: int | None = now + int(lease * _SECOND)
    if step.is_last:
        owner, due = None, None
    elif not keep:
        owner, due = None, now

    async def unit(tx: Transaction) -> None:
        if step.is_last:
            await _lock(tx, part.operation_id)
        if not await tx.execute(
            "UPDATE operation_part SET cursor = ?, step = step + 1, done = ?, results = ?, owner = ?, due = ?, "
            f"attempt = 0, error = NULL, updated = ? WHERE {_HELD} AND {_GOES_ON}",
            step.cursor, done, encoded(results), owner, due, now, *_held(part), part.operation_id,
        ):  # fmt: skip
            raise LeaseLost
        faults.point("operation: step guarded")
        if step.unit is not None:
            await step.unit(tx)
        faults.point("operation: step applied")
        await _make_parts(tx, part.operation_id, plans, 1, now)
        if step.is_last and not await _has_work(tx, part.operation_id):
            await _end(tx, job, part.operation_id, Status.SUCCEEDED, now)
            faults.point("operation: ended")

    await database.write(unit)
    faults.point("operation: step committed")
    if owner is None:
        return None
    return replace(part, cursor=step.cursor, step=part.step + 1, done=done, results=results, attempt=0, error=None)


async def fail_step(database: Database, job: Job, part: Part, error: str, now: int) -> None:
    """Count a failure of the step at hand and let the part rest.

    Of a step that turns out to have been committed, as may be when the connection broke then, none is counted.
    """
    attempt = part.attempt + 1
    pause = 0.0 if attempt >= job.retry.attempts else job.retry.pause(attempt)

    async def unit(tx: Transaction) -> None:
        if not await tx.execute(
            f"UPDATE operation_part SET owner = NULL, due = ?, attempt = ?, error = ? WHERE {_HELD}",
            now + int(pause * _SECOND),
            attempt,
            error,
            *_held(part),
        ):
            await _let_go(tx, part, now)

    await database.write(unit)
    faults.point("operation: failure recorded")


async def give_back(database: Database, part: Part, now: int) -> None:
    """Let another worker go on with the part at once."""

    async def unit(tx: Transaction) -> None:
        await _let_go(tx, part, now)

    await database.write(unit)
    faults.point("operation: given back")


async def stop_failed(database: Database, part: Part, error: str, now: int) -> None:
    """Have the operation end as FAILED, because of a part this worker holds."""

    async def unit(tx: Transaction) -> None:
        await _lock(tx, part.operation_id)
        if await tx.execute(f"UPDATE operation_part SET owner = NULL, due = ? WHERE {_HELD}", now, *_held(part)):
            await _stop(tx, part.operation_id, Status.FAILED, error, now)

    await database.write(unit)
    faults.point("operation: given up")


async def settle(database: Database, job: Job, operation_id: str, now: int, *, without_finish: bool = False) -> None:
    """End an operation that is to stop, unless somebody still works on it: then it is ended after that.

    ``without_finish``: do not ask the job, which could not do it.
    """

    async def unit(tx: Transaction) -> None:
        await _lock(tx, operation_id)
        row = await tx.fetch_one(
            "SELECT stop FROM operation WHERE id = ? AND status IN ('notStarted', 'running')", operation_id
        )
        if row is None or row[0] is None:
            return
        await tx.execute(
            "UPDATE operation_part SET owner = NULL, due = NULL WHERE operation_id = ? AND due <= ?", operation_id, now
        )
        if not await _has_work(tx, operation_id):
            await _end(tx, None if without_finish else job, operation_id, Status(row[0]), now)
            faults.point("operation: stopped")

    await database.write(unit)


async def abandon(database: Database, known: Collection[str], now: int) -> int:
    """End as FAILED what is of a kind not ``known`` here, and was touched by no worker for records.ABANDONED."""
    oldest = now - int(records.ABANDONED.total_seconds() * _SECOND)
    marks = ", ".join("?" * len(known))
    other = f"AND kind NOT IN ({marks}) " if known else ""

    async def unit(tx: Transaction) -> int:
        rows = await tx.fetch(
            f"SELECT id FROM operation WHERE status IN ('notStarted', 'running') AND updated < ? {other}"
            "AND NOT EXISTS (SELECT 1 FROM operation_part WHERE operation_id = operation.id "
            "AND (updated >= ? OR (owner IS NOT NULL AND due >= ?)))",
            oldest,
            *known,
            oldest,
            oldest,
        )
        for (operation_id,) in rows:
            await _lock(tx, operation_id)
            error = "No worker knows how to do operations of this kind."
            await _end(tx, None, operation_id, Status.FAILED, now, error=error)
        return len(rows)

    return await database.write(unit)


def _held(part: Part) -> tuple[Value, ...]:
    return part.operation_id, part.number, part.owner, part.step


async def _let_go(tx: Transaction, part: Part, now: int) -> None:
    # Whatever step it is at: the token is this claim's alone.
    await tx.execute(
        "UPDATE operation_part SET owner = NULL, due = ? WHERE operation_id = ? AND number = ? AND owner = ?",
        now,
        part.operation_id,
        part.number,
        part.owner,
    )


async def _lock(tx: Transaction, operation_id: str) -> None:
    await tx.execute("UPDATE operation SET kind = kind WHERE id = ?", operation_id)


async def _has_work(tx: Transaction, operation_id: str) -> bool:
    sql = "SELECT 1 FROM operation_part WHERE operation_id = ? AND due IS NOT NULL LIMIT 1"
    return await tx.fetch_one(sql, operation_id) is not None


async def _make_parts(tx: Transaction, operation_id: str, plans: Sequence[Plan], first: int, now: int) -> None:
    if len(plans) > MAX_PARTS:
        raise ValueError(f"an operation has at most {MAX_PARTS} parts")
    await tx.execute_many(
        "INSERT INTO operation_part (operation_id, number, arguments, step, done, total, due, attempt, updated) "
        "VALUES (?, ?, ?, 0, 0, ?, ?, 0, ?)",
        [
            (operation_id, number, encoded(plan.arguments), plan.total, now, now)
            for number, plan in enumerate(plans, first)
        ],
    )


async def _stop(tx: Transaction, operation_id: str, status: Status, error: str | None, now: int) -> bool:
    """Decide how the operation is to end, if that is still open, and have a worker look at it at once."""
    if not await tx.execute(
        "UPDATE operation SET stop = ?, error = ?, updated = ? "
        "WHERE id = ? AND stop IS NULL AND status IN ('notStarted', 'running')",
        status.value,
        error,
        now,
        operation_id,
    ):
        return False
    await tx.execute(
        "UPDATE operation_part SET due = ? WHERE operation_id = ? AND owner IS NULL AND due > ?", now, operation_id, now
    )
    return True


async def _end(
    tx: Transaction, job: Job | None, operation_id: str, status: Status, now: int, *, error: str | None = None
) -> None:
    """End an operation nobody works on: its parts and its secret go, its results stay."""
    found = await records.read(tx, operation_id)
    if found is None:
        return
    refused = None if job is None else await job.finish(tx, found, status)
    if status is Status.SUCCEEDED and refused is not None:
        status, error = Status.FAILED, refused
    await tx.execute("DELETE FROM operation_part WHERE operation_id = ?", operation_id)
    await tx.execute(
        "UPDATE operation SET status = ?, updated = ?, done = ?, total = ?, results = ?, error = ?, "
        "secret = NULL, exclusion = NULL, stop = NULL WHERE id = ?",
        status.value, now, found.done, found.total, encoded(found.results), error or found.error, operation_id,
    )  # fmt: skip
