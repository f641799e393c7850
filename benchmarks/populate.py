"""Brings a population into an index through the server's own ingest code, without HTTP and without keeping files.

``python -m benchmarks.populate --data-dir DIR`` stores requests of many instances with
``archive.store.store``: headers are read and validated, metadata made, and each group of instances committed with its
sync, as for a client; only the files are let go. It goes on where it was stopped, and says how fast it was at the
beginning and at the end.
"""

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Lock
from pathlib import Path

from benchmarks import copied_rows, populate_orthanc
from benchmarks.headers import SeriesFiles
from benchmarks.load import WrongAnswer
from benchmarks.population import Population, describe
from benchmarks.postgres import cluster
from benchmarks.processes import cpu_seconds
from benchmarks.progress import Progress, Stretch, kept, tell
from hounsfield.archive.admission import FailureReason, StoreRequest
from hounsfield.archive.archive import Archive
from hounsfield.archive.store import store
from hounsfield.database import migrate
from hounsfield.database.connect import open_database
from hounsfield.index.partitions import DEFAULT
from hounsfield.storage.local import LocalStore
from hounsfield.storage.object_store import Source
from hounsfield.storage.spool import Spool, Upload

A_REQUEST = 100
"""Instances of one request."""
SIDE_BY_SIDE = 4
"""Requests a process has under way: their commits share a sync."""
STRETCHES = 10
"""Equal parts of the load whose rates are told."""
REPORT_SECONDS = 15.0


class Unkept(LocalStore):
    """An object store that forgets what is put: index and ingest code are measured, not the disk."""

    async def put(self, key: str, source: Source, written: Callable[[], None] | None = None) -> None:
        """Nothing, at once."""
        if written is not None:
            written()


def uploads(population: Population, spool: Spool, first: int, last: int) -> list[tuple[Upload, bytearray]]:
    """Instances ``first`` up to ``last`` of the population, each with its bytes, still to be written."""
    found = []
    files: SeriesFiles | None = None
    for study, series, number in population.slice(first, last):
        if files is None or files.series is not series:
            files = SeriesFiles(study, series)
        found.append((spool.receive(), files.file(number)))
    return found


async def store_request(archive: Archive, spool: Spool, population: Population, number: int) -> None:
    """One request of the load. Instances that are there already are as good as stored. Raises RuntimeError."""
    first = number * A_REQUEST
    received = uploads(population, spool, first, min(first + A_REQUEST, population.instances))
    for upload, content in received:
        await upload.write(content)
        await upload.finish()
    outcomes = await store(archive, [upload for upload, _ in received], StoreRequest(DEFAULT, 2, None))
    for outcome in outcomes:
        if outcome.failure not in (None, FailureReason.ALREADY_EXISTS) or outcome.warning is not None:
            raise RuntimeError(f"an instance was not stored: {outcome.failure} {outcome.comments}")


async def _work(url: str, population: Population, turn: "_Turn", pipe: Connection) -> None:
    with tempfile.TemporaryDirectory() as name:
        spool, files = Spool(Path(name) / "spool"), Unkept(Path(name))
        archive = Archive(open_database(url), files, timedelta(0), 1 << 20)

        async def client() -> None:
            while (number := turn.take()) is not None:
                await store_request(archive, spool, population, number)
                pipe.send(number)

        try:
            async with asyncio.TaskGroup() as clients:
                for _ in range(SIDE_BY_SIDE):
                    clients.create_task(client())
        finally:
            await archive.database.close()
            await files.close()
            spool.close()


class _Turn:
    """Deals the requests out to all processes, in order."""

    def __init__(self, first: int, last: int) -> None:
        context = multiprocessing.get_context("fork")
        self._next, self._last = context.Value("q", first, lock=False), last
        self._lock: Lock = context.Lock()

    def take(self) -> int | None:
        """The next request; None when there is none left."""
        with self._lock:
            number = int(self._next.value)
            if number >= self._last:
                return None
            self._next.value = number + 1
            return number


def _process(url: str, population: Population, turn: _Turn, pipe: Connection) -> None:
    sys.setswitchinterval(0.001)  # as the server's own processes
    asyncio.run(_work(url, population, turn, pipe))


def load(
    url: str,
    population: Population,
    progress: Progress,
    *,
    processes: int = 2,
    until: int | None = None,
    others: Sequence[int] = (),
) -> list[Stretch]:
    """Stores what is not there yet, up to instance ``until``; ``others`` are processes whose work is the load's, too.

    Returns the stretches of all runs. Raises RuntimeError when an instance is refused or a process dies.
    """
    migrate.ensure(url)
    end = min(population.instances, until or population.instances)
    size = max(A_REQUEST, population.instances // STRETCHES // A_REQUEST * A_REQUEST)
    while (first := progress.done) < end:
        last = min(end, (first // size + 1) * size)
        _stretch(url, population, progress, first // A_REQUEST, -(-last // A_REQUEST), processes, others)
    return progress.stretches


def _stretch(
    url: str,
    population: Population,
    progress: Progress,
    first: int,
    last: int,
    processes: int,
    others: Sequence[int],
) -> None:
    turn = _Turn(first, last)
    context = multiprocessing.get_context("fork")
    pipes: list[Connection] = []
    children = []
    before, start = cpu_seconds([os.getpid(), *others]), time.perf_counter()
    for _ in range(processes):
        receiver, sender = context.Pipe(duplex=False)
        children.append(context.Process(target=_process, args=(url, population, turn, sender), daemon=True))
        children[-1].start()
        sender.close()
        pipes.append(receiver)
    done: set[int] = set()
    reached, told = first, start
    while pipes:
        for pipe in wait(pipes):
            assert isinstance(pipe, Connection)
            try:
                done.add(pipe.recv())
            except EOFError:
                pipes.remove(pipe)
        while reached in done:
            done.remove(reached)
            reached += 1
        if time.perf_counter() - told > REPORT_SECONDS:
            told = time.perf_counter()
            progress.save(reached * A_REQUEST)
            rate = (reached - first) * A_REQUEST / (told - start)
            print(f"{reached * A_REQUEST:,} instances, {rate:,.0f} a second", file=sys.stderr, flush=True)
    for child in children:
        child.join()
    if reached < last:
        progress.save(reached * A_REQUEST)
        raise RuntimeError("a loading process ended before its time")
    stretch = Stretch(
        first * A_REQUEST,
        min(last * A_REQUEST, population.instances),
        time.perf_counter() - start,
        cpu_seconds([os.getpid(), *others]) - before,
    )
    progress.save(stretch.last, stretch)
    print(tell(stretch), file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Loads and tells how fast; 1 when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.populate", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data-dir", type=Path, help="a data directory of `hounsfield serve`, with SQLite")
    where.add_argument("--postgres-dir", type=Path, help="a PostgreSQL cluster that is made there, or was")
    where.add_argument("--orthanc-dir", type=Path, help="an Orthanc's storage, for comparison")
    parser.add_argument("--copy-from", type=Path, help="with --postgres-dir: the rows of this loaded --data-dir")
    parser.add_argument("--instances", type=int, default=1_000_000, help="(%(default)s)")
    parser.add_argument("--studies", type=int, help="(a tenth of the instances)")
    parser.add_argument("--seed", type=int, default=1, help="everything follows from it (%(default)s)")
    parser.add_argument("--until", type=int, help="stop when there are so many instances; another run goes on there")
    parser.add_argument("--processes", type=int, default=2, help="that store at a time (%(default)s)")
    options = parser.parse_args(argv)
    population = Population(options.seed, options.studies or max(1, options.instances // 10), options.instances)
    print(describe(population))
    try:
        stretches = _load(options, population)
    except (RuntimeError, OSError, WrongAnswer) as error:
        print(f"The load failed: {error}", file=sys.stderr)
        return 1
    for stretch in stretches:
        print(tell(stretch))
    if stretches:
        print(kept(stretches))
    return 0


def _load(options: argparse.Namespace, population: Population) -> list[Stretch]:
    directory: Path = options.data_dir or options.postgres_dir or options.orthanc_dir
    directory.mkdir(parents=True, exist_ok=True)
    progress = Progress(directory / "population.json", population)
    if options.orthanc_dir:
        populate_orthanc.load(directory, population, progress)
        return progress.stretches
    if options.data_dir:
        url = f"sqlite:///{directory.resolve() / 'index.db'}"
        return load(url, population, progress, processes=options.processes, until=options.until)
    with cluster(directory) as server:
        if options.copy_from is not None and not progress.done:
            copied = Progress(options.copy_from / "population.json", population).done
            copied_rows.copy(options.copy_from / "index.db", server.url)
            progress.save(copied)
        return load(
            server.url,
            population,
            progress,
            processes=options.processes,
            until=options.until,
            others=[server.pid],
        )


if __name__ == "__main__":
    sys.exit(main())
