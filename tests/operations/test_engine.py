"""The rules of operations and parts, one by one, on both engines."""

import asyncio
import re
from dataclasses import replace

import pytest

from hounsfield.database.engine import Database, Transaction
from hounsfield.errors import NotFound
from hounsfield.operations import engine, records
from hounsfield.operations.engine import AlreadyEnded, AlreadyRunning, Claim, LeaseLost, timestamp
from hounsfield.operations.job import Job, Operation, Plan, Retry, Status, Step, merged
from hounsfield.operations.runner import GivenUp, next_step
from tests.operations import counting
from tests.operations.counting import COUNTING, KIND

SECOND = 1_000_000
DAY = 24 * 3600 * SECOND


async def claimed(database: Database, now: int | None = None, kind: str = KIND) -> Claim:
    """The part that is due."""
    now = now or timestamp()
    due = await engine.next_due(database, [kind], now)
    assert due is not None and not due.stops
    found = await engine.claim(database, due, now)
    assert found is not None
    return found


async def is_due(database: Database, now: int, kind: str = KIND) -> bool:
    return await engine.next_due(database, [kind], now) is not None


async def do_step(database: Database, held: Claim, job: Job = COUNTING, keep: bool = True) -> Claim | None:
    """Prepare and commit the step that is due; what to go on with."""
    step, plans = await next_step(job, held.operation, held.part)
    part = await engine.commit(database, job, held.part, step, timestamp(), plans=plans, keep=keep)
    return None if part is None else replace(held, part=part)


async def begun(database: Database, *sizes: int, secret: bytes | None = None, alone: bool = False) -> str:
    """An operation that is split into parts already."""
    operation_id = await counting.begin(database, *sizes, secret=secret, alone=alone)
    assert await do_step(database, await claimed(database)) is None
    return operation_id


async def settled(database: Database, now: int | None = None) -> None:
    """End what is to stop."""
    now = now or timestamp()
    due = await engine.next_due(database, [KIND], now)
    assert due is not None and due.stops
    await engine.settle(database, COUNTING, due.operation_id, now)


async def test_an_operation_whose_transaction_fails_was_never_started(database: Database) -> None:
    async def unit(tx: Transaction) -> None:
        await engine.start(tx, KIND, {})
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        await database.write(unit)
    assert await records.page(database, 10, 0) == []
    assert not await is_due(database, timestamp())


async def test_the_way_of_an_operation(database: Database) -> None:
    operation_id = await counting.begin(database, 4, 2)
    before = await counting.look(database, operation_id)
    assert (before.status, before.percent, before.total) == (Status.NOT_STARTED, 0, 0)
    held = await claimed(database)
    assert (await counting.look(database, operation_id)).status is Status.RUNNING
    assert held.part.number == 0
    assert await do_step(database, held) is None
    split = await counting.look(database, operation_id)
    assert (split.percent, split.total) == (0, 6)
    first: Claim | None = await claimed(database)
    assert first is not None
    second = await claimed(database)
    assert {first.part.number, second.part.number} == {1, 2}
    if first.part.number == 2:
        first, second = second, first
    assert not await is_due(database, timestamp())
    first = await do_step(database, first)
    assert first is not None
    half = await counting.look(database, operation_id)
    assert (half.percent, half.results) == (50, {"counted": 3})
    assert await do_step(database, second) is None
    assert (await counting.look(database, operation_id)).status is Status.RUNNING
    assert await do_step(database, first) is None
    after = await counting.look(database, operation_id)
    assert (after.status, after.percent, after.results) == (Status.SUCCEEDED, 100, {"counted": 6})
    assert before.updated <= half.updated <= after.updated
    assert await counting.counted(database, operation_id) == counting.everything(4, 2)
    assert await counting.endings(database, operation_id) == [Status.SUCCEEDED]


async def test_an_operation_without_parts_ends_at_once(database: Database) -> None:
    operation_id = await begun(database)
    assert (await counting.look(database, operation_id)).status is Status.SUCCEEDED


async def test_one_that_must_be_alone_is(database: Database, other: Database) -> None:
    outcomes = await asyncio.gather(
        *(counting.begin(each, 1, alone=True) for each in (database, other, database, other)), return_exceptions=True
    )
    (winner,) = [each for each in outcomes if isinstance(each, str)]
    refusals = [each for each in outcomes if isinstance(each, AlreadyRunning)]
    assert [each.operation_id for each in refusals] == [winner] * 3
    assert refusals[0].message == f"There is already an active counting operation with ID '{winner}'."
    await counting.begin(database, 1)
    for _ in range(4):
        await do_step(database, await claimed(database))
    assert not (await counting.look(database, winner)).status.is_active
    await counting.begin(database, 1, alone=True)


async def secret_of(database: Database, operation_id: str) -> bytes | None:
    return (await counting.look(database, operation_id)).secret


async def test_a_secret_is_there_while_the_operation_is_and_gone_however_it_ends(database: Database) -> None:
    succeeded = await begun(database, 1, secret=b"key")
    held = await claimed(database)
    assert held.operation.secret == b"key"
    assert "key" not in repr(held)
    await do_step(database, held)
    cancelled = await counting.begin(database, 1, secret=b"key")
    await engine.request_cancel(database, cancelled)
    await settled(database)
    failed = await begun(database, 1, secret=b"key")
    await engine.stop_failed(database, (await claimed(database)).part, "on purpose", timestamp())
    await settled(database)
    found = [await counting.look(database, each) for each in (succeeded, cancelled, failed)]
    assert [each.status for each in found] == [Status.SUCCEEDED, Status.CANCELED, Status.FAILED]
    assert [await secret_of(database, each.id) for each in found] == [None, None, None]
    assert found[2].error == "on purpose"


async def test_a_worker_that_lost_its_lease_writes_nothing(database: Database) -> None:
    operation_id = await begun(database, 9)
    lame = await claimed(database)
    later = timestamp() + 21 * SECOND
    assert not await is_due(database, timestamp() + 19 * SECOND)
    heir = await claimed(database, later)
    assert (heir.part.number, heir.part.attempt, heir.part.error) == (1, 1, engine.DIED)
    assert not await engine.is_wanted(database, lame.part)
    assert not await engine.renew(database, lame.part, later)
    with pytest.raises(LeaseLost):
        await do_step(database, lame)
    await engine.give_back(database, lame.part, later)
    await engine.fail_step(database, COUNTING, lame.part, "on purpose", later)
    assert (await counting.counted(database, operation_id)).total() == 0
    assert not await is_due(database, later)
    following = await do_step(database, heir)
    assert following is not None and following.part.attempt == 0


async def test_a_lease_that_is_renewed_is_kept(database: Database) -> None:
    await begun(database, 9)
    held = await claimed(database)
    assert await engine.renew(database, held.part, timestamp() + 15 * SECOND)
    assert not await is_due(database, timestamp() + 30 * SECOND)
    assert await is_due(database, timestamp() + 36 * SECOND)


async def test_a_part_that_is_given_back_goes_on_at_once_and_counts_no_failure(database: Database) -> None:
    await begun(database, 9)
    held = await claimed(database)
    assert await do_step(database, held, keep=False) is None
    again = await claimed(database)
    assert (again.part.cursor, again.part.attempt) == ("3", 0)
    await engine.give_back(database, again.part, timestamp())
    assert (await claimed(database)).part.attempt == 0


async def test_a_step_is_committed_once_even_if_its_worker_does_not_know(database: Database) -> None:
    operation_id = await begun(database, 9)
    held = await claimed(database)
    assert await do_step(database, held) is not None
    with pytest.raises(LeaseLost):
        await do_step(database, held)
    # Nor is a failure counted: there was none. The part goes on at once.
    await engine.fail_step(database, COUNTING, held.part, "the connection broke", timestamp())
    assert (await claimed(database)).part.attempt == 0
    assert await counting.counted(database, operation_id) == counting.everything(3)


async def test_a_unit_that_fails_moves_nothing(database: Database) -> None:
    operation_id = await begun(database, 9)
    held = await claimed(database)

    async def unit(tx: Transaction) -> None:
        await tx.execute("INSERT INTO counted (operation_id, part, unit) VALUES (?, 1, 0)", operation_id)
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        await engine.commit(database, COUNTING, held.part, Step("3", 3, unit=unit), timestamp())
    assert (await counting.counted(database, operation_id)).total() == 0
    assert await engine.is_wanted(database, held.part)
    assert (await counting.look(database, operation_id)).done == 0


async def test_a_step_that_moves_nothing_is_refused(database: Database) -> None:
    await begun(database, 9)
    held = await claimed(database)
    with pytest.raises(RuntimeError, match="moved nothing"):
        await engine.commit(database, COUNTING, held.part, Step(None), timestamp())


async def test_a_failure_rests_longer_each_time_and_then_gives_up(database: Database) -> None:
    operation_id = await begun(database, 1)
    job = replace(COUNTING, retry=Retry(attempts=3, first_seconds=10, factor=3))
    now = timestamp()
    for attempt, pause in enumerate((10, 30, 0)):
        held = await claimed(database, now)
        assert held.part.attempt == attempt
        await engine.fail_step(database, job, held.part, "on purpose", now)
        if pause:
            assert not await is_due(database, now + (pause - 1) * SECOND)
        now += pause * SECOND
    held = await claimed(database, now)
    assert held.part.attempt == job.retry.attempts
    with pytest.raises(GivenUp, match=re.escape("A step failed 3 times. The last time: on purpose")):
        await next_step(job, held.operation, held.part)
    await engine.stop_failed(database, held.part, "given up", now)
    await settled(database, now)
    found = await counting.look(database, operation_id)
    assert (found.status, found.error, found.percent) == (Status.FAILED, "given up", 0)
    assert await counting.endings(database, operation_id) == [Status.FAILED]


async def test_a_job_may_pass_over_what_fails(database: Database) -> None:
    operation_id = await begun(database, 6)
    told = []

    async def pass_over(operation: Operation, part: object, error: str) -> Step | None:
        told.append(error)
        return Step("3", 3, results={"skipped": 1})

    job = replace(COUNTING, give_up=pass_over)
    held = await claimed(database)
    poisoned = replace(held, part=replace(held.part, attempt=job.retry.attempts, error="on purpose"))
    following = await do_step(database, poisoned, job)
    assert told == ["on purpose"] and following is not None
    await do_step(database, following, job)
    found = await counting.look(database, operation_id)
    assert (found.status, found.percent) == (Status.SUCCEEDED, 100)
    assert set(await counting.counted(database, operation_id)) == {(1, 3), (1, 4), (1, 5)}


async def test_a_finish_can_make_it_a_failure(database: Database) -> None:
    async def finish(tx: Transaction, operation: Operation, status: Status) -> str | None:
        return "Not all went well." if status is Status.SUCCEEDED else None

    job = replace(COUNTING, finish=finish)
    operation_id = await begun(database, 1)
    await do_step(database, await claimed(database), job)
    found = await counting.look(database, operation_id)
    assert (found.status, found.error, found.percent) == (Status.FAILED, "Not all went well.", 100)


async def test_a_cancelled_operation_ends_when_nobody_works_on_it(database: Database) -> None:
    operation_id = await begun(database, 9, 9)
    first, second = await claimed(database), await claimed(database)
    await do_step(database, first)
    await engine.request_cancel(database, operation_id)
    await engine.request_cancel(database, operation_id)
    for held in (first, second):
        assert not await engine.is_wanted(database, held.part)
        with pytest.raises(LeaseLost):
            await do_step(database, held)
    await engine.give_back(database, first.part, timestamp())
    await settled(database)
    assert (await counting.look(database, operation_id)).status is Status.RUNNING
    assert not await is_due(database, timestamp())
    await engine.give_back(database, second.part, timestamp())
    await settled(database)
    found = await counting.look(database, operation_id)
    assert (found.status, found.percent, found.stop) == (Status.CANCELED, 16, None)
    assert await counting.endings(database, operation_id) == [Status.CANCELED]
    with pytest.raises(AlreadyEnded):
        await engine.request_cancel(database, operation_id)
    with pytest.raises(NotFound):
        await engine.request_cancel(database, "0" * 32)


async def test_a_cancelled_operation_whose_worker_died_ends_after_the_lease(database: Database) -> None:
    operation_id = await begun(database, 9)
    await claimed(database)
    await engine.request_cancel(database, operation_id)
    later = timestamp() + 21 * SECOND
    await engine.settle(database, COUNTING, operation_id, later)
    assert (await counting.look(database, operation_id)).status is Status.CANCELED


async def test_a_part_at_rest_does_not_keep_a_cancelled_operation(database: Database) -> None:
    operation_id = await begun(database, 9)
    held = await claimed(database)
    await engine.fail_step(database, replace(COUNTING, retry=Retry(first_seconds=1000)), held.part, "x", timestamp())
    await engine.request_cancel(database, operation_id)
    await settled(database)
    assert (await counting.look(database, operation_id)).status is Status.CANCELED


async def test_two_that_end_the_last_two_parts_at_the_same_moment(database: Database, other: Database) -> None:
    operation_id = await begun(database, 1, 1)
    held = [await claimed(database), await claimed(database)]

    async def slowly(tx: Transaction) -> None:
        if tx.dialect == "postgresql":
            await tx.fetch("SELECT pg_sleep(0.1)")

    async def last(where: Database, claim: Claim) -> None:
        step = Step("1", 1, is_last=True, unit=slowly)
        await engine.commit(where, COUNTING, claim.part, step, timestamp())

    await asyncio.gather(last(database, held[0]), last(other, held[1]))
    assert (await counting.look(database, operation_id)).status is Status.SUCCEEDED
    assert await counting.endings(database, operation_id) == [Status.SUCCEEDED]


async def test_who_waits_longest_is_next(database: Database) -> None:
    long = await begun(database, 100)
    held = await claimed(database)
    await do_step(database, held, keep=False)
    short = await counting.begin(database, 1)
    assert (await claimed(database)).operation.id == long
    assert (await claimed(database)).operation.id == short


async def test_what_nobody_here_knows_is_left_alone_and_ended_after_a_week(database: Database) -> None:
    operation_id = await database.write(lambda tx: engine.start(tx, "of tomorrow", {}))
    assert not await is_due(database, timestamp() + DAY)
    assert await engine.abandon(database, [KIND], timestamp() + 6 * DAY) == 0
    assert await engine.abandon(database, ["of tomorrow"], timestamp() + 8 * DAY) == 0
    held = await claimed(database, timestamp() + 2 * DAY, "of tomorrow")
    assert held.operation.id == operation_id
    assert await engine.abandon(database, [KIND], timestamp() + 8 * DAY) == 0
    assert await engine.abandon(database, [], timestamp() + 30 * DAY) == 1
    found = await counting.look(database, operation_id)
    assert (found.status, found.error) == (Status.FAILED, "No worker knows how to do operations of this kind.")


async def test_records_go_after_their_time_and_active_ones_stay(database: Database) -> None:
    over = await begun(database)
    active = await counting.begin(database, 1)
    kept = int(records.RETENTION.total_seconds()) * SECOND
    assert records.RETENTION.days >= 7
    assert await records.purge(database, timestamp() + kept - DAY) == 0
    assert await records.purge(database, timestamp() + kept + DAY) == 1
    assert await records.find(database, over) is None
    assert await records.find(database, active) is not None


async def test_the_list_is_newest_first_and_counts_are_by_status(database: Database) -> None:
    ids = [await begun(database), await counting.begin(database, 1), await counting.begin(database, 1)]
    assert [each.id for each in await records.page(database, 10, 0)] == ids[::-1]
    assert [each.id for each in await records.page(database, 1, 1)] == [ids[1]]
    assert await records.counts(database) == {
        "notStarted": 2, "running": 0, "succeeded": 1, "failed": 0, "canceled": 0
    }  # fmt: skip


async def test_an_operation_has_no_end_of_parts(database: Database) -> None:
    await counting.begin(database, 1)
    held = await claimed(database)
    plans = [Plan(1)] * (engine.MAX_PARTS + 1)
    with pytest.raises(ValueError, match="at most 1000 parts"):
        await engine.commit(database, COUNTING, held.part, Step(None, is_last=True), timestamp(), plans=plans)


async def test_looking_for_work_reads_an_index_only(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def note(sql: str, *values: str | int, quick: bool) -> None:
        assert quick
        for value in values:
            sql = sql.replace("?", str(value) if isinstance(value, int) else f"'{value}'", 1)
        asked.append(sql)

    with monkeypatch.context() as patched:
        patched.setattr(database, "fetch_one", note)
        assert not await is_due(database, 1)

    operation_id = await counting.begin(database, 1)

    async def unit(tx: Transaction) -> str:
        if tx.dialect == "sqlite":
            return " ".join(row[3] for row in await tx.fetch(f"EXPLAIN QUERY PLAN {asked[0]}"))
        # Tables as small as these it would rather read whole.
        await tx.execute(
            "INSERT INTO operation_part (operation_id, number, arguments, step, done, total, due, attempt, updated) "
            "SELECT ?, n, '', 0, 0, 0, n, 0, 0 FROM generate_series(1, 5000) n",
            operation_id,
        )
        await tx.execute("ANALYZE operation, operation_part")
        return " ".join(row[0] for row in await tx.fetch(f"EXPLAIN {asked[0]}"))

    plan = await database.write(unit)
    assert "ix_operation_part_due_number" in plan
    assert not any(word in plan for word in ("SCAN p", "Seq Scan on operation_part", "TEMP B-TREE", "Sort"))


def test_results_of_parts_become_one() -> None:
    assert merged([]) is None
    assert merged([{"n": 1, "errors": ["a"], "ok": True}, {"n": 2, "ok": False}, {"errors": ["b"]}]) == {
        "n": 3,
        "errors": ["a", "b"],
        "ok": False,
    }
