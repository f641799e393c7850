"""The rounds of a row: servers prepared, measured in turns, checked again; one that answers wrongly drops out."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import cast, latency
from benchmarks.cast import CastSample
from benchmarks.disk import DurableFiles, give_back
from benchmarks.latency import LatencyRow, LatencySample, NotOffered, Probe
from benchmarks.load import Client, Sample, WrongAnswer, drive
from benchmarks.processes import Roots, cpu_seconds, wait_until_quiet
from benchmarks.report import DISK, Row
from benchmarks.servers import Server
from benchmarks.studies import Collection
from benchmarks.wire import WireError
from benchmarks.workloads import Profile, Workload, provide

SETTLE_SECONDS = 120.0
"""How long a server may go on with work it put off (FHIR sync, checkpoints) before the next is measured."""
WARM_UP_SHARE = 0.2
"""Length of the warm-up, in rounds."""

Loaded = set[tuple[str, Collection]]


@dataclass(frozen=True)
class _Contestant:
    name: str
    make: Callable[[int, int], Client]
    roots: Roots
    prepare: Callable[[], None]
    verify: Callable[[], None]


def run_row(row: Workload, here: Sequence[Server], setting: Profile, directory: Path, loaded: Loaded) -> Row:
    """All rounds of a row, the servers taking turns and each going first equally often.

    A server that gives a wrong answer has no samples in the row, only what was wrong.
    """
    contestants = _contestants(row, here, directory, loaded)
    samples: dict[str, list[Sample]] = {each.name: [] for each in contestants}
    wrong: dict[str, str] = {}
    for each in contestants:
        with _judged(each.name, wrong):
            each.prepare()
            drive(partial(each.make, setting.rounds), row.clients, setting.seconds * WARM_UP_SHARE, each.roots)
    settle(here)
    for turn in range(setting.rounds):
        at = turn % len(contestants)
        for each in contestants[at:] + contestants[:at]:
            if each.name not in wrong:
                with _judged(each.name, wrong):
                    samples[each.name].append(_round(partial(each.make, turn), row.clients, setting, each.roots))
    for each in contestants:
        if each.name not in wrong:
            with _judged(each.name, wrong):
                each.verify()
    give_back(_disk_files(row, directory))
    right = {name: found for name, found in samples.items() if name not in wrong}
    return Row(row.name, row.group, row.clients, row.unit, row.scale, right, wrong)


@contextmanager
def _judged(name: str, wrong: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except (WrongAnswer, WireError, OSError) as error:
        wrong[name] = str(error) or type(error).__name__


def _contestants(row: Workload, here: Sequence[Server], directory: Path, loaded: Loaded) -> list[_Contestant]:
    found = [
        _Contestant(
            server.name,
            partial(row.client, server),
            server.roots,
            partial(row.prepare, server, loaded),
            partial(row.verify, server),
        )
        for server in here
        if row.runs_on(server)
    ]
    if (kind := row.beside_disk) is not None:

        def make(turn: int, index: int) -> Client:
            return DurableFiles(_disk_files(row, directory) / str(turn), kind, index)

        found.append(_Contestant(DISK, make, list, lambda: None, lambda: None))
    return found


def _disk_files(row: Workload, directory: Path) -> Path:
    return directory / DISK / f"{row.name}, {row.clients}"


def _round(make: Callable[[int], Client], clients: int, setting: Profile, roots: Roots) -> Sample:
    """One round; the processor time a server goes on using until it is quiet again is its own."""
    os.sync()  # what others wrote is not to be flushed now
    sample = drive(make, clients, setting.seconds, roots)
    used = cpu_seconds(roots())
    wait_until_quiet(roots, SETTLE_SECONDS)
    return replace(sample, server_cpu=sample.server_cpu + cpu_seconds(roots()) - used)


def settle(here: Sequence[Server]) -> None:
    """Waits until no server works on anything it put off, so that nobody pays for another's."""
    if not wait_until_quiet(lambda: [pid for server in here for pid in server.roots()], SETTLE_SECONDS):
        print(f"a server is still busy after {SETTLE_SECONDS:.0f} s without requests", file=sys.stderr)


def run_probe(probe: Probe, here: Sequence[Server], setting: Profile, loaded: Loaded) -> LatencyRow:
    """All rounds of a latency row, the servers taking turns; each is alone when it is its turn."""
    servers = [server for server in here if probe.runs_on(server)]
    samples: dict[str, list[LatencySample]] = {server.name: [] for server in servers}
    wrong: dict[str, str] = {}
    missing: dict[str, str] = {}
    for server in servers:
        with _judged(server.name, wrong):
            for collection in probe.collections:
                provide(server, collection, loaded)
    for turn in range(setting.rounds):
        at = turn % len(servers)
        for server in servers[at:] + servers[:at]:
            if server.name not in wrong | missing:
                settle(here)
                with _judged(server.name, wrong):
                    try:
                        samples[server.name].append(latency.measure(probe, server, turn, setting.seconds))
                    except NotOffered as absence:
                        missing[server.name] = str(absence)
    found = {name: each for name, each in samples.items() if name not in wrong | missing}
    return LatencyRow(probe.name, found, probe.against, wrong, missing)


def run_cast(server: Server, setting: Profile) -> list[CastSample]:
    """All rounds of the FHIR side catching up. Raises WrongAnswer when it does not."""
    found = []
    for turn in range(setting.rounds):
        settle([server])
        found.append(cast.measure(server, setting.seed, turn, setting.seconds))
        print(f"cast: {found[-1]}", file=sys.stderr, flush=True)
    return found
