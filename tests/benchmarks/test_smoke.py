"""Every workload in its smallest size against real servers.

``HOUNSFIELD_BENCHMARK_URL`` names a DICOMweb base URL to run against instead of the servers of this machine.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import orthanc, processes

ROOT = Path(__file__).parents[2]
SMALLEST = ["--quick", "--rounds", "1", "--seconds", "0.2", "--clients", "2", "--studies", "30", "--slices", "4"]


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def run(tmp_path: Path, *arguments: str) -> dict[str, object]:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks", *SMALLEST, "--work-dir", str(tmp_path), "--json", str(report)]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"], "the run left data behind"
    found: dict[str, object] = json.loads(report.read_text())
    return found


def check(found: dict[str, object], server: str) -> None:
    rows = found["rows"]
    assert isinstance(rows, list)
    assert {row["group"] for row in rows} == {"store", "retrieve", "metadata", "frames", "rendered", "query"}
    stages = found["stages"]
    assert isinstance(stages, list)
    for stage in stages:
        assert all(cost["processor"] >= 0 and cost["elapsed"] > 0 for cost in stage["costs"].values())
    waits = found["latencies"]
    assert isinstance(waits, list)
    assert len(waits) == 5
    for wait in waits:
        if wait["missing"].get(server) != "no ETag":
            (sample,) = wait["samples"][server]
            assert sample["answers"] > 0
            assert 0 < sample["median"] <= sample["p95"]
    assert waits[-1]["samples"][server][0]["pictures"] > 0
    for row in rows:
        (sample,) = row["samples"][server]
        assert sample["items"] >= row["clients"]
        assert sample["rate"] > 0


@pytest.mark.acceptance
def test_hounsfield_or_the_given_server(tmp_path: Path) -> None:
    given = os.environ.get("HOUNSFIELD_BENCHMARK_URL")
    if given:
        groups = "store,retrieve,metadata,frames,rendered,query,latency"
        check(run(tmp_path, "--server", f"given={given}", "--workload", groups), "given")
        return
    found = run(tmp_path, "--hounsfield")
    check(found, "hounsfield")
    waits = found["latencies"]
    assert isinstance(waits, list)
    assert not any(wait["missing"] for wait in waits)
    casts = found["casts"]
    assert isinstance(casts, dict)
    assert casts["hounsfield"][0]["stored"] > 0


@pytest.mark.peer
@pytest.mark.skipif(not Path(orthanc.BINARY).exists(), reason="Debian's orthanc is not installed")
def test_orthanc(tmp_path: Path) -> None:
    check(run(tmp_path, "--no-hounsfield", "--peer", "orthanc"), "orthanc")


@pytest.mark.acceptance
def test_a_run_that_is_ended_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", *SMALLEST, "--hounsfield", "--work-dir", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list(tmp_path.glob("*/store/hounsfield/data")), 60)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "ended by signal 15" in errors
    assert not list(tmp_path.iterdir())
    assert not [pid for pid in processes.tree([1]) if str(tmp_path) in command_line(pid)]


@pytest.mark.acceptance
def test_a_server_that_is_not_there_fails_the_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", *SMALLEST, "--work-dir", str(tmp_path)]
    done = subprocess.run(
        [*command, "--server", "gone=http://127.0.0.1:1/"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "gone: " in done.stderr
    assert not list(tmp_path.iterdir())
