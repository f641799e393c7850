"""Brings a population into Orthanc, in the fastest way it was seen to take instances: one a request, four clients.

Without syncs, as nothing is measured here; searches are measured afterwards on an Orthanc that is started anew.
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.answers import check_status
from benchmarks.headers import SeriesFiles
from benchmarks.load import WrongAnswer
from benchmarks.population import Population
from benchmarks.progress import Progress, Stretch
from benchmarks.servers import start_peer
from benchmarks.wire import Base, Connection

CLIENTS = 4
BLOCK = 1_000
"""Instances after which progress is saved."""
REPORTED_BLOCKS = 10


def load(directory: Path, population: Population, progress: Progress) -> None:
    """Stores what is not there yet. Raises WrongAnswer when an instance is refused, RuntimeError without an Orthanc."""
    server = start_peer("orthanc-fast", directory)
    root = Base(server.base.host, server.base.port, "")
    start, begun = time.perf_counter(), progress.done
    try:
        with ThreadPoolExecutor(CLIENTS) as clients:
            while (first := progress.done) < population.instances:
                last = min(first + BLOCK, population.instances)
                files = _files(population, first, last)
                for _ in clients.map(lambda part: _send(root, part), [files[one::CLIENTS] for one in range(CLIENTS)]):
                    pass
                progress.save(last)
                if last // BLOCK % REPORTED_BLOCKS == 0:
                    rate = (last - begun) / (time.perf_counter() - start)
                    print(f"{last:,} instances, {rate:,.0f} a second", file=sys.stderr, flush=True)
    finally:
        server.stop()
    if progress.done > begun:
        progress.save(progress.done, Stretch(begun, progress.done, time.perf_counter() - start, 0.0))


def _files(population: Population, first: int, last: int) -> list[bytes]:
    return [bytes(SeriesFiles(study, series).file(number)) for study, series, number in population.slice(first, last)]


def _send(root: Base, files: Sequence[bytes]) -> None:
    with Connection(root) as connection:
        for file in files:
            head = root.post("/instances", "application/dicom", "application/json", len(file))
            answer = connection.exchange([head, file], whole=True)
            check_status(answer)
            if b'"Failure"' in answer.body:
                raise WrongAnswer("Orthanc refused an instance")
