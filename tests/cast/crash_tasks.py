"""Cast processes that are killed while workitems become Tasks: ``python -m tests.cast.crash_tasks DATABASE_URL SEED``.

No process but the last lives longer than a moment after its first request; each changes workitems before it casts.
Prints what every workitem was at last, and how many processes it took.
"""

import asyncio
import itertools
import logging
import os
import random
import signal
import sys
from dataclasses import replace

import msgspec

from hounsfield.cast import worker
from hounsfield.cast.worker import CastWorker
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.index.partitions import DEFAULT_KEY, DEFAULT_NAME
from hounsfield.worklist import changes, workitems
from tests.cast import crash_worker
from tests.cast import full_workitem as full
from tests.cast.crash_worker import BASE, Starting, killer
from tests.cast.memory_archive import MemoryArchive
from tests.worklist.make import element, to_state

OPTIONS = replace(crash_worker.OPTIONS, sync_workitems=True)
LOCK = "1.2.3"
KILLS = 8
LONGEST = 0.06


async def change(database: Database, rng: random.Random, states: dict[str, str]) -> None:
    """Create some workitems, move some on, change some."""
    for _ in range(3):
        uid = f"2.25.{len(states) + 1}"
        dataset = full.scheduled(t00100020=element("LO", f"P{len(states) % 4}"))
        states[await workitems.create(database, DEFAULT_KEY, dataset, uid)] = "ready"
    for uid in rng.sample(sorted(states), min(4, len(states))):
        if states[uid] == "ready" and rng.random() < 0.6:
            await workitems.change_state(database, DEFAULT_KEY, uid, to_state("IN PROGRESS", LOCK))
            states[uid] = "in-progress"
        elif states[uid] == "ready":
            await workitems.request_cancellation(database, DEFAULT_KEY, uid, {})
            states[uid] = "cancelled"
        elif states[uid] == "in-progress":
            await workitems.update(database, DEFAULT_KEY, uid, LOCK, full.performed())
            await workitems.change_state(database, DEFAULT_KEY, uid, to_state("COMPLETED", LOCK))
            states[uid] = "completed"


async def live(url: str, seconds: float | None) -> None:
    """Cast until nothing waits, or until this process dies."""
    database = open_database(url)
    target = EmbeddedTarget(FhirStore(database, BASE), BASE)
    started = (lambda: None) if seconds is None else killer(seconds)
    stop = asyncio.Event()
    working = asyncio.create_task(CastWorker(MemoryArchive(), Starting(target, started), database, OPTIONS).run(stop))
    while (await changes.backlog(database, [DEFAULT_NAME]))[0]:
        await asyncio.sleep(0.01)
    stop.set()
    await working
    await database.close()


async def prepare(url: str, rng: random.Random, states: dict[str, str]) -> None:
    database = open_database(url)
    await change(database, rng, states)
    await database.close()


def main(url: str, seed: int) -> None:
    worker.LEASE_SECONDS, worker.BEAT_SECONDS = 0.2, 0.05
    logging.disable()
    rng = random.Random(seed)
    states: dict[str, str] = {}
    killed = 0
    for number in itertools.count():
        # SQLite's threads do not survive a fork: the database is open in children, or closed.
        asyncio.run(prepare(url, rng, states))
        seconds = rng.random() * LONGEST if number < KILLS else None
        child = os.fork()
        if child == 0:
            asyncio.run(live(url, seconds))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, -signal.SIGKILL)
        killed += code != 0
        if seconds is None:
            break
    sys.stdout.buffer.write(msgspec.json.encode({"states": states, "killed": killed}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
