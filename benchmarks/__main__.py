"""Command line of the benchmarks: see README.md beside this file."""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import orthanc, report, servers, stages
from benchmarks.latency import probes
from benchmarks.load import WrongAnswer
from benchmarks.report import Results
from benchmarks.rounds import Loaded, run_cast, run_probe, run_row
from benchmarks.servers import Server
from benchmarks.wire import WireError
from benchmarks.workloads import CLIENT_STUDIES, ROUND_STUDIES, ROW_STUDIES, Profile, workloads

SESSIONS = (("store",), ("retrieve", "metadata", "frames", "rendered"), ("query",), ("latency",), ("cast",))
"""Groups of rows that share servers: those that read the same few studies."""
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
    parser.add_argument(
        "--workload",
        default=",".join(group for session in SESSIONS for group in session),
        help="comma list of %(default)s",
    )
    parser.add_argument("--rounds", type=int, help="rounds a row (5; quick: 2)")
    parser.add_argument("--seconds", type=float, help="seconds a round (3; quick: 1)")
    parser.add_argument(
        "--clients", help="comma list of client numbers for stores (1,4,16; quick: 16, or 4 with 50 a request)"
    )
    parser.add_argument("--studies", type=int, help="studies to search in (10000; quick: 1000)")
    parser.add_argument("--slices", type=int, default=200, help="slices of the study that is retrieved (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a look in less than four minutes")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="identifiers follow from it (default: now)")
    parser.add_argument("--only", default="", help="only rows whose name contains this")
    parser.add_argument("--work-dir", type=Path, default=Path("/var/tmp"), help="where servers keep data (%(default)s)")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file too")
    options = parser.parse_args(argv)
    if unknown := set(options.workload.split(",")) - {group for session in SESSIONS for group in session}:
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
        batch_clients=(4,) if quick else tuple(int(each) for each in counts.split(",")),
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


def run(options: argparse.Namespace, directory: Path) -> Results:
    """The whole run: every session on fresh servers. Raises RuntimeError when a server does not start."""
    setting = profile(options)
    results = Results(report.machine(directory), [])
    results.about["run"] = f"{setting.rounds} rounds of {setting.seconds:g} s, seed {setting.seed}"
    chosen = options.workload.split(",")
    for session in SESSIONS:
        groups = [group for group in session if group in chosen]
        rows = [row for group in groups for row in workloads(setting, group) if options.only in row.name]
        waits = [each for each in probes(setting) if options.only in each.name] if "latency" in groups else []
        if not (rows or waits) and "cast" not in groups:
            continue
        place = directory / session[0]
        with started(options, place) as (compared, here):
            results.servers = [server.name for server in compared]
            results.about |= {server.name: server.about for server in here}
            loaded: Loaded = set()
            for row in rows:
                results.rows.append(run_row(row, here, setting, place, loaded))
                print(report.progress(results.rows[-1]), file=sys.stderr, flush=True)
                save(options, results)
            for probe in waits:
                results.latencies.append(run_probe(probe, here, setting, loaded))
                print(report.wait_progress(results.latencies[-1]), file=sys.stderr, flush=True)
                save(options, results)
            if "store" in groups and options.hounsfield:
                results.stages = stages.measure(place / "stages", setting.seed, large=setting.deep)
            if "cast" in groups:
                run_casts(compared, setting, results)
        shutil.rmtree(place)
    return results


def run_casts(compared: Sequence[Server], setting: Profile, results: Results) -> None:
    """The FHIR side of every server that has one."""
    for server in compared:
        if server.casts:
            try:
                results.casts[server.name] = run_cast(server, setting)
            except (WrongAnswer, WireError, OSError) as error:
                results.cast_wrong[server.name] = str(error)


def save(options: argparse.Namespace, results: Results) -> None:
    """Writes the files the options ask for, with what is known so far."""
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results.as_json(), indent=1))
    if options.markdown:
        options.markdown.write_text(report.markdown(results))


def _end(number: int, _: object) -> None:
    """An orderly end: servers are stopped and data removed on the way out."""
    print(f"The run was ended by signal {number}.", file=sys.stderr)
    sys.exit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs, prints the tables, and returns 0; 1 when a server answered wrongly or did not start."""
    options = arguments(argv)
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="dicomweb-benchmarks-", dir=options.work_dir) as name:
        try:
            results = run(options, Path(name))
        except (RuntimeError, OSError, ValueError) as error:
            print(f"The run failed: {error}", file=sys.stderr)
            return 1
    save(options, results)
    print(report.markdown(results))
    for sentence in results.wrong():
        print(sentence, file=sys.stderr)
    return 1 if results.wrong() else 0


if __name__ == "__main__":
    sys.exit(main())
