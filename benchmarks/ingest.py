"""Whether storing into a large archive is as fast as into a small one: ``python -m benchmarks.ingest --data-dir DIR``.

The same new instances go through the ingest code (``benchmarks.populate``) into a copy of the loaded archive and into
one of 10,000 instances on the same engine, in turns. Processor time tells more than the clock on a machine with others.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import copies, populate
from benchmarks.copies import Copied
from benchmarks.population import Population
from benchmarks.progress import Progress, Stretch

SMALL = 10_000
NEW = 1_000_003
"""Seed of what is stored newly: no loaded population has it."""


class _Contestant:
    """One archive and how far it is with the new instances."""

    def __init__(self, name: str, url: str, others: Sequence[int], new: Population, directory: Path) -> None:
        self.name = name
        self._url, self._others, self._new = url, others, new
        self._progress = Progress(directory / f"{name}.json", new)

    def store(self, until: int) -> Stretch:
        """The next instances, up to ``until``."""
        before = len(self._progress.stretches)
        populate.load(self._url, self._new, self._progress, until=until, others=self._others)
        parts = self._progress.stretches[before:]
        return Stretch(
            parts[0].first,
            parts[-1].last,
            sum(part.seconds for part in parts),
            sum(part.processor for part in parts),
        )


@contextmanager
def archives(options: argparse.Namespace, work: Path) -> Iterator[list[tuple[str, Copied]]]:
    """The copy of the large archive, and a small one beside it on the same engine."""
    with ExitStack() as stack:
        if options.data_dir:
            large = stack.enter_context(copies.of_sqlite(options.data_dir, options.work_dir))
            (work / "small").mkdir()
            small = Copied("SQLite", f"sqlite:///{work / 'small' / 'index.db'}", work / "small", [])
        else:
            large = stack.enter_context(copies.of_postgres(options.postgres_dir, options.work_dir))
            url = copies.create(large.url, "CREATE DATABASE small", "small")
            stack.callback(copies.drop, url)
            small = Copied("PostgreSQL", url, work, large.others)
        yield [("large", large), ("small", small)]


def main(argv: Sequence[str] | None = None) -> int:
    """Stores in turns, tells the ratios; 1 when an instance is refused."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data-dir", type=Path, help="a loaded data directory of `hounsfield serve`, with SQLite")
    where.add_argument("--postgres-dir", type=Path, help="a loaded PostgreSQL cluster")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--instances", type=int, default=4_000, help="new ones a round (%(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path("/var/tmp"), help="where copies are made (%(default)s)")
    options = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(dir=options.work_dir) as name, archives(options, Path(name)) as found:
            _compare(options, Path(name), found)
    except (RuntimeError, OSError) as error:
        print(f"The run failed: {error}", file=sys.stderr)
        return 1
    return 0


def _compare(options: argparse.Namespace, work: Path, found: Sequence[tuple[str, Copied]]) -> None:
    total = options.instances * (options.rounds + 1)
    new = Population(NEW, total // 10, total)
    small = dict(found)["small"]
    first = Population(NEW + 1, SMALL // 10, SMALL)
    populate.load(small.url, first, Progress(work / "first.json", first))
    contestants = [_Contestant(name, one.url, one.others, new, work) for name, one in found]
    for each in contestants:
        each.store(options.instances)  # warm-up
    samples: dict[str, list[Stretch]] = {each.name: [] for each in contestants}
    for turn in range(options.rounds):
        order = contestants if turn % 2 else contestants[::-1]
        for each in order:
            samples[each.name].append(each.store(options.instances * (turn + 2)))
    print(f"{found[0][1].name}, {options.rounds} rounds of {options.instances:,} instances, in turns")
    print("| Archive | instances/s | processor ms an instance |\n| --- | ---: | ---: |")
    for name, stretches in samples.items():
        rates, costs = [each.rate for each in stretches], [each.cost for each in stretches]
        print(
            f"| {name} | {statistics.median(rates):,.0f} ({min(rates):,.0f}–{max(rates):,.0f}) "
            f"| {statistics.median(costs):.2f} ({min(costs):.2f}–{max(costs):.2f}) |"
        )
    rate = [large.rate / small.rate for large, small in zip(samples["large"], samples["small"], strict=True)]
    cost = [small.cost / large.cost for large, small in zip(samples["large"], samples["small"], strict=True)]
    print(
        f"| large ÷ small | {statistics.median(rate):.0%} ({min(rate):.0%}–{max(rate):.0%}) "
        f"| {statistics.median(cost):.0%} ({min(cost):.0%}–{max(cost):.0%}) of the instances a processor second |"
    )


if __name__ == "__main__":
    sys.exit(main())
