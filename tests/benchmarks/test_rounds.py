from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import latency
from benchmarks.latency import LatencySample, NotOffered, Probe
from benchmarks.load import WrongAnswer
from benchmarks.rounds import run_probe, run_row
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


def test_the_disk_takes_part_and_leaves_no_content(tmp_path: Path) -> None:
    row = Workload("Row", "store", 2, "items/s", lambda *_: Counting(False), beside_disk=SMALL)
    found = run_row(row, [server("good")], SETTING, tmp_path, set())
    assert all(sample.rate > 0 for sample in found.samples["write+fsync"])
    files = list(tmp_path.rglob("*.dcm"))
    assert files
    assert not any(path.stat().st_size for path in files)
    next_row = run_row(replace(row, clients=1), [server("good")], SETTING, tmp_path, set())
    assert "write+fsync" in next_row.samples


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


def test_waits_are_measured_in_turns_and_who_has_none_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def measure(_: Probe, here: Server, turn: int, seconds: float) -> LatencySample:
        calls.append((here.name, turn))
        if here.name == "plain":
            raise NotOffered("no Range")
        if here.name == "late" and turn == 1:
            raise WrongAnswer("half a frame")
        return LatencySample(0.1, 0.2, 7)

    monkeypatch.setattr(latency, "measure", measure)
    probe = Probe("Row", (), lambda *_: None, against="Other")  # type: ignore[arg-type]
    here = [server("good"), server("plain"), server("late"), replace(server("files"), files=Path("/"))]
    found = run_probe(probe, here, SETTING, set())
    assert found.samples == {"good": [LatencySample(0.1, 0.2, 7)] * 2}
    assert (found.wrong, found.missing) == ({"late": "half a frame"}, {"plain": "no Range"})
    assert (found.name, found.against) == ("Row", "Other")
    assert calls == [("good", 0), ("plain", 0), ("late", 0), ("late", 1), ("good", 1)]
