"""Clients that hang up at any byte leave nothing behind: no open file, no memory, no task (1,000 times)."""

import contextlib
import random
import re
import socket
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import FRAMES, ORIGINAL, ORIGINALS, instance_path, series_path, study_path
from tests.acceptance.test_memory import resident
from tests.server import Server

TIMES = 1000
GROWTH = 48 * 1024 * 1024
"""Bytes all processes may grow by: what a hundred answers held back would come to."""
SECONDS = 20.0
"""How long it may take until everything is let go of."""


def descriptors(server: Server) -> list[tuple[int, str]]:
    """Open files and sockets of every process."""
    found = []
    for pid in server.processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for each in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    name = str(each.readlink())
                    # SQLite has a connection for each of a few threads, some of which start late.
                    if "index.db" not in name:
                        found.append((pid, re.sub(r"\[[0-9]+\]", "", name)))
    return sorted(found)


def hang_up(server: Server, path: str, accept: str, cut: int, rng: random.Random) -> int:
    """Ask, read up to ``cut`` bytes, and go, politely or not; how many bytes came. Some go while they ask."""
    request = f"GET {path} HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode()
    received = 0
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        if rng.random() < 0.5:  # a reset instead of an end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if cut < 100_000 and rng.random() < 0.5:  # the server has to wait for the client
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if rng.random() < 0.1:
            connection.sendall(request[: rng.randrange(len(request) + 1)])
            return 0
        connection.sendall(request)
        while received < cut and (piece := connection.recv(min(65536, cut - received))):
            received += len(piece)
    return received


def answers(client: httpx.Client) -> list[tuple[str, str]]:
    """Addresses and Accept headers of long answers of every kind."""
    first = factories.dataset(Rows=512, Columns=512, PixelData=bytes(range(256)) * 2048)
    large = dicomweb.sibling(first, Rows=2048, Columns=1536, PixelData=bytes(range(256)) * 12 * 2048)
    dicomweb.store(client, first, large, *(dicomweb.sibling(first, PixelData=first.PixelData) for _ in range(20)))
    many = [factories.dataset(PixelData=None)]
    many += [dicomweb.sibling(many[0], PixelData=None, ImageComments="x" * 5000) for _ in range(600)]
    for start in range(0, len(many), 200):
        dicomweb.store(client, *many[start : start + 200])
    frames = factories.dataset(NumberOfFrames=20, Rows=512, Columns=512)
    frames.PixelData = first.PixelData * 20
    dicomweb.store(client, frames)
    jpeg = factories.dataset(NumberOfFrames=40, PixelData=encapsulate([first.PixelData[:50_000]] * 40))
    jpeg["PixelData"].is_undefined_length = True
    assert dicomweb.post(client, [factories.part10(jpeg, JPEGBaseline8Bit)]).status_code in (200, 202)
    numbers = ",".join(map(str, range(1, 21)))
    return [
        (study_path(first), ORIGINALS),
        (study_path(first), 'multipart/related; type="application/dicom"'),
        (instance_path(first), ORIGINAL),
        (instance_path(large), ORIGINAL),
        (f"{instance_path(frames)}/frames/{numbers}", FRAMES),
        (f"{instance_path(frames)}/frames/3", "application/octet-stream"),
        (f"{series_path(many[0])}/metadata", "application/dicom+json"),
        (f"{series_path(many[0])}/metadata", "*/*\r\nAccept-Encoding: gzip"),
        (f"{series_path(many[0])}/metadata", "*/*\r\nAccept-Encoding: zstd"),
        (f"{study_path(first)}/metadata?bulkdata=inline", "*/*"),
        (study_path(first), "application/zip"),
        (f"{study_path(first)}/bulkdata", "*/*"),
        (f"{instance_path(large)}/bulkdata/7FE00010", "*/*"),
        (f"{instance_path(large)}/bulkdata/7FE00010", "*/*\r\nRange: bytes=1000-20000000"),
        (f"{instance_path(jpeg)}/bulkdata/7FE00010", "*/*"),
    ]


@pytest.mark.acceptance
@pytest.mark.slow
def test_a_thousand_clients_that_hang_up(tmp_path: Path) -> None:
    rng = random.Random(1)
    server = Server(tmp_path / "data", [*QUIET, "--workers", "1"])
    try:
        server.start()
        with server.client() as client:
            asked = answers(client)
            lengths = {each: whole(server, *each) for each in asked}

            def storm(times: int) -> None:
                for number in range(times):
                    each = asked[number % len(asked)]
                    # As often near the beginning, where one message ends and the next begins, as anywhere.
                    furthest = lengths[each] if rng.random() < 0.5 else min(lengths[each], 3000)
                    hang_up(server, *each, rng.randrange(furthest), rng)

            storm(10 * len(asked))  # threads, connections and caches that stay
            settled(server, client)
            files, memory = descriptors(server), sum(map(resident, server.processes()))
            storm(TIMES)
            settled(server, client)
            until = time.monotonic() + SECONDS
            while (more := Counter(descriptors(server)) - Counter(files)) and time.monotonic() < until:
                time.sleep(0.2)
            assert not more
            grown = sum(map(resident, server.processes())) - memory
            assert grown < GROWTH, f"{grown >> 20} MiB"
            assert {each: whole(server, *each) for each in asked} == lengths
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()[-3000:]
    finally:
        server.end()


def whole(server: Server, path: str, accept: str) -> int:
    """Bytes of the whole answer with its headers."""
    return hang_up(server, path, accept, 1 << 40, random.Random(3))  # one that reads to the end


def settled(server: Server, client: httpx.Client) -> None:
    """Returns when the server answers others and its connections are gone."""
    assert client.get("/v2/studies?limit=1").status_code == 200
    time.sleep(1)
