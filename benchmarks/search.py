"""How long one user waits for a search, on archives that were loaded before: see README.md, "Searching".

``python -m benchmarks.search --data-dir DIR --postgres-dir DIR`` starts ``hounsfield serve`` on each and asks; what is
not loaded yet is loaded first. ``--orthanc-dir`` measures Orthanc in the same run.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import lookups, report, servers
from benchmarks.load import WrongAnswer
from benchmarks.population import Population, describe
from benchmarks.postgres import cluster
from benchmarks.progress import Progress
from benchmarks.report import Results
from benchmarks.rounds import run_probe
from benchmarks.servers import Server
from benchmarks.workloads import Profile


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options. Exits with status 2 on wrong ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="a loaded data directory of `hounsfield serve`, with SQLite")
    parser.add_argument("--postgres-dir", type=Path, help="a loaded PostgreSQL cluster")
    parser.add_argument("--orthanc-dir", type=Path, help="a loaded Orthanc storage")
    parser.add_argument("--instances", type=int, default=1_000_000, help="(%(default)s)")
    parser.add_argument("--studies", type=int, help="(a tenth of the instances)")
    parser.add_argument("--seed", type=int, default=1, help="of the population (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds a row (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds a round (%(default)s)")
    parser.add_argument("--only", default="", help="only rows whose name contains this")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    options = parser.parse_args(argv)
    options.studies = options.studies or max(1, options.instances // 10)
    if not (options.data_dir or options.postgres_dir or options.orthanc_dir):
        parser.error("say which archives to search in: --data-dir, --postgres-dir, --orthanc-dir")
    return options


@contextmanager
def started(options: argparse.Namespace, population: Population) -> Iterator[list[Server]]:
    """The servers on their archives. Raises RuntimeError where one is not loaded or does not start."""
    with ExitStack() as stack:
        found: list[Server] = []
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.data_dir:
            _require(options.data_dir, population)
            found.append(servers.start_archive("hounsfield", options.data_dir, _place(logs, "sqlite")))
            stack.callback(found[-1].stop)
        if options.postgres_dir:
            _require(options.postgres_dir, population)
            database = stack.enter_context(cluster(options.postgres_dir))
            place = _place(logs, "postgresql")
            server = servers.start_archive("hounsfield on PostgreSQL", place, place, database.url)
            stack.callback(server.stop)
            pids = [*server.roots(), database.pid]
            found.append(replace(server, roots=partial(list, pids)))
        if options.orthanc_dir:
            _require(options.orthanc_dir, population)
            found.append(servers.start_peer("orthanc", options.orthanc_dir))
            stack.callback(found[-1].stop)
            found.append(servers.own_search(found[-1]))
        yield found


def _place(logs: Path, name: str) -> Path:
    (logs / name).mkdir()
    return logs / name


def _require(directory: Path, population: Population) -> None:
    done = Progress(directory / "population.json", population).done
    if done < population.instances:
        raise RuntimeError(
            f"{directory} holds {done:,} of {population.instances:,} instances; load it with "
            "`python -m benchmarks.populate` first"
        )


def run(options: argparse.Namespace) -> Results:
    """All rows. Raises RuntimeError where a server does not start."""
    population = Population(options.seed, options.studies, options.instances)
    print(describe(population), file=sys.stderr, flush=True)
    truth = lookups.Truth.of(population)
    setting = Profile(options.seed, options.rounds, options.seconds, (), (), (), (), options.studies, 0, 0, False)
    with started(options, population) as here:
        results = Results(report.machine(Path.cwd()), [server.name for server in here])
        results.about["archive"] = describe(population)
        results.about["run"] = f"{options.rounds} rounds of {options.seconds:g} s, one client"
        results.about |= {server.name: server.about for server in here}
        for probe in lookups.rows(truth):
            if options.only in probe.name:
                results.latencies.append(run_probe(probe, here, setting, set()))
                print(report.wait_progress(results.latencies[-1]), file=sys.stderr, flush=True)
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Runs, prints the table, and returns 0; 1 when a server answered wrongly or did not start."""
    options = arguments(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        results = run(options)
    except (RuntimeError, OSError, WrongAnswer) as error:
        print(f"The run failed: {error}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=1))
    text = report.markdown(results)
    if options.markdown:
        options.markdown.write_text(text)
    print(text)
    for sentence in results.wrong():
        print(sentence, file=sys.stderr)
    return 1 if results.wrong() else 0


if __name__ == "__main__":
    sys.exit(main())
