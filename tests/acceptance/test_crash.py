"""Kill -9 of the whole process group while clients store and delete: what was acknowledged is there, whole, once."""

import contextlib
import hashlib
import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import ORIGINALS, Json, instance_path, parts, referenced, study_path, value
from tests.server import Server

pytestmark = pytest.mark.acceptance

ROUNDS = int(os.environ.get("HOUNSFIELD_CRASH_ROUNDS", "10"))
CLIENTS = 6
SIZES = (500, 8_000, 8_000, 300_000, 1_500_000)
"""Bytes of pixel data: some uploads stay in memory, some go through a file."""


@dataclass
class Study:
    """What one client did to one study before the server died."""

    sample: Dataset
    sent: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every file ever sent, by SOP Instance UID."""
    stored: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    """Instances the server said it stored, or deleted."""
    perhaps_deleted: set[str] = field(default_factory=set)
    """Instances of whose deletion nothing was heard."""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def work(server: Server, study: Study, seed: int, stop: threading.Event) -> None:
    """Stores, and sometimes deletes, until the server is gone."""
    dice = random.Random(seed)
    with contextlib.suppress(httpx.TransportError), server.client() as client:
        while not stop.is_set():
            datasets = [
                dicomweb.sibling(
                    study.sample, same_series=dice.random() < 0.7, PixelData=dice.randbytes(dice.choice(SIZES))
                )
                for _ in range(dice.choice([1, 1, 2, 5]))
            ]
            files = {ds.SOPInstanceUID: factories.part10(ds) for ds in datasets}
            study.sent |= {uid: digest(content) for uid, content in files.items()}
            response = dicomweb.post(client, files.values())
            assert response.status_code == 200, response.text
            study.stored |= {value(item, "00081155") for item in referenced(response)}
            if dice.random() < 0.3:
                victim = datasets[0]
                study.perhaps_deleted.add(victim.SOPInstanceUID)
                assert client.delete(instance_path(victim)).status_code == 204
                study.perhaps_deleted.remove(victim.SOPInstanceUID)
                study.deleted.add(victim.SOPInstanceUID)


def crash(server: Server, seed: int) -> list[Study]:
    """One round: clients at work, then the kill."""
    studies = [Study(factories.dataset()) for _ in range(CLIENTS)]
    stop = threading.Event()
    threads = [
        threading.Thread(target=work, args=(server, study, seed * CLIENTS + number, stop))
        for number, study in enumerate(studies)
    ]
    for thread in threads:
        thread.start()
    dice = random.Random(seed)
    enough, deadline = dice.randint(10, 60), time.monotonic() + 30
    while sum(len(study.stored) for study in studies) < enough and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(dice.uniform(0, 0.05))
    server.kill()
    stop.set()
    for thread in threads:
        thread.join()
    return studies


def feed(client: httpx.Client) -> list[Json]:
    entries: list[Json] = []
    while page := client.get(
        "/v2/changefeed", params={"offset": len(entries), "limit": 200, "includeMetadata": "false"}
    ).json():
        entries += page
    return entries


def visible(client: httpx.Client) -> Counter[str]:
    """SOP Instance UIDs a search finds."""
    found: Counter[str] = Counter()
    for offset in range(0, 1_000_000, 200):
        response = client.get("/v2/instances", params={"offset": offset, "limit": 200})
        if response.status_code == 204:
            break
        found.update(value(item, "00080018") for item in response.json())
    return found


def check_feed(entries: list[Json], found: Counter[str]) -> None:
    """Sequences and times only grow; every visible instance has one live create, every other one none."""
    assert [entry["sequence"] for entry in entries] == sorted({entry["sequence"] for entry in entries})
    times = [datetime.fromisoformat(entry["timestamp"]) for entry in entries]
    assert times == sorted(times)
    creates = Counter(entry["sopInstanceUid"] for entry in entries if entry["action"] == "Create")
    live = Counter(entry["sopInstanceUid"] for entry in entries if entry["state"] == "Current")
    assert set(creates.values()) <= {1}
    assert live == found
    assert set(found.values()) <= {1}


def check_study(client: httpx.Client, study: Study, found: Counter[str]) -> None:
    must = study.stored - study.deleted - study.perhaps_deleted
    there = {uid for uid in study.sent if uid in found}
    assert must <= there, f"{len(must - there)} acknowledged instances are lost"
    assert not there & study.deleted, "a deleted instance is back"
    if not there:
        assert client.get(study_path(study.sample)).status_code == 404
        return
    received = parts(client.get(study_path(study.sample), headers={"accept": ORIGINALS}))
    assert sorted(digest(part.body) for part in received) == sorted(study.sent[uid] for uid in there)
    metadata = client.get(f"{study_path(study.sample)}/metadata").json()
    assert sorted(value(item, "00080018") for item in metadata) == sorted(there)


def survive(server: Server, rounds: int) -> None:
    """Kills ``server`` so many times, and looks each time at what is there afterwards."""
    history: list[Study] = []
    try:
        for seed in range(rounds):
            server.start()
            with server.client() as client:
                found = visible(client)
                check_feed(feed(client), found)
                for study in history[-CLIENTS:]:
                    check_study(client, study, found)
            # What uploads were under way at the kill left in the spool is gone with the next start.
            assert not list((server.data_dir / "spool").iterdir())
            history += crash(server, seed)
        with server.start().client() as client:
            found = visible(client)
            check_feed(feed(client), found)
            for study in history:
                check_study(client, study, found)
        assert server.stop() == 0
        assert "Unexpected error" not in server.log(), server.log()
    finally:
        server.end()
    stored = sum(len(study.stored) for study in history)
    assert stored >= 10 * rounds, "with so little stored before the kills the test proved nothing"
    print(f"{rounds} kills, {stored} instances acknowledged, {sum(len(study.deleted) for study in history)} deleted")


def test_nothing_acknowledged_is_lost_and_nothing_is_half_there(tmp_path: Path) -> None:
    section = "DicomServer__Services__DeletedInstanceCleanup"
    quick = {f"{section}__DeleteDelay": "00:00:00", f"{section}__PollingInterval": "00:00:00.1"}
    survive(Server(tmp_path / "data", [*QUIET, "--workers", "2"], quick), ROUNDS)
