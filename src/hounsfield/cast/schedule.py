"""Which steps may be worked on, and which have to wait for others (dicom-cast.md §3)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hounsfield.cast.step import Run, Step, chains, keys


@dataclass(frozen=True, slots=True)
class Chain:
    """Runs to be written one after the other; ``keys`` are the studies and Patients nobody else may touch meanwhile."""

    runs: list[Run]
    keys: frozenset[object]


class Schedule:
    """Keeps the order within studies and Patients over any number of pages.

    Steps come in feed order. One that shares a study or a Patient with something under way waits until that is done,
    and so does what follows it; all that has come for a study meanwhile then goes together.
    """

    def __init__(self) -> None:
        self._waiting: list[Step] = []
        self._busy: set[object] = set()

    def add(self, steps: Sequence[Step]) -> list[Chain]:
        """Further steps; the chains that may begin."""
        return self._begin([*self._waiting, *steps])

    def end(self, chain: Chain) -> list[Chain]:
        """A chain is done; the chains that may begin now."""
        self._busy -= chain.keys
        return self._begin(self._waiting) if self._waiting else []

    def _begin(self, steps: Iterable[Step]) -> list[Chain]:
        free: list[Chain] = []
        held: list[Step] = []
        for runs in chains(steps):
            members = [step for run in runs for step in run.steps]
            touched = frozenset(key for step in members for key in keys(step))
            if touched & self._busy:
                held += members
            else:
                free.append(Chain(runs, touched))
        for chain in free:
            self._busy |= chain.keys
        held.sort(key=lambda step: step.sequence)
        self._waiting = held
        return free
