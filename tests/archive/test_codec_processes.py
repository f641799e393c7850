"""The pool of codec processes: results, errors, crashes, time, limits, ends."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from hounsfield.archive.codec_processes import CodecFailure, CodecProcesses, CodecsBusy, Limits
from hounsfield.errors import InternalError, NotAcceptable, NotFound
from tests.archive.codec_work import (
    allocate,
    be_killed,
    crash,
    double,
    fail,
    niceness,
    pid,
    refuse,
    sleep,
    sleep_noting,
    sleep_with_signs_of_life,
)


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[CodecProcesses]:
    processes = CodecProcesses(Limits(processes=2, waiting=3, seconds=20, memory_bytes=1 << 30))
    yield processes
    await processes.close()
    assert processes.pids == []


def exists(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


async def test_large_results_come_back_whole(pool: CodecProcesses) -> None:
    data = os.urandom(9_000_001)
    assert await pool.run(double, data) == data + data


async def test_nothing_is_started_before_there_is_work(pool: CodecProcesses) -> None:
    assert pool.pids == []
    assert [int(await pool.run(pid))] == pool.pids
    assert int(await pool.run(niceness)) >= min(19, os.nice(0) + 10)


async def test_work_runs_side_by_side_up_to_the_limit(pool: CodecProcesses) -> None:
    found = await asyncio.gather(*(pool.run(sleep, 0.2) for _ in range(5)))
    assert found == [b"slept"] * 5
    assert len(pool.pids) == 2


async def test_a_crash_fails_only_its_own_request(pool: CodecProcesses) -> None:
    results = await asyncio.gather(
        pool.run(crash), pool.run(sleep, 0.5), pool.run(double, b"x"), return_exceptions=True
    )
    assert isinstance(results[0], CodecFailure) and results[0].status == 406
    assert results[1] == b"slept" and results[2] == b"xx"
    assert await pool.run(double, b"y") == b"yy"


async def test_work_whose_process_is_killed_is_done_by_another(pool: CodecProcesses, tmp_path: Path) -> None:
    work = asyncio.create_task(pool.run(sleep_noting, str(tmp_path), 2.0))
    while not (begun := list(tmp_path.iterdir())):
        await asyncio.sleep(0.01)
    os.kill(int(begun[0].name), signal.SIGKILL)
    assert await work == b"slept"
    assert len(list(tmp_path.iterdir())) == 2


async def test_work_that_is_killed_twice_is_given_up(pool: CodecProcesses, tmp_path: Path) -> None:
    with pytest.raises(CodecFailure):
        await pool.run(be_killed, str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    assert await pool.run(double, b"x") == b"xx"


async def test_nobody_misses_processes_killed_while_idle(pool: CodecProcesses) -> None:
    await asyncio.gather(pool.run(sleep, 0.1), pool.run(sleep, 0.1))
    killed = pool.pids
    for process in killed:
        os.kill(process, signal.SIGKILL)
    found = await asyncio.gather(*(pool.run(double, data) for data in (b"x", b"y")))
    assert found == [b"xx", b"yy"]
    assert len(killed) == 2 and not {*killed} & {*pool.pids}


async def test_silence_is_ended_and_signs_of_life_are_heard() -> None:
    pool = CodecProcesses(Limits(processes=2, seconds=1.5))
    try:
        await asyncio.gather(pool.run(double, b"x"), pool.run(double, b"y"))  # both are started
        patient = asyncio.create_task(pool.run(sleep_with_signs_of_life, 3.0))
        with pytest.raises(CodecFailure, match="too long"):
            await pool.run(sleep, 30)
        assert await patient == b"slept"
        assert await pool.run(double, b"x") == b"xx"
    finally:
        await pool.close()


async def test_errors_of_ours_keep_their_status_others_hide_their_text(pool: CodecProcesses) -> None:
    with pytest.raises(NotFound, match="There is no such frame"):
        await pool.run(refuse)
    with pytest.raises(InternalError) as caught:
        await pool.run(fail, "DOE^JANE")
    assert "KeyError" in caught.value.message and "DOE" not in caught.value.message


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is the kernel's")
async def test_memory_is_limited(pool: CodecProcesses) -> None:
    with pytest.raises(NotAcceptable, match="memory"):
        await pool.run(allocate, 2 << 30)
    assert await pool.run(allocate, 1 << 20) == b"\0"


async def test_beyond_the_queue_work_is_refused(pool: CodecProcesses) -> None:
    work = [asyncio.create_task(pool.run(sleep, 0.5)) for _ in range(5)]
    await asyncio.sleep(0.05)
    with pytest.raises(CodecsBusy):
        await pool.run(double, b"x")
    assert await asyncio.gather(*work) == [b"slept"] * 5
    tight = CodecProcesses(Limits(waiting_bytes=1000))
    with pytest.raises(CodecsBusy):
        await tight.run(double, bytes(2000))
    await tight.close()


async def test_idle_processes_end_and_new_ones_come() -> None:
    pool = CodecProcesses(Limits(idle_seconds=0.4))
    first = int(await pool.run(pid))
    deadline = time.monotonic() + 10
    while pool.pids and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert pool.pids == []
    assert int(await pool.run(pid)) != first
    await pool.close()


async def test_a_cancelled_caller_leaves_a_process_that_works(pool: CodecProcesses) -> None:
    await pool.run(double, b"x")
    (process,) = pool.pids
    work = asyncio.create_task(pool.run(sleep, 0.3))
    await asyncio.sleep(0.1)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    waiting = [asyncio.create_task(pool.run(sleep, 0.2)) for _ in range(4)]
    await asyncio.sleep(0.05)
    waiting[3].cancel()
    await asyncio.gather(*waiting[:3])
    assert process in pool.pids
    assert await pool.run(double, b"z") == b"zz"


async def test_closing_ends_what_is_under_way() -> None:
    pool = CodecProcesses(Limits(processes=1))
    work = [asyncio.create_task(pool.run(sleep, 30)) for _ in range(2)]
    await asyncio.sleep(0.5)
    (process,) = pool.pids
    await pool.close()
    results = await asyncio.gather(*work, return_exceptions=True)
    assert [type(result) for result in results] == [CodecsBusy, CodecsBusy]
    assert not exists(process)


_OWNER = """
import asyncio, sys
from hounsfield.archive.codec_processes import CodecProcesses
from tests.archive.codec_work import pid, sleep

async def main():
    pool = CodecProcesses()
    print(int(await pool.run(pid)), flush=True)
    await pool.run(sleep, 60)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends with its piece of work")
def test_a_killed_owner_takes_its_processes_along() -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, env=environment, cwd=root)
    assert owner.stdout is not None
    process = int(owner.stdout.readline())
    assert exists(process)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 10
    while exists(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not exists(process)
