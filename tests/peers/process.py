"""A peer as a child process: started on loopback, waited for, and ended whatever happens."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.server import free_port

START_SECONDS = 60
STOP_SECONDS = 10

NODE_PEERS = Path(__file__).parents[2] / ".peers"
"""Where install.sh puts what comes from npm."""


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI, where every peer must be there."""
    reason = f"{reason} (sh tests/peers/install.sh)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def node_program(package_file: str) -> list[str]:
    """The command that runs a file of an installed npm package; skips if it is not installed."""
    node = shutil.which("node")
    program = NODE_PEERS / "node_modules" / package_file
    if node is None:
        unavailable("node is not installed")
    if not program.exists():
        unavailable(f"npm package {package_file.split('/')[0]} is not installed")
    return [node, str(program)]


def accepts(port: int) -> bool:
    """Whether somebody listens on ``port``."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(
    command: Sequence[str],
    log: Path,
    is_ready: Callable[[], bool],
    user: str | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """``command`` as a child process, from when it is ready until the block ends."""
    if shutil.which("setpriv"):
        # A test run that is killed takes its peers with it.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            env=None if environment is None else {**os.environ, **environment},
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[-1]} did not start:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def node_server(program: Path, package_file: str, log: Path) -> Iterator[str]:
    """The base URL of a server of ours in JavaScript that needs an installed package; skips without it."""
    node = node_program(package_file)[0]
    port = free_port()
    with running([node, str(program), str(NODE_PEERS), str(port)], log, lambda: accepts(port)):
        yield f"http://127.0.0.1:{port}"
