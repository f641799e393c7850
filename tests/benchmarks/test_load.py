import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks import processes
from benchmarks.load import WrongAnswer, drive, percentile


class Sleeper:
    """Takes its time; may fail at a step or at the end."""

    def __init__(self, seconds: float, fails_at: int = -1, finishes: bool = True) -> None:
        self._seconds, self._fails_at, self._finishes, self._steps = seconds, fails_at, finishes, 0

    def step(self) -> int:
        if self._steps == self._fails_at:
            raise WrongAnswer("not what was stored")
        self._steps += 1
        time.sleep(self._seconds)
        return 2

    def finish(self) -> None:
        if not self._finishes:
            raise WrongAnswer("the last one is gone")


def test_rates_and_latencies() -> None:
    sample = drive(lambda _: Sleeper(0.02), 3, 0.3, list)
    assert sample.items == 2 * sample.requests
    assert 3 * 5 <= sample.requests <= 3 * 16
    assert sample.rate == pytest.approx(sample.items / sample.seconds)
    assert 0.02 <= sample.median_latency <= sample.p95_latency < 1
    assert sample.client_cpu < 0.3


def test_a_client_that_waits_for_others_does_not_raise_the_rate() -> None:
    sample = drive(lambda index: Sleeper(0.6 if index else 0.05), 2, 0.1, list)
    assert sample.seconds >= 0.6
    assert sample.rate == pytest.approx(sample.items / sample.seconds)


@pytest.mark.parametrize(
    ("client", "trouble"),
    [(Sleeper(0.01, fails_at=3), "not what was stored"), (Sleeper(0.01, finishes=False), "the last one is gone")],
)
def test_a_wrong_answer_ends_the_round(client: Sleeper, trouble: str) -> None:
    with pytest.raises(WrongAnswer, match=trouble):
        drive(lambda index: client if index == 1 else Sleeper(0.01), 3, 0.2, list)


def test_an_unexpected_error_ends_the_round_with_its_traceback() -> None:
    def make(_: int) -> Sleeper:
        raise ConnectionRefusedError("nobody listens")

    with pytest.raises(WrongAnswer, match=r"(?s)Traceback.*nobody listens"):
        drive(make, 2, 0.1, list)


def test_a_client_that_is_ended_does_not_hold_up_the_others() -> None:
    def make(index: int) -> Sleeper:
        if index == 1:
            raise SystemExit(143)
        return Sleeper(0.01)

    with pytest.raises(WrongAnswer, match="told to end"):
        drive(make, 3, 0.1, list)


def test_percentiles() -> None:
    assert [percentile([1, 2, 3, 4], share) for share in (0.25, 0.5, 0.51, 0.95, 1)] == [1, 2, 3, 4, 4]
    assert percentile([7], 0.5) == 7


BUSY_CHILD = (
    "import os, socket, sys, time\n"
    "server = socket.create_server(('127.0.0.1', 0))\n"
    "child = os.fork()\n"
    "if not child:\n"
    "    held = bytearray(os.urandom(1 << 20) * 64)\n"
    "    end = time.process_time() + 0.5\n"
    "    while time.process_time() < end: pass\n"
    "    print(server.getsockname()[1], flush=True)\n"
    "    time.sleep(60)\n"
    "os.waitpid(child, 0)\n"
)


@pytest.fixture
def busy() -> Iterator[tuple[int, int]]:
    """Process id and port of a server whose child has used half a second and holds 64 MB."""
    process = subprocess.Popen([sys.executable, "-c", BUSY_CHILD], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    yield process.pid, port
    os.killpg(process.pid, 9)
    process.wait()
    process.stdout.close()


def test_a_tree_is_charged_for_its_children(busy: tuple[int, int]) -> None:
    pid, port = busy
    family = processes.tree([pid])
    assert pid in family
    assert len(family) == 2
    assert 0.4 <= processes.cpu_seconds([pid]) <= 2
    assert processes.memory_bytes([pid]) > 60 << 20
    assert processes.listeners(port) == family
    with processes.MemoryWatch(lambda: [pid]) as watch:
        pass
    assert watch.peak > 60 << 20


def test_quiet_is_noticed(busy: tuple[int, int]) -> None:
    assert processes.wait_until_quiet(lambda: [busy[0]], 10)
    used = time.process_time()
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert not processes.wait_until_quiet(lambda: [burner.pid], 1.2)
    finally:
        burner.kill()
        burner.wait()
    assert time.process_time() - used < 1
