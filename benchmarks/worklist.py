"""Searches of a large worklist, and the delay of event reports: ``python -m benchmarks.worklist --data-dir DIR``.

The worklist is loaded once, by the code that a create runs but for HTTP, and kept in its directory. Then one client
searches, and many subscribers listen while one client changes workitems.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import websockets

from benchmarks import postgres, servers
from benchmarks.clients import JSON
from benchmarks.load import WrongAnswer, percentile
from benchmarks.servers import Server
from benchmarks.wire import Base, Connection
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database, Transaction
from hounsfield.database.migrate import upgrade
from hounsfield.index.partitions import DEFAULT_KEY
from hounsfield.worklist import dataset as datasets
from hounsfield.worklist.dataset import element
from hounsfield.worklist.index import index_values
from tests.worklist import make

BATCH = 1_000
PAGE = 100
FAMILIES = ("Smith", "Doe", "García", "Müller", "Nguyen", "Kowalski", "Yamada", "Okafor", "Ivanova", "Silva")
GIVEN = ("Ann", "John", "María", "Jörg", "Linh", "Piotr", "Hanako", "Chidi", "Olga", "João", "Mary Ann", "Jo")
STATIONS, CLASSES, LOCATIONS = 40, 8, 12
WARM_UP = 3
EVENTS = "EVENTS"
"""Station of the workitems that subscribers are told of; none has it before."""


@dataclass(frozen=True)
class Workitem:
    """What a search can know of a workitem; ``day`` from 0 to 364."""

    number: int
    state: str
    day: int
    name: str
    station: int
    kind: int
    place: int

    @property
    def patient(self) -> str:
        return f"PAT{self.number // 5}"

    @property
    def date(self) -> str:
        return time.strftime("%Y%m%d", time.gmtime(1_767_225_600 + self.day * 86_400))


def population(count: int) -> Iterator[Workitem]:
    """A year of a hospital: of the last weeks much is scheduled, of the rest nearly everything completed."""
    chance = random.Random(17)
    for number in range(count):
        recent = number > count * 0.95
        state = chance.choices(
            ("SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"), (80, 5, 10, 5) if recent else (0, 0, 97, 3)
        )[0]
        name = f"{chance.choice(FAMILIES)}{chance.randrange(500)}^{chance.choice(GIVEN)}"
        place = (chance.randrange(STATIONS), chance.randrange(CLASSES), chance.randrange(LOCATIONS))
        yield Workitem(number, state, min(364, number * 365 // count), name, *place)


def as_dataset(one: Workitem) -> dict[str, Any]:
    """The workitem as a create leaves it."""
    request = {
        "0020000D": element("UI", f"1.2.826.0.1.3680043.8.498.{one.number}"),
        "00080050": element("SH", f"ACC{one.number}"),
        "00401001": element("SH", f"RP{one.number}"),
    }
    return make.workitem(
        t00081195=None,
        t00080016=element("UI", "1.2.840.10008.5.1.4.34.6.1"),
        t00080018=element("UI", f"2.25.{one.number}"),
        t00741000=element("CS", one.state),
        t00741202=element("LO", "worklist"),
        t00404010=element("DT", f"{one.date}070000"),
        t00404005=element("DT", f"{one.date}{8 + one.number % 10:02}0000"),
        t00100010=element("PN", {"Alphabetic": one.name}),
        t00100020=element("LO", one.patient),
        t00404025=make.sequence(make.code(f"ST{one.station}", "A station")),
        t00404026=make.sequence(make.code(f"CL{one.kind}", "A class")),
        t00404027=make.sequence(make.code(f"LOC{one.place}", "A place")),
        t0040A370=make.sequence(request),
        t0020000D=request["0020000D"],
    )


async def load(url: str, count: int) -> None:
    """Have ``count`` workitems in the database, and no others; those that are there stay."""
    database = open_database(url)
    try:
        await database.write(_forget_events)
        row = await database.fetch_one("SELECT count(*) FROM workitem")
        assert row is not None
        batch: list[Workitem] = []
        for one in population(count):
            if one.number >= row[0]:
                batch.append(one)
            if len(batch) == BATCH or (batch and one.number == count - 1):
                await _store(database, batch)
                batch = []
        if database.dialect == "postgresql":
            await database.write(lambda tx: tx.execute("ANALYZE"))
    finally:
        await database.close()


async def _forget_events(tx: Transaction) -> None:
    """Remove what an earlier measurement left."""
    for table in ("worklist_report", "workitem_subscription", "worklist_subscription", "worklist_subscriber"):
        await tx.execute(f"DELETE FROM {table}")
    for table in ("workitem_content", "workitem_value", "workitem_change"):
        await tx.execute(f"DELETE FROM {table} WHERE workitem_id IN (SELECT id FROM workitem WHERE uid LIKE '2.16.%')")
    await tx.execute("DELETE FROM workitem WHERE uid LIKE '2.16.%'")


async def _store(database: Database, batch: Sequence[Workitem]) -> None:
    async def unit(tx: Transaction) -> None:
        contents, found = [], []
        for one in batch:
            made = as_dataset(one)
            values = index_values(made)
            row = await tx.fetch_one(
                "INSERT INTO workitem (partition_key, uid, state, start, created) VALUES (?, ?, ?, ?, 0) RETURNING id",
                DEFAULT_KEY,
                f"2.25.{one.number}",
                one.state,
                values.start,
            )
            assert row is not None
            contents.append((row[0], datasets.packed(made)))
            found += [(row[0], int(attribute), key, DEFAULT_KEY) for attribute, key in values.keys]
        await tx.execute_many("INSERT INTO workitem_content (workitem_id, dataset) VALUES (?, ?)", contents)
        await tx.execute_many(
            "INSERT INTO workitem_value (workitem_id, attribute, key, partition_key) VALUES (?, ?, ?, ?)", found
        )

    await database.write(unit)


Match = Callable[[Workitem], bool]


def questions(everything: Sequence[Workitem]) -> dict[str, Callable[[random.Random], tuple[str, Match]]]:
    """Kinds of searches: each draws a query, and what it must find."""

    def of(form: str, match: Callable[[Workitem, Workitem], bool]) -> Callable[[random.Random], tuple[str, Match]]:
        def draw(chance: random.Random) -> tuple[str, Match]:
            some = chance.choice(everything)
            fields = {name: quote(str(getattr(some, name))) for name in (*Workitem.__annotations__, "patient", "date")}
            return form.format(**fields), lambda one: match(one, some)

        return draw

    code = "Scheduled{}CodeSequence.CodeValue"
    station, kind, place = (code.format(name) for name in ("StationName", "StationClass", "StationGeographicLocation"))
    return {
        "all, first page": of("", lambda one, _: True),
        "all, at 50,000": of("offset=50000", lambda one, _: True),
        "state": of("ProcedureStepState={state}", lambda one, some: one.state == some.state),
        "state SCHEDULED": of("ProcedureStepState=SCHEDULED", lambda one, _: one.state == "SCHEDULED"),
        "day": of("00404005={date}-{date}235959", lambda one, some: one.day == some.day),
        "day and SCHEDULED": of(
            "00404005={date}-{date}235959&ProcedureStepState=SCHEDULED",
            lambda one, some: one.day == some.day and one.state == "SCHEDULED",
        ),
        "since a day": of("00404005={date}-", lambda one, some: one.day >= some.day),
        "station": of(f"{station}=ST{{station}}", lambda one, some: one.station == some.station),
        "station and SCHEDULED": of(
            f"{station}=ST{{station}}&ProcedureStepState=SCHEDULED",
            lambda one, some: one.station == some.station and one.state == "SCHEDULED",
        ),
        "class, place, state": of(
            f"{kind}=CL{{kind}}&{place}=LOC{{place}}&ProcedureStepState={{state}}",
            lambda one, some: (one.kind, one.place, one.state) == (some.kind, some.place, some.state),
        ),
        "class and CANCELED": of(
            f"{kind}=CL{{kind}}&ProcedureStepState=CANCELED",
            lambda one, some: one.kind == some.kind and one.state == "CANCELED",
        ),
        "patient": of("PatientID={patient}", lambda one, some: one.patient == some.patient),
        "name": of("PatientName={name}", lambda one, some: one.name == some.name),
        "name, fuzzy": of(
            "PatientName=smith%20jo&fuzzymatching=true",
            lambda one, _: one.name.startswith("Smith") and one.name.rpartition("^")[2].startswith(("Jo", "Jö")),
        ),
        "accession number": of(
            "ReferencedRequestSequence.AccessionNumber=ACC{number}", lambda one, some: one.number == some.number
        ),
        "study": of("StudyInstanceUID=1.2.826.0.1.3680043.8.498.{number}", lambda one, some: one.number == some.number),
        "nothing": of("PatientID=NOBODY&ProcedureStepState=SCHEDULED", lambda one, _: False),
    }


def search(server: Server, everything: Sequence[Workitem], seconds: float) -> dict[str, list[float]]:
    """Milliseconds one client waited for each kind of search. Raises WrongAnswer."""
    chance = random.Random(3)
    found: dict[str, list[float]] = {}
    newest_first = everything[::-1]
    with Connection(server.base) as connection:
        for name, draw in questions(everything).items():
            taken: list[float] = []
            until = time.perf_counter() + seconds
            while len(taken) < WARM_UP + 2 or time.perf_counter() < until:
                query, match = draw(chance)
                start = time.perf_counter()
                answer = connection.exchange([server.base.get(f"/workitems?{query}", JSON)], whole=True)
                taken.append((time.perf_counter() - start) * 1000)
                skip = 50_000 if "offset" in query else 0
                # Of the first few answers everything is known; to know it of all would take longer than asking.
                if len(taken) <= WARM_UP:
                    numbers = [one.number for one in newest_first if match(one)][skip : skip + PAGE]
                    got = [one["00080018"]["Value"][0] for one in json.loads(answer.body)] if answer.body else []
                    if got != [f"2.25.{number}" for number in numbers]:
                        raise WrongAnswer(f"{name}: {query} found {len(got)}, not {len(numbers)}")
                elif answer.status not in (200, 204):
                    raise WrongAnswer(f"{name}: {query} answered {answer.status}")
            found[name] = sorted(taken[WARM_UP:])
    return found


async def listen(base: Base, subscribers: int, events: int, pause: float) -> list[float]:
    """Milliseconds from sending a request that changes a workitem to each subscriber's report of it.

    Raises WrongAnswer if a report is missing, or another comes.
    """
    import httpx

    headers = {"content-type": JSON, "accept": JSON}
    delays: list[float] = []
    async with httpx.AsyncClient(base_url=str(base), verify=False, timeout=30) as client:
        query = f"filter=ScheduledStationNameCodeSequence.CodeValue={EVENTS}"
        urls = []
        for number in range(subscribers):
            path = f"/workitems/1.2.840.10008.5.1.4.34.5.1/subscribers/SUB{number}?{query}"
            urls.append((await client.post(path)).headers["content-location"])
        connections = [await websockets.connect(url, compression=None) for url in urls]
        for event in range(events):
            made = make.workitem(t00404025=make.sequence(make.code(EVENTS)))
            uid = f"2.16.{time.time_ns()}.{event}"
            start = time.perf_counter()

            async def one(connection: Any, uid: str = uid, start: float = start) -> float:
                async with asyncio.timeout(10):
                    report = await connection.recv()
                if uid not in report:
                    raise WrongAnswer("a report of another workitem")
                return (time.perf_counter() - start) * 1000

            waiting = [asyncio.create_task(one(connection)) for connection in connections]
            answer = await client.post(f"/workitems?{uid}", content=json.dumps([made]), headers=headers)
            if answer.status_code != 201:
                raise WrongAnswer(f"a create answered {answer.status_code}")
            delays += await asyncio.gather(*waiting)
            await asyncio.sleep(pause)
        await asyncio.gather(*(connection.close() for connection in connections))
    return sorted(delays)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured as lines of a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data-dir", type=Path, help="SQLite in this directory")
    where.add_argument("--postgres-dir", type=Path, help="PostgreSQL in this directory")
    parser.add_argument("--workitems", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each kind of search")
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--events", type=int, default=40)
    parser.add_argument("--load", action="store_true", help="load, and measure nothing")
    asked = parser.parse_args(arguments)
    with ExitStack() as stack:
        directory: Path = asked.data_dir or asked.postgres_dir
        directory.mkdir(parents=True, exist_ok=True)
        url = None
        if asked.postgres_dir:
            url = stack.enter_context(postgres.cluster(directory)).url
        data_dir = directory / "data" if url else directory
        database = url or f"sqlite:///{data_dir / 'index.db'}"
        upgrade(database)
        asyncio.run(load(database, asked.workitems))
        if asked.load:
            return 0
        server = servers.start_archive("worklist", data_dir, directory, url)
        stack.callback(server.stop)
        for name, taken in search(server, list(population(asked.workitems)), asked.seconds).items():
            _line(name, taken)
        delays = asyncio.run(listen(server.base, asked.subscribers, asked.events, 0.2))
        _line(f"report to {asked.subscribers} subscribers", delays)
    return 0


def _line(name: str, milliseconds: Sequence[float]) -> None:
    shares = [percentile(list(milliseconds), share) for share in (0.5, 0.95, 1.0)]
    print(f"| {name} | {len(milliseconds)} | " + " | ".join(f"{one:.1f}" for one in shares) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
