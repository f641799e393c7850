"""Working operations off: runs in every worker process, several parts at a time."""

import asyncio
import logging
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from hounsfield import faults
from hounsfield.database.engine import Database
from hounsfield.errors import HounsfieldError, StoreUnavailable
from hounsfield.operations import engine
from hounsfield.operations.engine import Claim, Due, LeaseLost, timestamp
from hounsfield.operations.job import Job, Operation, Part, Plan, Step

logger = logging.getLogger(__name__)

MAX_ENDINGS = 5
"""How often a job is asked to put in order what an operation that stops leaves, before it ends without."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a worker uses its time; all in seconds but ``slots``."""

    slots: int = 2
    """Parts a process works on at the same time: one is computed while the other waits for the disk."""
    look: float = 1.0
    """How often an idle slot looks for work, and a busy one whether its work is still wanted."""
    turn: float = 5.0
    """How long a part is kept while others may wait for their turn."""
    lease: float = engine.LEASE_SECONDS
    beat: float = 5.0
    """How often a lease is renewed while a step takes its time; well below the lease."""
    grace: float = 6.0
    """How long the step at hand may still take after the worker was told to stop; a server has 20 s in all."""


class OperationRunner:
    """Takes up parts of operations and works them off until told to stop; nothing that fails ends it."""

    def __init__(self, database: Database, jobs: Iterable[Job], pace: Pace | None = None) -> None:
        self._database = database
        self._jobs = {job.kind: job for job in jobs}
        self._pace = pace or Pace()
        self._endings: dict[str, int] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set. Steps at hand are then committed or thrown away, and all leases given back."""
        await asyncio.gather(*(self._slot(stop) for _ in range(self._pace.slots)))

    async def _slot(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                busy = await self._round(stop)
            except StoreUnavailable as error:
                logger.warning("Operations wait: %s", error.message)
                busy = False
            except Exception as error:
                place = "".join(traceback.format_tb(error.__traceback__))
                logger.error("A round of operations failed: %s\n%s", type(error).__name__, place)
                busy = False
            if not busy:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pace.look):
                        await stop.wait()

    async def _round(self, stop: asyncio.Event) -> bool:
        """Take up the part that has waited longest; whether there was something to do."""
        if not self._jobs:
            return False
        due = await engine.next_due(self._database, self._jobs, timestamp())
        if due is None:
            return False
        job = self._jobs[due.kind]
        if due.stops:
            await self._settle(job, due)
            return True
        claim = await engine.claim(self._database, due, timestamp(), self._pace.lease)
        if claim is not None:
            await self._turn(job, claim, stop)
        return True

    async def _settle(self, job: Job, due: Due) -> None:
        """End an operation that is to stop; a job that cannot put things in order does not keep it for ever."""
        number = self._endings.get(due.operation_id, 0) + 1
        try:
            await engine.settle(self._database, job, due.operation_id, timestamp(), without_finish=number > MAX_ENDINGS)
        except Exception:
            self._endings[due.operation_id] = number
            raise
        self._endings.pop(due.operation_id, None)

    async def _turn(self, job: Job, claim: Claim, stop: asyncio.Event) -> None:
        """Work on a claimed part, step after step, for a while. It is never left claimed, unless the process dies."""
        clock = asyncio.get_running_loop().time
        end = clock() + self._pace.turn
        part: Part | None = claim.part
        while part is not None:
            held = part
            try:
                step, plans = await self._prepared(job, claim.operation, held, stop)
                keep = not stop.is_set() and clock() < end
                faults.point("operation: step prepared")
                part = await engine.commit(
                    self._database, job, held, step, timestamp(), plans=plans, keep=keep, lease=self._pace.lease
                )
            except LeaseLost:
                await engine.give_back(self._database, held, timestamp())
                return
            except GivenUp as error:
                logger.error("Operation %s fails: %s", held.operation_id, error.text)
                await engine.stop_failed(self._database, held, error.text, timestamp())
                return
            except Exception as error:
                await self._failed(job, held, error)
                return

    async def _failed(self, job: Job, part: Part, error: Exception) -> None:
        # Class and place, not the text: messages of libraries may quote values.
        place = "" if isinstance(error, HounsfieldError) else "\n" + "".join(traceback.format_tb(error.__traceback__))
        name = type(error).__name__
        number = part.attempt + 1
        logger.warning(
            "A step of operation %s failed (part %d, attempt %d): %s%s",
            part.operation_id,
            part.number,
            number,
            name,
            place,
        )
        await engine.fail_step(self._database, job, part, _sentence(error), timestamp())

    async def _prepared(
        self, job: Job, operation: Operation, part: Part, stop: asyncio.Event
    ) -> tuple[Step, list[Plan]]:
        """The next step, and for the first part what it is split into. Raises what the job raises, LeaseLost, GivenUp.

        The lease is renewed meanwhile. When the worker is to stop the job has a moment left to come to an end.
        """
        preparing = asyncio.create_task(next_step(job, operation, part))
        try:
            await self._wait(preparing, job, part, stop)
        finally:
            if not preparing.done():
                preparing.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await asyncio.wait_for(preparing, self._pace.look)
        if preparing.cancelled():
            raise RuntimeError(f"a step of {job.kind} cancelled itself")
        return preparing.result()

    async def _wait(
        self, preparing: asyncio.Task[tuple[Step, list[Plan]]], job: Job, part: Part, stop: asyncio.Event
    ) -> None:
        clock = asyncio.get_running_loop().time
        limit = clock() + job.step_seconds
        renewal = clock() + self._pace.beat
        stopped = asyncio.create_task(stop.wait())
        try:
            while not preparing.done():
                if stop.is_set():
                    await asyncio.wait([preparing], timeout=self._pace.grace)
                    if not preparing.done():
                        raise LeaseLost
                    return
                await asyncio.wait([preparing, stopped], timeout=self._pace.look, return_when=asyncio.FIRST_COMPLETED)
                if preparing.done():
                    return
                if clock() > limit:
                    raise StepTooLong
                if clock() > renewal:
                    wanted = await engine.renew(self._database, part, timestamp(), self._pace.lease)
                    renewal = clock() + self._pace.beat
                else:
                    wanted = await engine.is_wanted(self._database, part)
                if not wanted:
                    raise LeaseLost
        finally:
            stopped.cancel()


class StepTooLong(HounsfieldError):
    """Preparing a step took longer than its job allows."""

    def __init__(self) -> None:
        super().__init__("It took too long.")


class GivenUp(Exception):
    """A step failed too often, and nothing can be done without it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


async def next_step(job: Job, operation: Operation, part: Part) -> tuple[Step, list[Plan]]:
    """Ask the job for the step that is due, or, of one that failed too often, what is to be done about it.

    With the first part come the others. Raises GivenUp, and whatever the job raises.
    """
    if part.attempt >= job.retry.attempts:
        error = part.error or engine.DIED
        # One more attempt than allowed: giving up has failed, too.
        step = await job.give_up(operation, part, error) if part.attempt == job.retry.attempts else None
        if step is None:
            raise GivenUp(f"A step failed {job.retry.attempts} times. The last time: {error}")
        return step, []
    if part.number == 0:
        return Step(cursor=None, is_last=True), list(await job.split(operation))
    return await job.step(operation, part), []


def _sentence(error: Exception) -> str:
    """What may be said of an error: our own sentences name no patient, other texts may quote values."""
    return error.message if isinstance(error, HounsfieldError) else f"{type(error).__name__}."
