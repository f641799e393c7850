"""Memory does not grow with what is stored or retrieved: 2 GB pass through less than 200 MB (store.md §1)."""

import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset

from tests import factories, stow_json
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import ORIGINAL, instance_path, study_path
from tests.acceptance.query_tags import ended
from tests.server import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

FRAME = 1_000_000
FRAMES = 2_000
PIXELS = FRAME * FRAMES
LIMIT = 200 * 1024 * 1024
FLAT = 50 * 1024 * 1024
MUCH = 400
"""Mebibytes: eight times what it may take."""
PIECE = bytes(range(256)) * 4096
"""A mebibyte of pixel data; the whole is this again and again."""


def resident(pid: int) -> int:
    """Bytes of a process in memory, 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (FileNotFoundError, ProcessLookupError):
        return 0


def settled(server: Server) -> int:
    """Memory of all the server's processes once none of them loads or warms up any more."""
    size, quiet_since = -1, time.monotonic()
    deadline = quiet_since + 30
    while time.monotonic() < min(deadline, quiet_since + 1):
        now = sum(map(resident, server.processes()))
        if abs(now - size) > 1 << 20:
            size, quiet_since = now, time.monotonic()
        time.sleep(0.05)
    return size


@contextmanager
def watched(server: Server) -> Iterator[Callable[[], tuple[int, int]]]:
    """Looks at the memory of all the server's processes; call for what it was before the block and at most in it."""
    stop = threading.Event()
    before = settled(server)
    peak = before

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.02):
            peak = max(peak, sum(map(resident, server.processes())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: (before, peak)
    finally:
        stop.set()
        watcher.join()


def head(ds: Dataset) -> bytes:
    """The file of ``ds`` up to its pixel data, which will have PIXELS bytes."""
    body = factories.part10(ds)
    at = body.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    return body[:at] + PIXELS.to_bytes(4, "little")


def pixels(offset: int, length: int) -> bytes:
    """A range of the pixel data."""
    start = offset % len(PIECE)
    return (PIECE * ((start + length) // len(PIECE) + 1))[start : start + length]


def upload(server: Server, header: bytes) -> bytes:
    """Sends the 2 GB as they are made; the start of the answer."""
    request = "POST /v2/studies HTTP/1.1\r\nHost: h\r\nContent-Type: application/dicom\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(f"{request}Content-Length: {len(header) + PIXELS}\r\n\r\n".encode() + header)
        for offset in range(0, PIXELS, len(PIECE)):
            connection.sendall(PIECE[: PIXELS - offset])
        return connection.recv(15)


def download(server: Server, path: str, accept: str) -> int:
    """Retrieves what holds the file as its last bytes or last part; how many bytes came. The end is compared."""
    request = f"GET {path} HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    size, tail, buffer = 0, b"", bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(request.encode())
        while received := connection.recv_into(buffer):
            size += received
            tail = (tail + buffer[max(0, received - 5000) : received])[-5000:]
    assert pixels(PIXELS - 4000, 4000) in tail
    return size


def test_two_gigabytes_in_and_out(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    server = Server(tmp_path / "data", [*QUIET, "--workers", "2"])
    ds = factories.dataset(Rows=1000, Columns=500, NumberOfFrames=FRAMES)
    header = head(ds)
    try:
        server.start()
        with server.client() as client:
            dicomweb.store(client, factories.dataset())
        with watched(server) as memory:
            assert upload(server, header) == b"HTTP/1.1 200 OK"
            report("upload", memory(), record_property)
        with watched(server) as memory, server.client() as client:
            assert 0 < download(server, instance_path(ds), ORIGINAL) - len(header) - PIXELS < 1000
            report("single part download", memory(), record_property)
            assert 0 < download(server, study_path(ds), dicomweb.ORIGINALS) - len(header) - PIXELS < 1000
            report("multipart download", memory(), record_property)
            for number in (1, 1234, FRAMES):
                frame = client.get(
                    f"{instance_path(ds)}/frames/{number}", headers={"accept": "application/octet-stream"}
                )
                assert frame.content == pixels((number - 1) * FRAME, FRAME)
            many = client.get(f"{instance_path(ds)}/frames/{','.join(map(str, range(1, 401)))}")
            assert len(dicomweb.parts(many)) == 400
            report("frames", memory(), record_property)
            dataset = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "New^Name"}]}}
            body = {"studyInstanceUids": [ds.StudyInstanceUID], "changeDataset": dataset}
            operation = ended(client, client.post("/v2/studies/$bulkUpdate", json=body).json()["href"])
            assert (operation["status"], operation["results"]["instanceUpdated"]) == ("succeeded", 1)
            named = client.get(f"{instance_path(ds)}/metadata").json()[0]["00100010"]
            assert named == dataset["00100010"]
            frame = client.get(f"{instance_path(ds)}/frames/{FRAMES}", headers={"accept": "application/octet-stream"})
            assert frame.content == pixels((FRAMES - 1) * FRAME, FRAME)
            report("bulk update", memory(), record_property)
            assert client.delete(study_path(ds)).status_code == 204
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()
    finally:
        server.end()


def report(
    name: str, memory: tuple[int, int], record_property: Callable[[str, object], None], limit: int = LIMIT
) -> None:
    """Notes the figures in the test report and holds them to the limit."""
    before, peak = memory
    text = f"{name}: {before >> 20} MiB before, {peak >> 20} MiB at most"
    record_property(name, text)
    print(text)
    assert peak - before < limit, text


def test_thousands_of_parts_and_many_large_ones(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    server = Server(tmp_path / "data", [*QUIET, "--workers", "2"])

    def many(client: httpx.Client, count: int) -> None:
        study = factories.uid()
        small = [factories.instance(StudyInstanceUID=study, PixelData=bytes(4000)) for _ in range(count)]
        assert dicomweb.post(client, small).status_code == 200

    def large(_: int) -> None:
        body = factories.instance(PixelData=PIECE * 95)
        with server.client() as client:
            headers = {"content-type": "application/dicom", "accept": "*/*"}
            assert client.post("/v2/studies", content=body, headers=headers).status_code == 200

    try:
        server.start()
        with server.client() as client:
            many(client, 1_000)  # what a process keeps for later, it has now
            with watched(server) as memory:
                many(client, 5_000)
                report("5,000 parts", memory(), record_property, FLAT)
        with watched(server) as memory, ThreadPoolExecutor(16) as clients:
            assert list(clients.map(large, range(16)))
            report("16 clients of 100 MB", memory(), record_property, FLAT)
        assert server.stop() == 0
    finally:
        server.end()


def test_much_beside_its_metadata_and_much_that_is_compressed(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    server = Server(tmp_path / "data", [*QUIET, "--workers", "2"])
    metadata = stow_json.uids(factories.uid()) | {"7FE00010": {"vr": "OB", "BulkDataURI": "pixels"}}
    body, headers = stow_json.body([metadata], [stow_json.Bulk("pixels", b"@PIXELS@")])
    before, behind = body.split(b"@PIXELS@")
    noise = random.Random(1).randbytes(len(PIECE))

    def parts() -> Iterator[bytes]:
        yield before
        for _ in range(MUCH):
            yield noise
        yield behind

    def compressed() -> Iterator[bytes]:
        squeeze = zlib.compressobj(1, zlib.DEFLATED, 31)
        yield squeeze.compress(factories.part10(factories.dataset(), preamble=bytes(128)))
        for _ in range(MUCH):
            yield squeeze.compress(noise[: 1 << 17] * 8)
        yield squeeze.flush()

    try:
        server.start()
        with server.client() as client:
            dicomweb.store(client, factories.dataset())
            with watched(server) as memory:
                assert client.post("/v2/studies", content=parts(), headers=headers, timeout=300).status_code == 200
                report("400 MB beside its metadata", memory(), record_property, FLAT)
            packed = {"content-type": "application/dicom", "content-encoding": "gzip", "accept": "*/*"}
            with watched(server) as memory:
                # That the noise behind the file makes it unreadable does not matter here.
                answer = client.post("/v2/studies", content=compressed(), headers=packed, timeout=300)
                assert answer.status_code == 409, answer.text
                report("400 MB compressed", memory(), record_property, FLAT)
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()
    finally:
        server.end()
