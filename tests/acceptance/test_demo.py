"""``make run``: the server with sample studies, and what to open next."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.acceptance.test_lifecycle import running
from tests.server import free_port

SAMPLES = Path(__file__).parents[2] / "samples"
SECONDS = 120

pytestmark = pytest.mark.acceptance


def command(port: int, data_dir: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "hounsfield", "demo", "--samples", str(SAMPLES)),
        *("--port", str(port), "--data-dir", str(data_dir)),
    ]


def said_until_stopped_at(beginning: str, port: int, data_dir: Path, look: Callable[[str], None] | None = None) -> str:
    """All the demo says until Ctrl-C at a line with this ``beginning``, after a ``look`` at what it said so far."""
    process = subprocess.Popen(
        command(port, data_dir), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert process.stdout is not None
    watchdog = threading.Timer(SECONDS, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith(beginning):
                if look is not None:
                    look(said)
                os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 0, said
        return said
    finally:
        watchdog.cancel()
        process.stdout.close()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def said_until_ready_and_stopped(port: int, data_dir: Path) -> str:
    """The same once it is ready. Every address it names must answer."""

    def visit(said: str) -> None:
        addresses = re.findall(rf"http://127\.0\.0\.1:{port}/[^\s']+", said)
        for address in addresses:
            if not address.endswith("/v2"):  # a base, not a page
                assert httpx.get(address).status_code == 200, address
        assert len(addresses) >= 6

    return said_until_stopped_at("Ctrl-C stops", port, data_dir, visit)


def test_it_runs_and_runs_again_with_the_same_data(tmp_path: Path) -> None:
    port = free_port()
    first = said_until_ready_and_stopped(port, tmp_path / "data")
    found = re.search(r"stored: +(\d+)", first)
    assert found and int(found[1]) > 0, first
    again = said_until_ready_and_stopped(port, tmp_path / "data")
    assert re.search(rf"already there: +{found[1]}\b", again), again
    assert "Traceback" not in first + again
    assert "Your data stay in" in again


def test_ctrl_c_while_samples_are_loaded_ends_it_without_a_word_too_many(tmp_path: Path) -> None:
    said = said_until_stopped_at("stored:", free_port(), tmp_path / "data")
    assert "Traceback" not in said
    assert "Your data stay in" in said


def test_a_taken_port_is_said_and_the_server_on_it_gets_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "other") as server, server.client() as client:
        done = subprocess.run(
            command(server.port, tmp_path / "data"), capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 2
        assert f"Port {server.port}" in done.stderr
        assert "make run PORT=" in done.stderr
        assert client.get("/statistics").json()["instances"] == 0
        assert not (tmp_path / "data").exists()
