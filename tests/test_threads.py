"""Threads for jobs that wait for a disk."""

import asyncio
import threading

import pytest

from hounsfield.threads import Threads


async def test_jobs_are_done_side_by_side_and_told_of() -> None:
    threads = Threads(2, "test")
    both = threading.Barrier(2)

    def fail() -> None:
        raise KeyError("x")

    try:
        async with asyncio.timeout(10):
            assert sorted(await asyncio.gather(*(threads.run(both.wait) for _ in range(4)))) == [0, 0, 1, 1]
            assert await threads.run(divmod, 7, 2) == (3, 1)
            with pytest.raises(KeyError):
                await threads.run(fail)
    finally:
        threads.close()
    with pytest.raises(RuntimeError):
        threads.run(fail)


@pytest.mark.parametrize("for_readers", [False, True])
async def test_what_nobody_waits_for_is_read_for_nobody(for_readers: bool) -> None:
    threads = Threads(1, "test", for_readers=for_readers)
    release, done = threading.Event(), list[str]()

    def wait() -> None:
        release.wait(10)
        done.append("begun")

    try:
        begun = threads.run(wait)
        queued = threads.run(done.append, "queued")
        queued.cancel()
        release.set()
        await begun
        await threads.run(done.append, "last")
    finally:
        release.set()
        threads.close()
    assert done == (["begun", "last"] if for_readers else ["begun", "queued", "last"])
