"""Workers that work operations off: alone, together, interrupted, and with jobs that misbehave."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from hounsfield.database.engine import Database, Transaction
from hounsfield.errors import StoreUnavailable
from hounsfield.operations import engine
from hounsfield.operations.engine import timestamp
from hounsfield.operations.job import Job, Operation, Part, Retry, Status, Step
from hounsfield.operations.runner import OperationRunner, Pace
from tests.operations import counting
from tests.operations.counting import COUNTING, PACE


@contextlib.asynccontextmanager
async def working(database: Database, job: Job = COUNTING, pace: Pace = PACE) -> AsyncIterator[asyncio.Event]:
    """A worker; set the event to have it stop early."""
    stop = asyncio.Event()
    task = asyncio.create_task(OperationRunner(database, [job], pace).run(stop))
    yield stop
    stop.set()
    async with asyncio.timeout(10):
        await task


async def free(database: Database) -> None:
    """No part is held by anybody."""
    assert await database.fetch("SELECT 1 FROM operation_part WHERE owner IS NOT NULL") == []


async def test_an_operation_is_worked_off(database: Database) -> None:
    async with working(database):
        operation_id = await counting.begin(database, 20, 1, 7)
        found = await counting.ended(database, operation_id)
    assert (found.status, found.percent, found.results) == (Status.SUCCEEDED, 100, {"counted": 28})
    assert await counting.counted(database, operation_id) == counting.everything(20, 1, 7)


async def test_one_begins_within_about_a_second_of_ordinary_pace(database: Database) -> None:
    async with working(database, pace=Pace()):
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        await counting.ended(database, await counting.begin(database, 1))
    assert time.monotonic() - begun < 3


async def test_several_workers_share_one_operation(database: Database, other: Database) -> None:
    done: dict[str, int] = {}

    def job(name: str) -> Job:
        async def step(operation: Operation, part: Part) -> Step:
            done[name] = done.get(name, 0) + 1
            await asyncio.sleep(0.01)
            return await counting.step(operation, part)

        return replace(COUNTING, step=step)

    async with working(database, job("first")), working(other, job("second")):
        operation_id = await counting.begin(database, 30, 30, 30, 30, 30, 30)
        found = await counting.ended(database, operation_id)
    assert found.status is Status.SUCCEEDED
    assert await counting.counted(database, operation_id) == counting.everything(30, 30, 30, 30, 30, 30)
    assert set(done) == {"first", "second"}


async def test_a_long_operation_does_not_keep_a_short_one_waiting(database: Database) -> None:
    async with working(database, pace=replace(PACE, slots=1)):
        long = await counting.begin(database, 3000)
        await asyncio.sleep(0.2)
        short = await counting.begin(database, 3)
        assert (await counting.ended(database, short, 5)).status is Status.SUCCEEDED
        assert (await counting.look(database, long)).status.is_active
        await engine.request_cancel(database, long)
        await counting.ended(database, long)


async def test_a_poisoned_batch_is_tried_and_then_reported(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    async def step(operation: Operation, part: Part) -> Step:
        if part.cursor == "3":
            tried.append(part.attempt)
            raise ValueError(operation.kind.upper())  # as the text of a library's error may hold a value
        return await counting.step(operation, part)

    async with working(database, replace(COUNTING, step=step)):
        operation_id = await counting.begin(database, 9)
        found = await counting.ended(database, operation_id)
    assert tried == [0, 1, 2]
    assert found.status is Status.FAILED
    assert found.error == "A step failed 3 times. The last time: ValueError."
    assert (found.percent, found.results) == (33, {"counted": 3})
    assert await counting.endings(database, operation_id) == [Status.FAILED]
    assert "ValueError" in caplog.text and "COUNTING" not in caplog.text


async def test_what_fails_for_a_while_goes_on(database: Database) -> None:
    failures = [StoreUnavailable("The object store does not answer."), RuntimeError("oh")]

    async def step(operation: Operation, part: Part) -> Step:
        if failures:
            raise failures.pop()
        return await counting.step(operation, part)

    async with working(database, replace(COUNTING, step=step)):
        operation_id = await counting.begin(database, 5)
        assert (await counting.ended(database, operation_id)).status is Status.SUCCEEDED
    assert failures == []
    assert await counting.counted(database, operation_id) == counting.everything(5)


@pytest.mark.parametrize("how", ["hangs", "cancels itself"])
async def test_a_step_that_never_comes_to_an_end_fails(database: Database, how: str) -> None:
    async def step(operation: Operation, part: Part) -> Step:
        if how == "hangs":
            await asyncio.Event().wait()
        raise asyncio.CancelledError

    async with working(database, replace(COUNTING, step=step, step_seconds=0.05)):
        found = await counting.ended(database, await counting.begin(database, 5))
    last = "It took too long." if how == "hangs" else "RuntimeError."
    assert found.error == f"A step failed 3 times. The last time: {last}"


async def test_a_long_step_keeps_its_lease(database: Database, other: Database) -> None:
    async def step(operation: Operation, part: Part) -> Step:
        await asyncio.sleep(0.8)
        return await counting.step(operation, part)

    job = replace(COUNTING, step=step)
    pace = replace(PACE, lease=0.4)
    async with working(database, job, pace), working(other, job, pace):
        operation_id = await counting.begin(database, 3)
        assert (await counting.ended(database, operation_id)).status is Status.SUCCEEDED
    assert await counting.counted(database, operation_id) == counting.everything(3)


async def test_a_part_whose_worker_is_gone_is_taken_over(database: Database) -> None:
    operation_id = await counting.begin(database, 9)
    due = await engine.next_due(database, [counting.KIND], timestamp())
    assert due is not None
    assert await engine.claim(database, due, timestamp(), 0.3) is not None
    async with working(database):
        assert (await counting.ended(database, operation_id)).status is Status.SUCCEEDED


async def test_a_batch_that_kills_every_worker_is_reported(database: Database) -> None:
    operation_id = await counting.begin(database, 9)
    for _ in range(counting.RETRY.attempts):
        due = await engine.next_due(database, [counting.KIND], timestamp())
        assert due is not None
        assert await engine.claim(database, due, timestamp(), -1) is not None
    async with working(database):
        found = await counting.ended(database, operation_id)
    assert (found.status, found.error) == (Status.FAILED, f"A step failed 3 times. The last time: {engine.DIED}")


async def test_cancelling_ends_a_step_that_takes_its_time(database: Database) -> None:
    reached = asyncio.Event()
    left = asyncio.Event()

    async def step(operation: Operation, part: Part) -> Step:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        raise AssertionError

    async with working(database, replace(COUNTING, step=step)):
        operation_id = await counting.begin(database, 9)
        await reached.wait()
        await engine.request_cancel(database, operation_id)
        found = await counting.ended(database, operation_id, 5)
    assert left.is_set()
    assert (found.status, await counting.endings(database, operation_id)) == (Status.CANCELED, [Status.CANCELED])


async def test_a_worker_told_to_stop_commits_the_step_at_hand_and_gives_its_parts_back(database: Database) -> None:
    reached = asyncio.Event()

    async def step(operation: Operation, part: Part) -> Step:
        reached.set()
        await asyncio.sleep(0.1)
        return await counting.step(operation, part)

    async with working(database, replace(COUNTING, step=step), replace(PACE, turn=100)) as stop:
        operation_id = await counting.begin(database, 300)
        await reached.wait()
        stop.set()
    await free(database)
    assert await counting.counted(database, operation_id) == counting.everything(3)
    async with working(database):
        assert (await counting.ended(database, operation_id, 10)).status is Status.SUCCEEDED
    assert await counting.counted(database, operation_id) == counting.everything(300)


async def test_a_worker_told_to_stop_does_not_wait_for_a_step_for_long(database: Database) -> None:
    reached = asyncio.Event()

    async def step(operation: Operation, part: Part) -> Step:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with working(database, replace(COUNTING, step=step), replace(PACE, grace=0.1)) as stop:
        operation_id = await counting.begin(database, 9)
        await reached.wait()
        stop.set()
    await free(database)
    async with working(database):
        assert (await counting.ended(database, operation_id)).status is Status.SUCCEEDED


async def test_a_finish_that_always_fails_does_not_keep_an_operation_for_ever(database: Database) -> None:
    async def finish(tx: Transaction, operation: Operation, status: Status) -> str | None:
        raise ValueError("on purpose")

    job = replace(COUNTING, finish=finish, retry=Retry(attempts=2, first_seconds=0.01))
    async with working(database, job):
        found = await counting.ended(database, await counting.begin(database, 3))
    assert (found.status, found.error) == (Status.FAILED, "A step failed 2 times. The last time: ValueError.")


async def test_a_database_that_is_away_ends_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    operation_id = await counting.begin(database, 9)
    async with working(database):
        with monkeypatch.context() as broken:

            async def away(*_: object) -> None:
                raise StoreUnavailable("The index database cannot be used: it is away.")

            broken.setattr(database, "write", away)
            await asyncio.sleep(0.2)
        assert (await counting.ended(database, operation_id)).status is Status.SUCCEEDED


async def test_a_worker_without_jobs_does_nothing(database: Database) -> None:
    operation_id = await counting.begin(database, 1)
    stop = asyncio.Event()
    task = asyncio.create_task(OperationRunner(database, [], PACE).run(stop))
    await asyncio.sleep(0.1)
    stop.set()
    await task
    assert (await counting.look(database, operation_id)).status is Status.NOT_STARTED
