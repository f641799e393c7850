"""No batch is lost and none is applied twice, whatever workers do and whenever they die: a model against the engine."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.errors import Conflict
from hounsfield.operations import engine
from hounsfield.operations.engine import LeaseLost, timestamp
from hounsfield.operations.job import Operation, Part, Plan, Status, Step
from hounsfield.operations.runner import GivenUp, next_step
from tests.operations import counting
from tests.operations.counting import COUNTING, KIND

EXAMPLES = 15
SECOND = 1_000_000
LEASE = int(engine.LEASE_SECONDS * SECOND)
JOBS = {KIND: COUNTING}


@dataclass
class Clock:
    """Time as the workers have it, alike every time an example is run."""

    now: int = timestamp()

    def read(self) -> int:
        """Never the same twice."""
        self.now += 1
        return self.now


@dataclass
class Started:
    """What the model knows of an operation."""

    sizes: tuple[int, ...]
    percent: int = 0
    cancelled: bool = False
    failures: int = 0


@dataclass
class Held:
    """A part that some worker holds, or believes to hold, and the step it has prepared."""

    operation: Operation
    part: Part
    prepared: tuple[Step, list[Plan]] | None = None
    committed: list[tuple[Part, Step, list[Plan]]] = field(default_factory=list)
    until: int = 0
    """When its lease ends, if it is not renewed."""


class Workers(RuleBasedStateMachine):
    """Workers that claim, prepare, commit, fail, die and come back, with a clock of their own."""

    def __init__(self, database: Database, runner: asyncio.Runner, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.database = database
        self.runner = runner
        self.held: list[Held] = []
        self.holder: dict[tuple[str, int], str] = {}
        """The newest claim of each part."""
        self.started: dict[str, Started] = {}

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @property
    def now(self) -> int:
        return self.clock.read()

    @precondition(lambda self: len(self.started) < 3)
    @rule(sizes=st.lists(st.integers(1, 10), max_size=3))
    def start(self, sizes: list[int]) -> None:
        self.started[self.run(counting.begin(self.database, *sizes))] = Started(tuple(sizes))

    @rule(again=st.integers(1, 3))
    def claim(self, again: int) -> None:
        for _ in range(again):
            due = self.run(engine.next_due(self.database, JOBS, self.now))
            if due is None:
                return
            if due.stops:
                self.run(engine.settle(self.database, COUNTING, due.operation_id, self.now))
                continue
            found = self.run(engine.claim(self.database, due, self.now))
            if found is not None:
                self.started[found.operation.id].failures += found.part.error == engine.DIED
                self.holder[found.operation.id, found.part.number] = found.part.owner
                self.held.append(Held(found.operation, found.part, until=self.clock.now + LEASE))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def prepare(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        try:
            held.prepared = self.run(next_step(COUNTING, held.operation, held.part))
        except GivenUp as error:
            self.run(engine.stop_failed(self.database, held.part, error.text, self.now))
            self.held.remove(held)

    @precondition(lambda self: any(held.prepared for held in self.held))
    @rule(data=st.data(), keep=st.booleans())
    def commit(self, data: st.DataObject, keep: bool) -> None:
        held = data.draw(st.sampled_from([held for held in self.held if held.prepared]))
        assert held.prepared is not None
        step, plans = held.prepared
        held.prepared = None
        before = held.part
        try:
            part = self.run(engine.commit(self.database, COUNTING, before, step, self.now, plans=plans, keep=keep))
        except LeaseLost:
            self.held.remove(held)
            self.run(engine.give_back(self.database, before, self.now))
            return
        assert self.holder[before.operation_id, before.number] == before.owner, "another worker has it"
        assert not self.started[before.operation_id].cancelled, "it was cancelled"
        held.committed.append((before, step, plans))
        held.until = self.clock.now + LEASE
        if part is None:
            self.held.remove(held)
        else:
            held.part = part

    @precondition(lambda self: any(held.committed for held in self.held))
    @rule(data=st.data())
    def commit_again(self, data: st.DataObject) -> None:
        """The worker does not know that it is through, as the connection broke just then."""
        held = data.draw(st.sampled_from([held for held in self.held if held.committed]))
        part, step, plans = held.committed[-1]
        with pytest.raises(LeaseLost):
            self.run(engine.commit(self.database, COUNTING, part, step, self.now, plans=plans))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        self.held.remove(held)
        self.started[held.operation.id].failures += 1
        self.run(engine.fail_step(self.database, COUNTING, held.part, "on purpose", self.now))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        self.held.remove(held)
        self.run(engine.give_back(self.database, held.part, self.now))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        wanted = self.run(engine.is_wanted(self.database, held.part))
        assert self.run(engine.renew(self.database, held.part, self.now)) == wanted
        if wanted:
            held.until = self.clock.now + LEASE

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.held.remove(data.draw(st.sampled_from(self.held)))

    @rule(seconds=st.sampled_from([1, 15, 25]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds * SECOND

    @precondition(lambda self: self.started)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        operation_id = data.draw(st.sampled_from(list(self.started)))
        try:
            self.run(engine.request_cancel(self.database, operation_id))
        except Conflict:
            return
        self.started[operation_id].cancelled = True

    @invariant()
    def nothing_is_done_twice_and_progress_is_true(self) -> None:
        for operation_id, known in self.started.items():
            operation = self.run(counting.look(self.database, operation_id))
            found = self.run(counting.counted(self.database, operation_id))
            assert set(found.values()) <= {1}
            assert operation.done == found.total()
            assert known.percent <= operation.percent
            known.percent = operation.percent
            if operation.status.is_active:
                assert operation.percent < 100
            if not operation.status.is_active:
                working = [held for held in self.held if held.operation.id == operation_id]
                assert all(held.until < self.clock.now for held in working), "somebody still works on it"
            self.check_end(operation, known)

    def check_end(self, operation: Operation, known: Started) -> None:
        if operation.status.is_active:
            return
        assert self.run(counting.endings(self.database, operation.id)) == [operation.status]
        if operation.status is Status.SUCCEEDED:
            assert self.run(counting.counted(self.database, operation.id)) == counting.everything(*known.sizes)
            assert operation.percent == 100
        elif operation.status is Status.CANCELED:
            assert known.cancelled
        else:
            assert known.failures >= COUNTING.retry.attempts
            assert operation.error

    def teardown(self) -> None:
        """Every worker is dead; one that lives ends everything in time."""
        self.held.clear()
        for _ in range(300):
            if not any(self.run(counting.look(self.database, each)).status.is_active for each in self.started):
                break
            self.claim(again=5)
            for held in list(self.held):
                self.held = [held]
                self.prepare_and_commit(held)
            self.held = []
            self.clock.now += SECOND
        for operation_id, known in self.started.items():
            operation = self.run(counting.look(self.database, operation_id))
            assert not operation.status.is_active
            self.check_end(operation, known)
            assert operation.status is not Status.SUCCEEDED or not known.cancelled
        assert self.run(self.database.fetch("SELECT 1 FROM operation_part")) == []

    def prepare_and_commit(self, held: Held) -> None:
        part: Part | None = held.part
        while part is not None:
            try:
                step, plans = self.run(next_step(COUNTING, held.operation, part))
            except GivenUp as error:
                self.run(engine.stop_failed(self.database, part, error.text, self.now))
                return
            part = self.run(engine.commit(self.database, COUNTING, part, step, self.now, plans=plans))


def test_whatever_workers_do(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(engine, "timestamp", clock.read)
    with asyncio.Runner() as runner:

        async def opened() -> Database:
            return open_database(url)

        database = runner.run(opened())

        class Here(Workers):
            def __init__(self) -> None:
                super().__init__(database, runner, clock)

        run_state_machine_as_test(
            Here,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=40,
                # Shrinking would run thousands more, for minutes each.
                phases=[Phase.explicit, Phase.reuse, Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        runner.run(database.close())
