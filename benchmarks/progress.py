"""How far the load of a population is, and how fast it went."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.population import Population


@dataclass(frozen=True)
class Stretch:
    """Part of a load: ``processor`` are the seconds all loading processes (and the cluster) worked."""

    first: int
    last: int
    seconds: float
    processor: float

    @property
    def rate(self) -> float:
        """Instances a second."""
        return (self.last - self.first) / self.seconds

    @property
    def cost(self) -> float:
        """Processor milliseconds an instance."""
        return 1e3 * self.processor / (self.last - self.first)


class Progress:
    """How far a load is, in a file beside it, so that another run goes on there.

    Raises RuntimeError where another population is.
    """

    def __init__(self, path: Path, population: Population) -> None:
        self._path = path
        self._wanted = {
            "seed": population.seed,
            "studies": population.studies,
            "instances": population.instances,
        }
        self._state: dict[str, Any] = self._wanted | {"done": 0, "stretches": []}
        if path.exists():
            found = json.loads(path.read_text())
            if {key: found[key] for key in self._wanted} != self._wanted:
                raise RuntimeError(f"{path} tells of another population: {found}")
            self._state = found

    @property
    def done(self) -> int:
        """Instances from the first on that are stored."""
        return int(self._state["done"])

    @property
    def stretches(self) -> list[Stretch]:
        """Those of all runs."""
        return [Stretch(**each) for each in self._state["stretches"]]

    def save(self, done: int, stretch: Stretch | None = None) -> None:
        """So many instances from the first on are stored."""
        self._state["done"] = done
        if stretch is not None:
            self._state["stretches"].append(vars(stretch))
        self._path.write_text(json.dumps(self._state))


def tell(stretch: Stretch) -> str:
    """A stretch in a line."""
    return (
        f"instances {stretch.first:,} to {stretch.last:,}: {stretch.rate:,.0f} a second, {stretch.cost:.2f} processor "
        "milliseconds each"
    )


def kept(stretches: Sequence[Stretch]) -> str:
    """How the end compares with the beginning, the first stretch being the smallest archive."""
    first, last = stretches[0], stretches[-1]
    return (
        f"at the end {last.rate / first.rate:.0%} of the first stretch's instances a second; median "
        f"{statistics.median(each.rate for each in stretches):,.0f} instances a second"
    )
