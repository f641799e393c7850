"""How fast, how closely and in how much memory DICOM Cast follows a change feed: ``python -m benchmarks.backlog``.

``embedded``: a server that holds studies nobody has cast is started; timed until its FHIR store has them.
``http``, ``reference``: the same feed read over HTTP and written to another server's FHIR store over HTTP, as
``hounsfield cast`` does, and as the reference does: windows of ten, one entry after the other, each with its own
searches and transaction.
``lag``: instances are stored at a steady rate, and ``/cast/status`` is asked how far FHIR is behind.
``memory``: a simulated feed of a million entries into a FHIR server that forgets; what the process holds meanwhile.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.answers import check_status
from benchmarks.clients import store
from benchmarks.load import WrongAnswer, percentile
from benchmarks.processes import memory_bytes
from benchmarks.servers import Server
from benchmarks.studies import SMALL, Instance, Series
from benchmarks.wire import Base, Connection
from hounsfield.cast.feed import DEFAULT_PARTITION, Action, FeedEntry, FeedPage, State
from hounsfield.cast.http_feed import HttpFeedReader
from hounsfield.cast.journal import Journal
from hounsfield.cast.options import CastOptions
from hounsfield.cast.state import CastState
from hounsfield.cast.synchroniser import Synchroniser
from hounsfield.cast.worker import CastWorker
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.database.migrate import upgrade
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.target import Match, Resource

MODES = ("embedded", "http", "reference", "lag", "memory")
SERIES, SLICES = 3, 20
"""Of a study."""
A_REQUEST = 20
CLIENTS = 4
POLL_SECONDS = 0.05
LIMIT_SECONDS = 600.0
PAGE = 500
WINDOW = 10
"""What the reference reads at once."""
LAG_STUDIES_FROM = 50_000_000
ROOT = "http://dicom.example/"


def instances(seed: int, first: int, last: int) -> Iterator[Instance]:
    """All instances of the studies from ``first`` up to ``last``, study after study."""
    for study in range(first, last):
        for series in range(SERIES):
            made = Series(SMALL, seed, study, series + 1)
            yield from (made.instance(number) for number in range(SLICES))


def load(server: Server, seed: int, studies: int) -> None:
    """Store so many studies, a series a request."""
    problems: list[Exception] = []

    def client(place: int) -> None:
        try:
            with Connection(server.base) as connection:
                for study in range(place, studies, CLIENTS):
                    batch = list(instances(seed, study, study + 1))
                    for start in range(0, len(batch), A_REQUEST):
                        store(connection, batch[start : start + A_REQUEST])
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=client, args=(place,)) for place in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def status(connection: Connection) -> dict[str, Any]:
    """``GET /cast/status``."""
    answer = connection.exchange([connection.base.get("/cast/status", "application/json")], whole=True)
    check_status(answer)
    found: dict[str, Any] = json.loads(answer.body)
    return found


def root_of(server: Server) -> Base:
    """Outside any version."""
    return Base(server.base.host, server.base.port, "")


@contextmanager
def archive(directory: Path, name: str, *, casts: bool) -> Iterator[Server]:
    """``hounsfield serve`` on a data directory of this name, which may be there already."""
    logs = directory / f"{name}-log"
    logs.mkdir(exist_ok=True)
    start = servers.start_casting if casts else servers.start_archive
    server = start("hounsfield", directory / name, logs)
    try:
        yield server
    finally:
        server.stop()


def embedded(directory: Path, entries: int) -> float:
    """Entries a second from the moment the server is ready until FHIR has all of them."""
    with archive(directory, "archive", casts=True) as server, Connection(root_of(server)) as connection:
        began = time.perf_counter()
        _wait(connection, entries)
        seconds = time.perf_counter() - began
        _check(connection, entries)
    return entries / seconds


def _wait(connection: Connection, entries: int) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while status(connection)["syncedSequence"] < entries:
        if time.monotonic() > deadline:
            raise WrongAnswer(f"FHIR is still behind after {LIMIT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _check(connection: Connection, entries: int) -> None:
    """Every study is in FHIR, no entry was filed as an error."""
    if errors := sum(status(connection)["errorCounts"].values()):
        raise WrongAnswer(f"{errors} rows in the error tables")
    _check_studies(connection, entries)


def _check_studies(connection: Connection, entries: int) -> None:
    path = "/fhir/ImagingStudy?_summary=count"
    answer = connection.exchange([connection.base.get(path, "application/fhir+json")], whole=True)
    check_status(answer)
    found, expected = json.loads(answer.body)["total"], entries // (SERIES * SLICES)
    if found < expected:  # more where the feed ends amid some of them
        raise WrongAnswer(f"FHIR has {found} studies of {expected}")


def over_http(directory: Path, entries: int, *, one_by_one: bool) -> float:
    """Entries a second from one server's feed to another's FHIR store."""
    name = "fhir-one-by-one" if one_by_one else "fhir"
    with archive(directory, "archive", casts=False) as source, archive(directory, name, casts=False) as target:
        seconds = asyncio.run(_over_http(directory / f"{name}.db", source, target, entries, one_by_one=one_by_one))
        with Connection(root_of(target)) as connection:
            _check_studies(connection, entries)
    return entries / seconds


async def _over_http(path: Path, source: Server, target: Server, entries: int, *, one_by_one: bool) -> float:
    feed = Limited(HttpFeedReader(_url(source)), entries)
    fhir = HttpFhirTarget(f"{_url(target)}/fhir")
    async with database_at(path) as database:
        began = time.perf_counter()
        try:
            if one_by_one:
                await _as_the_reference(feed, fhir, database)
            else:
                await _as_worker(feed, fhir, database, entries)
            return time.perf_counter() - began
        finally:
            await feed.close()
            await fhir.close()


class Limited:
    """A feed that ends earlier."""

    def __init__(self, feed: HttpFeedReader, entries: int) -> None:
        self._feed, self._entries = feed, entries

    async def latest(self) -> int:
        return min(await self._feed.latest(), self._entries)

    async def page(self, after: int, limit: int) -> FeedPage:
        return await self._feed.page(after, min(limit, self._entries - after))

    async def close(self) -> None:
        await self._feed.close()


async def _as_the_reference(feed: Limited, fhir: HttpFhirTarget, database: Database) -> None:
    state = CastState(database)
    journal = Journal(state, fhir.endpoint, ROOT)
    synchroniser = Synchroniser(fhir, state, journal, CastOptions(ROOT), lambda: None)
    position = await journal.resume()
    while await feed.latest() > position:
        for entry in (await feed.page(position, WINDOW)).entries:
            await synchroniser.process([entry], entry.sequence)
            position = entry.sequence


async def _as_worker(feed: Any, fhir: Any, database: Database, entries: int) -> None:
    stop = asyncio.Event()
    worker = CastWorker(feed, fhir, database, CastOptions(ROOT, timedelta(seconds=1), page_size=PAGE))
    running = asyncio.create_task(worker.run(stop))
    state = CastState(database)
    while await state.position() < entries:
        await asyncio.wait([running], timeout=POLL_SECONDS)
    stop.set()
    await running


@asynccontextmanager
async def database_at(path: Path) -> Any:
    """An SQLite database of our own."""
    upgrade(f"sqlite:///{path}")
    database = open_database(f"sqlite:///{path}")
    try:
        yield database
    finally:
        await database.close()


def _url(server: Server) -> str:
    return f"http://{server.base.host}:{server.base.port}"


def lag(directory: Path, seed: int, rate: float, seconds: float) -> list[float]:
    """Seconds FHIR was behind, sampled while instances were stored at ``rate``."""
    samples: list[float] = []
    done = threading.Event()

    def watch(base: Base) -> None:
        with Connection(base) as connection:
            while not done.wait(POLL_SECONDS):
                samples.append(float(status(connection)["lagSeconds"] or 0.0))

    with archive(directory, "lag", casts=True) as server, Connection(server.base) as connection:
        watching = threading.Thread(target=watch, args=(root_of(server),))
        watching.start()
        began = time.perf_counter()
        number = 0
        for instance in instances(seed, LAG_STUDIES_FROM, LAG_STUDIES_FROM + 10**6):
            number += 1
            pause = began + number / rate - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            store(connection, [instance])
            if time.perf_counter() - began > seconds:
                break
        done.set()
        watching.join()
        reached = number / (time.perf_counter() - began)
        if reached < 0.9 * rate:
            raise WrongAnswer(f"only {reached:.0f} instances a second were stored")
        with Connection(root_of(server)) as asking:
            _wait(asking, number)
    return samples


class SimulatedFeed:
    """So many entries, made when they are read."""

    def __init__(self, entries: int) -> None:
        self._entries = entries

    async def latest(self) -> int:
        return self._entries

    async def page(self, after: int, limit: int) -> FeedPage:
        last = min(after + limit, self._entries)
        return FeedPage([_simulated(sequence) for sequence in range(after + 1, last + 1)], last)

    async def close(self) -> None:
        """Nothing to release."""


def _simulated(sequence: int) -> FeedEntry:
    study, place = divmod(sequence - 1, SERIES * SLICES)
    series = f"1.2.3.{study}.{place // SLICES}"
    values: dict[str, tuple[str, Any]] = {
        "00080016": ("UI", SMALL.sop_class),
        "00080020": ("DA", "20240131"),
        "00080030": ("TM", "101112"),
        "00080050": ("SH", f"A{study}"),
        "00080060": ("CS", "CT"),
        "00081030": ("LO", "Chest"),
        "0008103E": ("LO", "Axial"),
        "00100010": ("PN", {"Alphabetic": f"Doe^Jane {study}"}),
        "00100020": ("LO", f"P{study}"),
        "00100040": ("CS", "F"),
        "00200011": ("IS", place // SLICES),
        "00200013": ("IS", place % SLICES),
    }
    metadata = {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in values.items()}
    uids = (f"1.2.3.{study}", series, f"{series}.{place}")
    return FeedEntry(sequence, *uids, Action.CREATE, State.CURRENT, DEFAULT_PARTITION, metadata)


class Forgetful:
    """A FHIR server that accepts everything and finds nothing."""

    endpoint = "http://forgetful.example/fhir"

    async def capabilities(self) -> Resource:
        return {"fhirVersion": "4.0.1", "rest": [{"interaction": [{"code": "transaction"}]}]}

    async def search(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> list[Match]:
        return []

    async def transaction(self, bundle: Resource) -> Resource:
        return {"resourceType": "Bundle", "entry": [{"response": {"status": "201"}} for _ in bundle["entry"]]}

    async def close(self) -> None:
        """Nothing to release."""


async def memory(path: Path, entries: int) -> list[tuple[int, int]]:
    """Position, and bytes this process holds then, ten times on the way."""
    samples: list[tuple[int, int]] = []

    async def watch(state: CastState) -> None:
        while True:
            position = await state.position()
            if position >= (len(samples) + 1) * entries // 10:
                samples.append((position, memory_bytes([os.getpid()])))
            await asyncio.sleep(POLL_SECONDS)

    async with database_at(path) as database:
        watching = asyncio.create_task(watch(CastState(database)))
        await _as_worker(SimulatedFeed(entries), Forgetful(), database, entries)
        await asyncio.sleep(2 * POLL_SECONDS)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    return samples


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. 1 if what was cast is not what it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backlog", description=__doc__)
    parser.add_argument("--mode", action="append", choices=MODES, help="what to measure (all but memory)")
    parser.add_argument("--studies", type=int, default=1000, help="studies of 3 × 20 instances (%(default)s)")
    parser.add_argument("--http-studies", type=int, default=50, help="of those, over HTTP (%(default)s)")
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries of the simulated feed (%(default)s)")
    parser.add_argument("--rate", type=float, default=50.0, help="instances a second stored for lag (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="identifiers follow from it")
    parser.add_argument("--work-dir", type=Path, default=Path("/var/tmp"), help="where data are kept (%(default)s)")
    options = parser.parse_args(argv)
    directory = Path(tempfile.mkdtemp(prefix="hounsfield-backlog-", dir=options.work_dir))
    try:
        for mode in options.mode or MODES[:-1]:
            print(_measured(mode, directory, options), flush=True)
    except WrongAnswer as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory)
    return 0


def _measured(mode: str, directory: Path, options: argparse.Namespace) -> str:
    """Measure, and say what was seen."""
    entries = options.studies * SERIES * SLICES
    few = min(options.http_studies, options.studies) * SERIES * SLICES
    if mode in ("embedded", "http", "reference") and not (directory / "archive").exists():
        with archive(directory, "archive", casts=False) as server:
            load(server, options.seed, options.studies)
    if mode == "embedded":
        return f"embedded: {embedded(directory, entries):.0f} entries/s ({entries} entries)"
    if mode in ("http", "reference"):
        rate = over_http(directory, few, one_by_one=mode == "reference")
        return f"{mode}: {rate:.0f} entries/s ({few} entries)"
    if mode == "lag":
        samples = lag(directory, options.seed, options.rate, options.seconds)
        usual, most, worst = (percentile(sorted(samples), share) for share in (0.5, 0.95, 1.0))
        return f"lag at {options.rate:g} instances/s: median {usual:.2f} s, p95 {most:.2f} s, worst {worst:.2f} s"
    found = asyncio.run(memory(directory / "memory.db", options.entries))
    sizes = ", ".join(f"{position:,}: {size / 2**20:.0f} MB" for position, size in found)
    return f"memory at entry {sizes}"


if __name__ == "__main__":
    raise SystemExit(main())
