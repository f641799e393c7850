"""A job for tests: it writes one row for every unit of its parts, and so shows what was done, and how often.

Run as a program it is a worker process: ``python -m tests.operations.counting URL [SECONDS]`` works until no operation
is left, or is told to stop by SIGTERM. ``SECONDS`` is what each step takes.
"""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database, Transaction
from hounsfield.operations import engine, records
from hounsfield.operations.job import Job, Operation, Part, Plan, Retry, Status, Step
from hounsfield.operations.runner import OperationRunner, Pace

KIND = "counting"
BATCH = 3
PACE = Pace(look=0.02, turn=0.05, beat=0.1, lease=1.0, grace=1.0)
"""Of impatient workers."""


async def create_table(url: str) -> None:
    """Where the job writes; nothing there forbids to write twice."""
    database = open_database(url)
    await database.write(
        lambda tx: tx.execute("CREATE TABLE counted (operation_id TEXT, part INTEGER, unit INTEGER, worker INTEGER)")
    )
    await database.close()


async def split(operation: Operation) -> Sequence[Plan]:
    """Parts of the sizes in the arguments."""
    return [Plan(size, {"size": size}) for size in operation.arguments["sizes"]]


async def step(operation: Operation, part: Part) -> Step:
    """The next BATCH units."""
    begin = int(part.cursor or 0)
    size = int(part.arguments["size"])
    end = min(begin + BATCH, size)

    async def unit(tx: Transaction) -> None:
        rows = [
            (operation.id, part.number, number, operation.arguments.get("worker", 0)) for number in range(begin, end)
        ]
        await tx.execute_many("INSERT INTO counted (operation_id, part, unit, worker) VALUES (?, ?, ?, ?)", rows)

    return Step(str(end), end - begin, end == size, unit, {"counted": end})


async def finish(tx: Transaction, operation: Operation, status: Status) -> str | None:
    """Leave one row that says how it ended."""
    values = operation.id, -1, [*Status].index(status)
    await tx.execute("INSERT INTO counted (operation_id, part, unit) VALUES (?, ?, ?)", *values)
    return None


RETRY = Retry(attempts=3, first_seconds=0.01, factor=2)
COUNTING = Job(KIND, step, split, finish, retry=RETRY)


async def begin(database: Database, *sizes: int, secret: bytes | None = None, alone: bool = False) -> str:
    """Start an operation whose parts have these sizes."""
    return await database.write(lambda tx: engine.start(tx, KIND, {"sizes": list(sizes)}, secret=secret, alone=alone))


async def counted(database: Database, operation_id: str) -> Counter[tuple[int, int]]:
    """How often each unit was written."""
    rows = await database.fetch("SELECT part, unit FROM counted WHERE operation_id = ? AND part > 0", operation_id)
    return Counter((part, unit) for part, unit in rows)


async def endings(database: Database, operation_id: str) -> list[Status]:
    """What the finish of the job was told."""
    rows = await database.fetch("SELECT unit FROM counted WHERE operation_id = ? AND part = -1", operation_id)
    return [[*Status][index] for (index,) in rows]


def everything(*sizes: int) -> Mapping[tuple[int, int], int]:
    """Each unit of parts of these sizes once."""
    return Counter((part, unit) for part, size in enumerate(sizes, 1) for unit in range(size))


async def look(database: Database, operation_id: str) -> Operation:
    """The operation."""
    found = await records.find(database, operation_id)
    assert found is not None
    return found


async def ended(database: Database, operation_id: str, seconds: float = 20) -> Operation:
    """The operation once it has ended; its progress never falls meanwhile."""
    percent = 0
    async with asyncio.timeout(seconds):
        while (found := await look(database, operation_id)).status.is_active:
            assert percent <= found.percent < 100
            percent = found.percent
            await asyncio.sleep(0.01)
    assert percent <= found.percent
    return found


async def work(url: str, seconds: float) -> None:
    """Be a worker process."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    database = open_database(url)

    async def slow(operation: Operation, part: Part) -> Step:
        await asyncio.sleep(seconds)
        return await step(operation, part)

    runner = asyncio.create_task(
        OperationRunner(database, [Job(KIND, slow, split, finish, retry=RETRY)], PACE).run(stop)
    )
    while not stop.is_set() and any(each.status.is_active for each in await records.page(database, 10, 0)):
        await asyncio.sleep(0.02)
    stop.set()
    await runner
    await database.close()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
