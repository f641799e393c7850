from pathlib import Path

import pytest

from benchmarks.load import WrongAnswer
from benchmarks.rounds import run_row
from benchmarks.servers import Server
from benchmarks.studies import SMALL
from benchmarks.wire import Base
from benchmarks.workloads import Profile, Workload

SETTING = Profile(1, 2, 0.05, (1,), (1,), (1,), (1,), 1, 1, 0, deep=False)


class Counting:
    """Answers right, or wrong from a round on."""

    def __init__(self, wrong: bool) -> None:
        self._wrong = wrong

    def step(self) -> int:
        if self._wrong:
            raise WrongAnswer("the wrong study")
        return 1

    def finish(self) -> None:
        pass


def server(name: str) -> Server:
    return Server(name, Base("127.0.0.1", 1, ""), list, "made up")


def test_a_server_that_answers_wrongly_has_no_figure_and_the_others_have_theirs(tmp_path: Path) -> None:
    row = Workload("Row", "query", 2, "items/s", lambda here, turn, _: Counting(here.name == "bad" and turn == 1))
    found = run_row(row, [server("bad"), server("good")], SETTING, tmp_path, set())
    assert list(found.samples) == ["good"]
    assert len(found.samples["good"]) == 2
    assert found.wrong == {"bad": "the wrong study"}


def test_the_disk_takes_part_and_leaves_nothing(tmp_path: Path) -> None:
    row = Workload("Row", "store", 2, "items/s", lambda *_: Counting(False), beside_disk=SMALL)
    found = run_row(row, [server("good")], SETTING, tmp_path, set())
    assert all(sample.rate > 0 for sample in found.samples["write+fsync"])
    assert not list(tmp_path.iterdir())


def test_a_failed_check_after_the_rounds_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Workload("Row", "query", 1, "items/s", lambda *_: Counting(False))
    calls = []

    def verify(_: Workload, here: Server) -> None:
        calls.append(here.name)
        if len(calls) == 2:
            raise WrongAnswer("half a study")

    monkeypatch.setattr(Workload, "verify", verify)
    found = run_row(row, [server("late")], SETTING, tmp_path, set())
    assert found.samples == {}
    assert found.wrong == {"late": "half a study"}
