"""A worker process that dies at every named point, and one of two that share an operation (hounsfield.faults)."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hounsfield.database.engine import Database
from hounsfield.faults import POINTS
from hounsfield.operations import engine
from hounsfield.operations.job import Operation, Status
from tests.operations import counting

HERE = [name for name in POINTS if name.startswith("operation")]
ELSEWHERE = ("operation: started", "operation: cancel asked")
"""Points in the process of whoever starts and cancels."""
AILING = ("operation: failure recorded", "operation: given up")
"""Points that a worker reaches only where something fails."""


@contextmanager
def worker(url: str, seconds: float = 0.0, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker process; killed if it does not end by itself."""
    command = [sys.executable, "-m", "tests.operations.counting", url, str(seconds)]
    process = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def over(process: "subprocess.Popen[bytes]") -> int:
    """The exit code."""
    return await asyncio.get_running_loop().run_in_executor(None, process.wait, 30)


async def check(database: Database, operation_id: str, status: Status, *sizes: int) -> Operation:
    """It ended, once, and everything was done once."""
    found = await counting.look(database, operation_id)
    assert found.status is status
    assert await counting.endings(database, operation_id) == [status]
    assert set((await counting.counted(database, operation_id)).values()) <= {1}
    if status is Status.SUCCEEDED:
        assert await counting.counted(database, operation_id) == counting.everything(*sizes)
    assert await database.fetch("SELECT 1 FROM operation_part") == []
    return found


@pytest.mark.parametrize("point", [name for name in HERE if name not in ELSEWHERE + AILING])
async def test_a_worker_that_dies(url: str, database: Database, point: str) -> None:
    sizes = 7, 4
    operation_id = await counting.begin(database, *sizes)
    status = Status.SUCCEEDED
    if point == "operation: stopped":
        await engine.request_cancel(database, operation_id)
        status = Status.CANCELED
    with worker(url, 5.0 if point == "operation: given back" else 0.0, HOUNSFIELD_FAULT=point) as process:
        if point == "operation: given back":
            async with asyncio.timeout(60):
                while not await database.fetch("SELECT 1 FROM operation_part WHERE owner IS NOT NULL AND number > 0"):
                    await asyncio.sleep(0.01)
            # In the middle of a step.
            await engine.request_cancel(database, operation_id)
            status = Status.CANCELED
        assert await over(process) == -signal.SIGKILL
    with worker(url) as process:
        assert await over(process) == 0
    await check(database, operation_id, status, *sizes)


@pytest.mark.parametrize("point", AILING)
async def test_a_worker_that_dies_over_a_failure(url: str, database: Database, point: str) -> None:
    # Arguments without sizes: the split fails.
    operation_id = await database.write(lambda tx: engine.start(tx, counting.KIND, {}))
    with worker(url, HOUNSFIELD_FAULT=point) as process:
        assert await over(process) == -signal.SIGKILL
    with worker(url) as process:
        assert await over(process) == 0
    found = await check(database, operation_id, Status.FAILED)
    assert found.error == "A step failed 3 times. The last time: KeyError."


async def test_a_start_that_dies_before_its_commit_started_nothing(url: str, database: Database) -> None:
    program = (
        "import asyncio, sys\n"
        "from hounsfield.database.connect import open_database\n"
        "from tests.operations.counting import begin\n"
        "async def main():\n"
        "    await begin(open_database(sys.argv[1]), 3)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "HOUNSFIELD_FAULT": "operation: started"}
    done = subprocess.run([sys.executable, "-c", program, url], env=environment, check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL
    assert await database.fetch("SELECT 1 FROM operation") == []
    assert await database.fetch("SELECT 1 FROM operation_part") == []


async def test_one_of_two_that_share_an_operation_is_killed(url: str, database: Database) -> None:
    sizes = 9, 9, 9, 9
    operation_id = await counting.begin(database, *sizes)
    with worker(url, 0.2) as first, worker(url, 0.2) as second:
        async with asyncio.timeout(60):
            # One alone holds two at most.
            while len(await database.fetch("SELECT 1 FROM operation_part WHERE owner IS NOT NULL")) < 3:
                await asyncio.sleep(0.005)
        first.kill()
        assert await over(second) == 0
    await check(database, operation_id, Status.SUCCEEDED, *sizes)


async def test_a_worker_told_to_stop_ends_at_once_and_the_next_goes_on(url: str, database: Database) -> None:
    sizes = 30, 30
    operation_id = await counting.begin(database, *sizes)
    with worker(url, 0.05) as process:
        async with asyncio.timeout(60):
            while (await counting.look(database, operation_id)).done < 6:
                await asyncio.sleep(0.01)
        process.terminate()
        assert await over(process) == 0
    assert await database.fetch("SELECT 1 FROM operation_part WHERE owner IS NOT NULL") == []
    assert (await counting.look(database, operation_id)).status is Status.RUNNING
    with worker(url) as process:
        assert await over(process) == 0
    await check(database, operation_id, Status.SUCCEEDED, *sizes)


def test_every_point_is_tried() -> None:
    assert set(ELSEWHERE + AILING) < set(HERE)
