"""The examples of the pages do, against a real server, what the pages say."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import tour
from tests.docs.pages import README, ROOT, blocks
from tests.server import Server

PAGES = [README, ROOT / "docs" / "try.md", ROOT / "docs" / "integrate.md"]

pytestmark = pytest.mark.acceptance


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server as ``make run`` leaves it: with the samples, cast."""
    server = Server(tmp_path / "data")
    try:
        server.start()
        command = [sys.executable, "-m", "hounsfield", "upload", str(ROOT / "samples"), "--to", f"{server.root}/v2"]
        subprocess.run([*command, "--journal", str(tmp_path / "journal")], check=True, capture_output=True)
        _wait_for_cast(server)
        yield server
        assert server.stop() == 0
    finally:
        server.end()


def _wait_for_cast(server: Server) -> None:
    deadline = time.monotonic() + 60
    with server.client() as client:
        while client.get("/cast/status").json()["lag"]:
            assert time.monotonic() < deadline, "casting the samples takes too long"
            time.sleep(0.1)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_work(page: Path, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    results = tour.run(page, server.root, folder)
    assert results, f"{page.name} has no examples"
    for example, printed, said in results:
        assert said is None or tour.fits(printed, said), f"{example}\nprints\n{printed}\nthe page says\n{said}"


def test_what_is_printed_is_compared() -> None:
    said = 'a…"total":0…\n…\nend\n'
    assert tour.fits('abc "total":0}\n\none\ntwo\nend\n\n', said)
    assert not tour.fits('abc "total":1}\none\nend\n', said)
    assert not tour.fits('abc "total":0}\none\n', said)
    assert not tour.fits("ab\nend", "a…b\nend.")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_compile(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page.name}", "exec")
