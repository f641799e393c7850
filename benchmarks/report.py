"""Results as Markdown tables and as JSON."""

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cast import CastSample
from benchmarks.latency import LatencyRow, LatencySample
from benchmarks.load import Sample
from benchmarks.stages import STAGES, Stages

DISK = "write+fsync"
LIMITS = ("nginx", DISK)


@dataclass(frozen=True)
class Row:
    """A workload and the samples of every server, round by round; no samples but a sentence for a wrong one."""

    name: str
    group: str
    clients: int
    unit: str
    scale: float
    samples: dict[str, list[Sample]]
    wrong: dict[str, str] = field(default_factory=dict)


@dataclass
class Results:
    """Everything a run found out."""

    about: dict[str, str]
    servers: list[str]
    rows: list[Row] = field(default_factory=list)
    casts: dict[str, list[CastSample]] = field(default_factory=dict)
    cast_wrong: dict[str, str] = field(default_factory=dict)
    stages: list[Stages] = field(default_factory=list)
    latencies: list[LatencyRow] = field(default_factory=list)

    def wrong(self) -> list[str]:
        """A sentence for every server that answered wrongly in a row."""
        found = [
            f"{server} answered wrongly: {row.name}, {row.clients} clients: {trouble}"
            for row in self.rows
            for server, trouble in row.wrong.items()
        ]
        found += [
            f"{server} answered wrongly: {row.name}: {trouble}"
            for row in self.latencies
            for server, trouble in row.wrong.items()
        ]
        return found + [f"{server} casts wrongly: {trouble}" for server, trouble in self.cast_wrong.items()]

    def as_json(self) -> dict[str, Any]:
        """All samples, nothing rounded."""
        return asdict(self)


def machine(directory: Path) -> dict[str, str]:
    """What the figures depend on besides the servers."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(directory)], capture_output=True, text=True).stdout.strip()
    return {
        "processor": f"{os.cpu_count()} × {model.partition(':')[2].strip() or platform.machine()}",
        "system": f"{platform.system()} {platform.release()}, data on {kind}",
        "python": platform.python_version(),
    }


def progress(row: Row) -> str:
    """A row in a line, for who watches."""
    found = [
        f"{name} {' '.join(_number(each.rate * row.scale) for each in samples)}"
        for name, samples in row.samples.items()
    ]
    found += [f"{name}: {trouble}" for name, trouble in row.wrong.items()]
    return f"{row.name}, {row.clients} clients, {row.unit}: {'; '.join(found)}"


def markdown(results: Results) -> str:
    """The tables of the README."""
    about = results.about | ({"other work on the machine": _elsewhere(results.rows)} if results.rows else {})
    parts = ["\n".join(f"- {key}: {value}" for key, value in about.items())]
    if results.rows:
        parts += [_rates(results), _costs(results)]
    if results.stages:
        parts.append(_stages(results))
    if results.latencies:
        parts.append(_latencies(results))
    if results.casts:
        parts.append(_casts(results))
    return "\n\n".join(parts) + "\n"


def _elsewhere(rows: Sequence[Row]) -> str:
    shares = [
        each.elsewhere / each.seconds / (os.cpu_count() or 1)
        for row in rows
        for samples in row.samples.values()
        for each in samples
    ]
    if not shares:
        return "unknown"
    return f"{statistics.median(shares):.0%} of the processors in the median round, {max(shares):.0%} in the worst"


def _rates(results: Results) -> str:
    first, *others = results.servers
    heads = ["Work", "Clients", "Unit", *results.servers, *(f"{first} ÷ {other}" for other in others)]
    rows = []
    for row in results.rows:
        cells = [row.name, str(row.clients), row.unit]
        cells += [_rate(row, server) for server in results.servers]
        cells += [_ratio(row, first, other) for other in others]
        limit = next((name for name in LIMITS if name in row.samples), None)
        if limit is None:
            cells += ["", ""]
        else:
            cells.append(f"{_number(_median(row.samples[limit]) * row.scale)} ({limit})")
            share = _median(row.samples[first]) / _median(row.samples[limit]) if first in row.samples else None
            cells.append("–" if share is None else f"{share:.0%}")
        rows.append(cells)
    return _table([*heads, "Limit", f"{first} ÷ limit"], rows)


def _rate(row: Row, server: str) -> str:
    if server not in row.samples:
        return "wrong answer"
    return _spread([sample.rate * row.scale for sample in row.samples[server]])


def _costs(results: Results) -> str:
    heads = ["Work", "Clients"]
    for title in ("p50 / p95 ms", "CPU ms an item", "peak MB"):
        heads += [f"{server}: {title}" for server in results.servers]
    rows = []
    for row in results.rows:
        samples = [row.samples.get(server, []) for server in results.servers]
        cells = [row.name, str(row.clients)]
        for cell in (_latency, _processor, _memory):
            cells += [cell(each) if each else "–" for each in samples]
        busiest = max((sample.client_cpu / sample.seconds for each in samples for sample in each), default=0.0)
        rows.append([*cells, f"{busiest / (os.cpu_count() or 1):.0%}"])
    return _table([*heads, "Clients' share of the processors, at most"], rows)


def _latency(samples: Sequence[Sample]) -> str:
    middle = 1e3 * statistics.median(sample.median_latency for sample in samples)
    high = 1e3 * statistics.median(sample.p95_latency for sample in samples)
    return f"{_number(middle)} / {_number(high)}"


def _processor(samples: Sequence[Sample]) -> str:
    return _number(statistics.median(1e3 * sample.server_cpu / sample.items for sample in samples))


def _memory(samples: Sequence[Sample]) -> str:
    return f"{max(sample.peak_memory for sample in samples) / 1e6:.0f}"


def _latencies(results: Results) -> str:
    rows = {row.name: row for row in results.latencies}
    limits = [name for name in LIMITS if any(name in row.samples for row in results.latencies)]
    servers = [*results.servers, *limits]
    lines = []
    for row in results.latencies:
        lines.append([row.name, "ms", *(_wait(row, server) for server in servers)])
        beside = rows.get(row.against or "")
        if beside is not None:
            lines.append([f"… ÷ {beside.name}", "", *(_slower(row, beside, server) for server in servers)])
    return _table(["One client waits for", "", *(f"{server}: p50 / p95" for server in servers)], lines)


def wait_progress(row: LatencyRow) -> str:
    """A latency row in a line, for who watches."""
    found = [f"{server} {_wait(row, server)}" for server in (*row.samples, *row.missing)]
    found += [f"{server}: {trouble}" for server, trouble in row.wrong.items()]
    return f"{row.name}, p50 / p95 ms: {'; '.join(found)}"


def _wait(row: LatencyRow, server: str) -> str:
    """Medians over the rounds."""
    if server in row.wrong:
        return "wrong answer"
    if server not in row.samples:
        return row.missing.get(server, "–")
    samples = row.samples[server]
    found = " / ".join(_number(1e3 * statistics.median(values)) for values in _waits(samples))
    costs = [1e3 * sample.processor for sample in samples if sample.processor is not None]
    found += f" ({_number(statistics.median(costs))} CPU)" if costs else ""
    rates = [sample.pictures for sample in samples if sample.pictures is not None]
    return f"{found} ({_number(statistics.median(rates))} pictures/s)" if rates else found


def _waits(samples: Sequence[LatencySample]) -> tuple[list[float], list[float]]:
    return [sample.median for sample in samples], [sample.p95 for sample in samples]


def _slower(row: LatencyRow, beside: LatencyRow, server: str) -> str:
    if server not in row.samples or server not in beside.samples:
        return "–"
    pairs = zip(_waits(row.samples[server]), _waits(beside.samples[server]), strict=True)
    return " / ".join(f"**{statistics.median(mine) / statistics.median(other):.2f}**" for mine, other in pairs)


def _casts(results: Results) -> str:
    heads = [
        "Server",
        "Stored",
        "Stores/s",
        "Entries waiting at the end",
        "Seconds to catch up",
        "Instances/s into FHIR",
    ]
    rows = []
    for server, samples in results.casts.items():
        cells = [server, str(sum(sample.stored for sample in samples))]
        for values in (
            [sample.store_rate for sample in samples],
            [float(sample.waiting) for sample in samples],
            [sample.catch_up for sample in samples],
            [sample.rate for sample in samples],
        ):
            cells.append(_spread(values))
        rows.append(cells)
    return _table(heads, rows)


def _stages(results: Results) -> str:
    heads = ["Stage of one store", "", *(f"{each.title}: CPU ms (elapsed ms)" for each in results.stages)]
    rows = [
        [
            stage,
            "",
            *(
                f"{_number(each.costs[stage].processor)} ({_number(each.costs[stage].elapsed)})"
                for each in results.stages
            ),
        ]
        for stage in STAGES
    ]
    return _table(heads, rows)


def _median(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.rate for sample in samples)


def _ratio(row: Row, first: str, other: str) -> str:
    if first not in row.samples or other not in row.samples:
        return "–"
    mine, theirs = row.samples[first], row.samples[other]
    rounds = [one.rate / another.rate for one, another in zip(mine, theirs, strict=True)]
    return f"**{_median(mine) / _median(theirs):.2f}** ({min(rounds):.2f}–{max(rounds):.2f})"


def _spread(values: Sequence[float]) -> str:
    return f"{_number(statistics.median(values))} ({_number(min(values))}–{_number(max(values))})"


def _number(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * 2 + ["---:"] * (len(heads) - 2), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
