"""Kill -9 of the whole process group while clients store metadata with bulk data apart, and bodies in gzip.

What reaches the disk then is not what came over the line: files are put together from parts, or unpacked first.
"""

import contextlib
import gzip
import io
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread

from tests import factories, stow_json
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import ORIGINALS, parts, referenced, value
from tests.acceptance.test_crash import check_feed, digest, feed, visible
from tests.server import Server
from tests.stow_json import Bulk, Json

pytestmark = pytest.mark.acceptance

ROUNDS = 3
SIDES = (64, 600, 1024)
"""Rows and columns of 16 bits: small, in memory, and through a file."""

Request = tuple[bytes, Mapping[str, str]]
Sent = Mapping[str, Mapping[str, str]]
"""By StudyInstanceUID: SHA-256 of the pixel data by SOPInstanceUID."""


def pixels(dice: random.Random) -> tuple[int, bytes]:
    """Rows, and pixel data that no other instance has, and that are quick to make and to compress."""
    side = dice.choice(SIDES)
    return side, dice.randbytes(32) * (side * side // 16)


def _as_json(study: str, images: Mapping[str, tuple[int, bytes]]) -> Request:
    numbers = {"00280002": 1, "00280100": 16, "00280101": 16, "00280102": 15, "00280103": 0}
    shared: Json = {key: {"vr": "US", "Value": [number]} for key, number in numbers.items()}
    shared["00280004"] = {"vr": "CS", "Value": ["MONOCHROME2"]}
    metadata = [
        stow_json.uids(study)
        | shared
        | {key: {"vr": "US", "Value": [side]} for key in ("00280010", "00280011")}
        | {"00080018": {"vr": "UI", "Value": [uid]}, "7FE00010": {"vr": "OW", "BulkDataURI": f"pixels/{uid}"}}
        for uid, (side, _) in images.items()
    ]
    return stow_json.body(metadata, [Bulk(f"pixels/{uid}", content) for uid, (_, content) in images.items()])


def _as_files(study: str, images: Mapping[str, tuple[int, bytes]]) -> Request:
    body, headers = factories.multipart(
        factories.instance(
            StudyInstanceUID=study, SOPInstanceUID=uid, Rows=side, Columns=side, BitsStored=16, PixelData=content
        )
        for uid, (side, content) in images.items()
    )
    return body, {**headers, "accept": "application/dicom+json"}


def _zipped(request: Request) -> Request:
    body, headers = request
    return gzip.compress(body, 1), {**headers, "content-encoding": "gzip"}


FORMS: Sequence[Callable[[str, Mapping[str, tuple[int, bytes]]], Request]] = (
    _as_json,
    lambda study, images: _zipped(_as_json(study, images)),
    lambda study, images: _zipped(_as_files(study, images)),
)


class Client:
    """Stores in one form until the server is gone."""

    def __init__(self, form: int) -> None:
        self.form = FORMS[form]
        self.dice = random.Random(form)
        self.sent: dict[str, dict[str, str]] = {}
        self.acknowledged: set[str] = set()

    def work(self, server: Server, stop: threading.Event) -> None:
        with contextlib.suppress(httpx.TransportError), server.client() as client:
            while not stop.is_set():
                study = factories.uid()
                images = {factories.uid(): pixels(self.dice) for _ in range(self.dice.choice((1, 1, 3)))}
                self.sent[study] = {uid: digest(content) for uid, (_, content) in images.items()}
                body, headers = self.form(study, images)
                response = client.post("/v2/studies", content=body, headers=headers)
                assert response.status_code == 200, response.text
                self.acknowledged |= {value(item, "00081155") for item in referenced(response)}


def crash(server: Server, clients: Sequence[Client], seed: int) -> None:
    """All at work, then the kill."""
    dice = random.Random(seed)
    before = sum(len(client.acknowledged) for client in clients)
    stop = threading.Event()
    threads = [threading.Thread(target=client.work, args=(server, stop)) for client in clients]
    for thread in threads:
        thread.start()
    enough, deadline = before + dice.randint(5, 25), time.monotonic() + 30
    while sum(len(client.acknowledged) for client in clients) < enough and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(dice.uniform(0, 0.05))
    server.kill()
    stop.set()
    for thread in threads:
        thread.join()


def check(server: Server, sent: Sent, acknowledged: set[str], known: Counter[str]) -> Counter[str]:
    """What a restarted server has: all that was acknowledged, all of it whole. ``known``: what has been read before."""
    with server.client() as client:
        found = visible(client)
        check_feed(feed(client), found)
        lost = acknowledged - found.keys()
        assert not lost, f"{len(lost)} acknowledged instances are lost"
        assert known.keys() <= found.keys()
        for study, instances in sent.items():
            there = {uid: of for uid, of in instances.items() if uid in found}
            if there.keys() <= known.keys():
                continue
            assert dict(_pixel_digests(client, study)) == there
            metadata = client.get(f"/v2/studies/{study}/metadata").json()
            assert sorted(value(item, "00080018") for item in metadata) == sorted(there)
    return found


def _pixel_digests(client: httpx.Client, study: str) -> Iterator[tuple[str, str]]:
    for part in parts(client.get(f"/v2/studies/{study}", headers={"accept": ORIGINALS})):
        ds = dcmread(io.BytesIO(part.body))
        assert len(ds.PixelData) == ds.Rows * ds.Columns * 2
        yield ds.SOPInstanceUID, digest(ds.PixelData)


def test_what_was_put_together_or_unpacked_is_there_whole(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", [*QUIET, "--workers", "2"])
    clients = [Client(form) for form in range(len(FORMS))]
    known: Counter[str] = Counter()
    try:
        server.start()
        for seed in range(ROUNDS):
            crash(server, clients, seed)
            server.start()
            # What uploads were under way at the kill left in the spool is gone with the next start.
            assert not list((server.data_dir / "spool").iterdir())
            sent = {study: instances for client in clients for study, instances in client.sent.items()}
            known = check(server, sent, set().union(*(client.acknowledged for client in clients)), known)
        assert server.stop() == 0
        assert "Unexpected error" not in server.log(), server.log()
    finally:
        server.end()
    for client in clients:
        assert len(client.acknowledged) >= ROUNDS, "with so little stored before the kills the test proved nothing"
