"""Command line of the benchmarks: see README.md beside this file."""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import cast, orthanc, report, servers
from benchmarks.disk import DurableFiles
from benchmarks.load import Client, Sample, WrongAnswer, drive
from benchmarks.processes import Roots, cpu_seconds, wait_until_quiet
from benchmarks.report import Results, Row
from benchmarks.servers import Server
from benchmarks.studies import Collection, Kind
from benchmarks.workloads import (
    CLIENT_STUDIES,
    GROUPS,
    ROUND_STUDIES,
    ROW_STUDIES,
    Profile,
    Workload,
    workloads,
)

SETTLE_SECONDS = 120.0
"""How long a server may go on with work it put off (FHIR sync, checkpoints) before the next is measured."""
WARM_UP_SECONDS = 0.5
MOST_ROUNDS = ROW_STUDIES // ROUND_STUDIES - 1
"""One turn more is the warm-up's."""
MOST_CLIENTS = ROUND_STUDIES // CLIENT_STUDIES


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options. Exits with status 2 on wrong ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures DICOMweb servers side by side.")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=URL", help="a running server's base URL")
    parser.add_argument(
        "--hounsfield",
        action=argparse.BooleanOptionalAction,
        help="start `hounsfield serve` of this environment (default: unless --server is given)",
    )
    parser.add_argument("--peer", action="append", default=[], choices=orthanc.PEERS, help="install and start a peer")
    parser.add_argument("--workload", default=",".join((*GROUPS, "cast")), help="comma list of %(default)s")
    parser.add_argument("--rounds", type=int, help="rounds a row (5; quick: 2)")
    parser.add_argument("--seconds", type=float, help="seconds a round (3; quick: 1)")
    parser.add_argument("--clients", help="comma list of client numbers for stores (1,4,16; quick: 16)")
    parser.add_argument("--studies", type=int, help="studies to search in (10000; quick: 1000)")
    parser.add_argument("--slices", type=int, default=200, help="slices of the study that is retrieved (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a look in less than four minutes")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="identifiers follow from it (default: now)")
    parser.add_argument("--only", default="", help="only rows whose name contains this")
    parser.add_argument("--work-dir", type=Path, default=Path("/var/tmp"), help="where servers keep data (%(default)s)")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file too")
    options = parser.parse_args(argv)
    if unknown := set(options.workload.split(",")) - {*GROUPS, "cast"}:
        parser.error(f"unknown workload: {', '.join(sorted(unknown))}")
    if any("=" not in each for each in options.server):
        parser.error("--server wants NAME=URL")
    if options.hounsfield is None:
        options.hounsfield = not options.server
    if not (options.server or options.hounsfield or options.peer):
        parser.error("no server is left to measure")
    if not 1 <= (options.rounds or 1) <= MOST_ROUNDS:
        parser.error(f"--rounds goes from 1 to {MOST_ROUNDS}")
    if any(not 1 <= int(each) <= MOST_CLIENTS for each in (options.clients or "1").split(",")):
        parser.error(f"--clients wants numbers from 1 to {MOST_CLIENTS}")
    return options


def profile(options: argparse.Namespace) -> Profile:
    """How much to measure."""
    quick = options.quick
    counts = options.clients or ("16" if quick else "1,4,16")
    return Profile(
        seed=options.seed % 10**12,
        rounds=options.rounds or (2 if quick else 5),
        seconds=options.seconds or (1.0 if quick else 3.0),
        clients=tuple(int(each) for each in counts.split(",")),
        study_clients=(1,) if quick else (1, 4),
        search_clients=(8,) if quick else (1, 8),
        studies=options.studies or (1_000 if quick else 10_000),
        slices=options.slices,
        long_series=0 if quick else 1_000,
        deep=not quick,
    )


@contextmanager
def started(options: argparse.Namespace, directory: Path) -> Iterator[tuple[list[Server], list[Server]]]:
    """The servers to compare, in the order of the options, and with the file server; fresh, and stopped at the end."""

    def place(name: str) -> Path:
        (directory / name).mkdir(parents=True)
        return directory / name

    with ExitStack() as stack:
        compared = []
        if options.hounsfield:
            compared.append(servers.start_hounsfield(place("hounsfield")))
            stack.callback(compared[-1].stop)
        for each in options.server:
            compared.append(servers.given(*each.split("=", 1)))
        for peer in options.peer:
            compared.append(servers.start_peer(peer, place(peer)))
            stack.callback(compared[-1].stop)
        here = list(compared)
        if (files := servers.start_file_server(place("nginx"))) is not None:
            stack.callback(files.stop)
            here.append(files)
        yield compared, here


def settle(contestants: Sequence[Server]) -> None:
    """Waits until no server works on anything it put off, so that nobody pays for another's."""
    if not wait_until_quiet(lambda: [pid for server in contestants for pid in server.roots()], SETTLE_SECONDS):
        print(f"a server is still busy after {SETTLE_SECONDS:.0f} s without requests", file=sys.stderr)


def measured(make: Callable[[int], Client], row: Workload, seconds: float, roots: Roots) -> Sample:
    """One round; the processor time a server goes on using until it is quiet again is its own."""
    os.sync()  # what others wrote is not to be flushed now
    sample = drive(make, row.clients, seconds, roots)
    used = cpu_seconds(roots())
    wait_until_quiet(roots, SETTLE_SECONDS)
    return replace(sample, server_cpu=sample.server_cpu + cpu_seconds(roots()) - used)


def run_row(
    row: Workload, here: list[Server], setting: Profile, directory: Path, loaded: set[tuple[str, Collection]]
) -> Row:
    """All rounds of a row, the servers taking turns and each going first equally often."""
    contestants: list[tuple[str, Callable[[int, int], Client], Roots]] = []
    for server in here:
        if row.runs_on(server):
            row.prepare(server, loaded)
            contestants.append((server.name, partial(row.client, server), server.roots))
    if row.beside_disk is not None:
        contestants.append(("write+fsync", partial(_disk_client, row.beside_disk, directory / "write+fsync"), list))
    for _, make, roots in contestants:
        drive(partial(make, setting.rounds), row.clients, WARM_UP_SECONDS, roots)
    settle(here)
    samples: dict[str, list[Sample]] = {name: [] for name, _, _ in contestants}
    for turn in range(setting.rounds):
        at = turn % len(contestants)
        for name, make, roots in contestants[at:] + contestants[:at]:
            try:
                samples[name].append(measured(partial(make, turn), row, setting.seconds, roots))
            except WrongAnswer as error:
                raise WrongAnswer(f"{row.name}, {row.clients} clients, {name}: {error}") from error
    shutil.rmtree(directory / "write+fsync", ignore_errors=True)
    for server in here:
        if row.runs_on(server):
            row.verify(server)
    return Row(row.name, row.group, row.clients, row.unit, row.scale, samples)


def _disk_client(kind: Kind, directory: Path, turn: int, index: int) -> Client:
    return DurableFiles(directory / str(turn), kind, index)


def run(options: argparse.Namespace, directory: Path) -> Results:
    """The whole run: every group of rows on fresh servers. Raises WrongAnswer as soon as a server gives one."""
    setting = profile(options)
    results = Results(report.machine(directory), [])
    results.about["run"] = f"{setting.rounds} rounds of {setting.seconds:g} s, seed {setting.seed}"
    for group in options.workload.split(","):
        rows = [row for row in workloads(setting, group) if options.only in row.name]
        if not rows and group != "cast":
            continue
        with started(options, directory / group) as (compared, here):
            results.servers = [server.name for server in compared]
            results.about |= {server.name: server.about for server in here}
            loaded: set[tuple[str, Collection]] = set()
            for row in rows:
                results.rows.append(run_row(row, here, setting, directory, loaded))
                print(_line(results.rows[-1]), file=sys.stderr, flush=True)
            if group == "cast":
                run_cast(compared, setting, results)
        shutil.rmtree(directory / group)
    return results


def run_cast(compared: list[Server], setting: Profile, results: Results) -> None:
    """All rounds of the FHIR side catching up, on the servers that have one."""
    for server in compared:
        if server.casts:
            results.casts[server.name] = []
        for turn in range(setting.rounds if server.casts else 0):
            settle([server])
            sample = cast.measure(server, setting.seed, turn, setting.seconds)
            results.casts[server.name].append(sample)
            print(f"cast: {sample}", file=sys.stderr, flush=True)


def _line(row: Row) -> str:
    found = (f"{name} {[round(sample.rate * row.scale, 1) for sample in each]}" for name, each in row.samples.items())
    return f"{row.name}, {row.clients} clients, {row.unit}: {'; '.join(found)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs, prints the tables, and returns 0; 1 when a server answered wrongly or did not start."""
    options = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an orderly end: servers stopped, data removed
    with tempfile.TemporaryDirectory(prefix="dicomweb-benchmarks-", dir=options.work_dir) as name:
        try:
            results = run(options, Path(name))
        except (WrongAnswer, RuntimeError, OSError, ValueError) as error:
            print(f"The run failed: {error}", file=sys.stderr)
            return 1
    tables = report.markdown(results)
    print(tables)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results.as_json(), indent=1))
    if options.markdown:
        options.markdown.write_text(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
