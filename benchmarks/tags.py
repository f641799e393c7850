"""What adding an extended query tag costs on a large archive: ``python -m benchmarks.tags --data-dir DIR``.

On a copy of the archive one client stores single instances, first alone, then while the tag is indexed: the rate of
the re-index, the latency of the stores beside it, and the progress the operation resource tells.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import copies, servers
from benchmarks.answers import check_status, check_stored
from benchmarks.clients import BOUNDARY, JSON
from benchmarks.headers import PRIVATE_CREATOR, PRIVATE_TAG, SeriesFiles, protocol
from benchmarks.ingest import NEW
from benchmarks.load import WrongAnswer, percentile
from benchmarks.population import Population
from benchmarks.processes import stolen_seconds
from benchmarks.progress import Progress
from benchmarks.servers import Server
from benchmarks.wire import Answer, Connection

TAG = {"path": PRIVATE_TAG, "vr": "LO", "privateCreator": PRIVATE_CREATOR, "level": "Instance"}
"""Every instance has it: the most a re-index can have to do for one tag."""
POLL_SECONDS = 0.5
LIMIT_SECONDS = 3_600.0
STORED = 100_000
"""More instances than a client stores one by one in that time."""
ALONE_SECONDS = 20.0


@dataclass(frozen=True)
class Reindex:
    """What was seen. Times in seconds; ``progress`` are pairs of seconds since the tag was added and per cent.

    ``stolen`` is the share of the processors' time that the host gave to other machines while the tag was indexed.
    """

    instances: int
    seconds: float
    alone: list[float]
    beside: list[float]
    progress: list[tuple[float, int]]
    stolen: float


class Storing:
    """A client that stores one instance a request until it is told to stop; ``latencies`` grow meanwhile."""

    def __init__(self, server: Server, new: Population, first: int) -> None:
        self.latencies: list[float] = []
        self.trouble: Exception | None = None
        self._server, self._stop = server, threading.Event()
        self._files = _files(new, first)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Storing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with Connection(self._server.base) as connection:
                while not self._stop.is_set():
                    sop, file = next(self._files)
                    start = time.perf_counter()
                    answer = _store(connection, file)
                    self.latencies.append(time.perf_counter() - start)
                    check_stored(answer, [sop])
        except Exception as error:  # told by whoever waits for it
            self.trouble = error


def _files(new: Population, first: int) -> Iterator[tuple[str, bytes]]:
    for study, series, number in new.slice(first, new.instances):
        yield series.sop(number), bytes(SeriesFiles(study, series).file(number))


def _store(connection: Connection, file: bytes) -> Answer:
    body = b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n--%s--\r\n" % (BOUNDARY, file, BOUNDARY)
    content_type = f'multipart/related; type="application/dicom"; boundary={BOUNDARY.decode()}'
    return connection.exchange([connection.base.post("/studies", content_type, JSON, len(body)), body], whole=True)


def measure(server: Server, population: Population, alone_seconds: float = ALONE_SECONDS) -> Reindex:
    """Stores alone, then adds the tag and stores until it is ready. Raises WrongAnswer when it does not become so."""
    new = Population(NEW, STORED // 10, STORED)
    with Storing(server, new, 0) as alone:
        time.sleep(alone_seconds)
    _check(alone)
    with Connection(server.base) as connection, Storing(server, new, STORED // 2) as beside:
        start, stolen = time.perf_counter(), stolen_seconds()
        operation = _add(connection)
        progress: list[tuple[float, int]] = []
        while (state := _json(connection, f"/operations/{operation}"))["status"] in ("notStarted", "running"):
            progress.append((time.perf_counter() - start, int(state["percentComplete"])))
            if progress[-1][0] > LIMIT_SECONDS or beside.trouble is not None:
                break
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - start
        if state["status"] != "succeeded":
            raise WrongAnswer(f"the re-index is {state['status']} after {seconds:.0f} s; {beside.trouble or ''}")
        if any(one > two for (_, one), (_, two) in pairwise(progress)):
            raise WrongAnswer("the progress went back")
        _check_found(connection, population)
    _check(beside)
    share = (stolen_seconds() - stolen) / seconds / (os.cpu_count() or 1)
    return Reindex(population.instances, seconds, alone.latencies, beside.latencies, progress, share)


def _check(storing: Storing) -> None:
    if storing.trouble is not None:
        raise WrongAnswer(f"a store went wrong: {storing.trouble}")


def _add(connection: Connection) -> str:
    body = json.dumps([TAG]).encode()
    request = connection.base.post("/extendedquerytags", "application/json", "application/json", len(body))
    answer = connection.exchange([request, body], whole=True)
    check_status(answer, (202,))
    return str(json.loads(answer.body)["id"])


def _json(connection: Connection, path: str) -> dict[str, Any]:
    answer = connection.exchange([connection.base.get(path, "application/json")], whole=True)
    check_status(answer, (200, 202))
    found: dict[str, Any] = json.loads(answer.body)
    return found


def _check_found(connection: Connection, population: Population) -> None:
    """The tag must find the instances of the oldest study with its value, which the re-index came to last."""
    study = population.all[0]
    asked = f"/studies/{study.uid}/instances?{PRIVATE_TAG}={protocol(study).replace(' ', '%20')}&limit=200"
    answer = connection.exchange([connection.base.get(asked, JSON)], whole=True)
    check_status(answer)
    found = len(json.loads(answer.body))
    if found != min(200, study.instances):
        raise WrongAnswer(f"the tag finds {found} of {study.instances} instances of a study")


def tell(found: Reindex) -> str:
    """The figures, as a table."""
    lines = ["| | p50 ms | p95 ms |", "| --- | ---: | ---: |"]
    values = {}
    for name, latencies in (("Store alone", found.alone), ("Store while the tag is indexed", found.beside)):
        ordered = sorted(latencies)
        values[name] = [1e3 * percentile(ordered, share) for share in (0.5, 0.95)]
        lines.append(f"| {name}, {len(ordered):,} instances | {values[name][0]:.2f} | {values[name][1]:.2f} |")
    one, two = values.values()
    lines.append(f"| ÷ | **{two[0] / one[0]:.2f}** | **{two[1] / one[1]:.2f}** |")
    rate = found.instances / found.seconds
    steps = len({percent for _, percent in found.progress})
    lines.append("")
    lines.append(
        f"{found.instances:,} instances in {found.seconds:.1f} s: **{rate:,.0f} a second**; the operation told "
        f"{steps} different percentages; other machines took {found.stolen:.0%} of the processors meanwhile"
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints the table; 1 when an answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tags", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data-dir", type=Path, help="a loaded data directory of `hounsfield serve`, with SQLite")
    where.add_argument("--postgres-dir", type=Path, help="a loaded PostgreSQL cluster")
    parser.add_argument("--instances", type=int, default=1_000_000, help="(%(default)s)")
    parser.add_argument("--studies", type=int, help="(a tenth of the instances)")
    parser.add_argument("--seed", type=int, default=1, help="of the population (%(default)s)")
    parser.add_argument("--alone", type=float, default=ALONE_SECONDS, help="seconds of stores before (%(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path("/var/tmp"), help="where copies are made (%(default)s)")
    options = parser.parse_args(argv)
    population = Population(options.seed, options.studies or max(1, options.instances // 10), options.instances)
    directory: Path = options.data_dir or options.postgres_dir
    if Progress(directory / "population.json", population).done < population.instances:
        parser.error(f"{directory} is not loaded: `python -m benchmarks.populate`")
    try:
        with ExitStack() as stack:
            make = copies.of_sqlite if options.data_dir else copies.of_postgres
            copy = stack.enter_context(make(directory, options.work_dir))
            server = servers.start_archive(copy.name, copy.directory, copy.directory, copy.database)
            stack.callback(server.stop)
            print(f"{copy.name}: {tell(measure(server, population, options.alone))}")
    except (RuntimeError, OSError, WrongAnswer) as error:
        print(f"The run failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
