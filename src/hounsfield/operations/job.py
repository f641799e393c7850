"""What a long-running operation is, and what a job has to say so that the engine can work it off.

A *job* is the code for one kind of operation. It splits an operation into *parts*, which worker processes take up
independently, and works a part off in *steps*. A step is prepared outside any transaction, may take its time there, and
is then committed: the job's rows, the place where the next step begins and the progress, all in one transaction.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hounsfield.database.engine import Transaction, Unit

Json = Mapping[str, Any]


class Status(StrEnum):
    """Where an operation is (operations.md §1)."""

    NOT_STARTED = "notStarted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_active(self) -> bool:
        """Whether there is still something to do."""
        return self in (Status.NOT_STARTED, Status.RUNNING)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, as its rows say it at one moment. Times are microseconds since 1970, UTC."""

    id: str
    """32 lower-case hex digits."""
    kind: str
    status: Status
    created: int
    updated: int
    arguments: Json
    done: int
    """Units of work behind it, of ``total``; what a unit is, the job decides."""
    total: int
    """0 until it has been split into parts."""
    results: Json | None
    """The results of its parts so far, as one (see :func:`merged`)."""
    error: str | None
    """Why it failed."""
    stop: Status | None
    """FAILED or CANCELED once it has been decided that it ends so."""
    secret: bytes | None = field(default=None, repr=False)

    @property
    def percent(self) -> int:
        """How much is done, 0 to 100; never less than it was, and 100 only at the end."""
        if self.status is Status.SUCCEEDED:
            return 100
        share = 100 * self.done // self.total if self.total else 0
        return min(share, 99) if self.status.is_active else share


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an operation that one worker at a time works on."""

    operation_id: str
    number: int
    arguments: Json
    cursor: str | None
    """What the last step said; None before the first."""
    step: int
    done: int
    total: int
    results: Json | None
    attempt: int
    """How often the step at hand has failed or lost its worker."""
    error: str | None
    """What happened the last time, fit to be shown."""
    owner: str
    """The token of the claim that holds it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A part to be made: its units of work (an estimate will do), and what its steps have to know."""

    total: int
    arguments: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """A prepared batch.

    ``unit`` writes what the batch is to write; it awaits nothing but its transaction, may be run again after a
    conflict, and is committed together with all the rest here, or not at all.
    """

    cursor: str | None
    """Where the next step begins; another one than before, unless this is the last."""
    done: int = 0
    """Units of work in this batch."""
    is_last: bool = False
    unit: Unit[None] | None = None
    results: Json | None = None
    """The part's results from here on; None leaves them as they are."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a step is tried, and how long it rests in between.

    As it stands for about eleven minutes: time for a full disk or an object store that is away to be noticed.
    """

    attempts: int = 7
    first_seconds: float = 1.0
    factor: float = 4.0
    longest_seconds: float = 300.0

    def pause(self, attempt: int) -> float:
        """Seconds before the next try after failure number ``attempt``, from 1."""
        return min(self.first_seconds * self.factor ** (attempt - 1), self.longest_seconds)


async def one_part(_: Operation) -> Sequence[Plan]:
    """The split of an operation that is one piece of unknown size."""
    return [Plan(1)]


async def nothing_else(_tx: Transaction, _operation: Operation, _status: Status) -> str | None:
    """The finish of a job that leaves nothing to be put in order."""
    return None


async def fail(_operation: Operation, _part: Part, _error: str) -> Step | None:
    """Giving up a step gives up the operation."""
    return None


@dataclass(frozen=True, slots=True)
class Job:
    """The code for one kind of operation.

    All four functions may be called again after a crash, and ``step`` by several workers at the same time for several
    parts. What they raise is retried; the text of a HounsfieldError is shown to people, of others only the class.
    """

    kind: str
    step: Callable[[Operation, Part], Awaitable[Step]]
    """Prepare the batch that begins at the cursor. Writes nothing to the database itself."""
    split: Callable[[Operation], Awaitable[Sequence[Plan]]] = one_part
    """Into parts; none ends the operation at once."""
    finish: Callable[[Transaction, Operation, Status], Awaitable[str | None]] = nothing_else
    """In the transaction that ends the operation, whichever way. A sentence makes SUCCEEDED a FAILED with this error.
    When this runs no part is being worked on."""
    give_up: Callable[[Operation, Part, str], Awaitable[Step | None]] = fail
    """What to do about a step that failed too often: a step that passes over it, or None to fail the operation."""
    retry: Retry = Retry()
    step_seconds: float = 600.0
    """How long preparing a step may take before it counts as failed."""


def merged(results: Sequence[Json]) -> Json | None:
    """The results of several parts as one: numbers are added, lists joined, of anything else the last counts.

    >>> merged([{"exported": 2, "errors": ["a"]}, {"exported": 3, "errors": ["b"]}])
    {'exported': 5, 'errors': ['a', 'b']}
    """
    if not results:
        return None
    found: dict[str, Any] = {}
    for one in results:
        for name, value in one.items():
            joins = isinstance(value, int | float | list) and not isinstance(value, bool)
            found[name] = found[name] + value if joins and name in found else value
    return found
