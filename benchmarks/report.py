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
from benchmarks.load import Sample

LIMITS = ("nginx", "write+fsync")


@dataclass(frozen=True)
class Row:
    """A workload and the samples of every server, round by round."""

    name: str
    group: str
    clients: int
    unit: str
    scale: float
    samples: dict[str, list[Sample]]


@dataclass
class Results:
    """Everything a run found out."""

    about: dict[str, str]
    servers: list[str]
    rows: list[Row] = field(default_factory=list)
    casts: dict[str, list[CastSample]] = field(default_factory=dict)

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


def markdown(results: Results) -> str:
    """The tables of the README."""
    parts = ["\n".join(f"- {key}: {value}" for key, value in results.about.items())]
    if results.rows:
        parts += [_rates(results), _costs(results)]
    if results.casts:
        parts.append(_casts(results))
    return "\n\n".join(parts) + "\n"


def _rates(results: Results) -> str:
    first, *others = results.servers
    heads = ["Work", "Clients", "Unit", *results.servers, *(f"{first} ÷ {other}" for other in others)]
    rows = []
    for row in results.rows:
        cells = [row.name, str(row.clients), row.unit]
        cells += [_spread([sample.rate * row.scale for sample in row.samples[server]]) for server in results.servers]
        cells += [_ratio(row.samples[first], row.samples[other]) for other in others]
        limit = next((name for name in LIMITS if name in row.samples), None)
        if limit is None:
            cells += ["", ""]
        else:
            cells.append(f"{_number(_median(row.samples[limit]) * row.scale)} ({limit})")
            cells.append(f"{_median(row.samples[first]) / _median(row.samples[limit]):.0%}")
        rows.append(cells)
    return _table([*heads, "Limit", f"{first} ÷ limit"], rows)


def _costs(results: Results) -> str:
    heads = ["Work", "Clients"]
    for title in ("p50 / p95 ms", "CPU ms an item", "peak MB"):
        heads += [f"{server}: {title}" for server in results.servers]
    rows = []
    for row in results.rows:
        samples = [row.samples[server] for server in results.servers]
        cells = [row.name, str(row.clients)]
        cells += [
            f"{_number(1e3 * statistics.median(sample.median_latency for sample in each))} / "
            f"{_number(1e3 * statistics.median(sample.p95_latency for sample in each))}"
            for each in samples
        ]
        cells += [
            _number(statistics.median(1e3 * sample.server_cpu / sample.items for sample in each)) for each in samples
        ]
        cells += [f"{max(sample.peak_memory for sample in each) / 1e6:.0f}" for each in samples]
        busiest = max(sample.client_cpu / sample.seconds for each in samples for sample in each)
        rows.append([*cells, f"{busiest / (os.cpu_count() or 1):.0%}"])
    return _table([*heads, "Clients' share of the processors, at most"], rows)


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


def _median(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.rate for sample in samples)


def _ratio(mine: Sequence[Sample], theirs: Sequence[Sample]) -> str:
    rounds = [one.rate / other.rate for one, other in zip(mine, theirs, strict=True)]
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
