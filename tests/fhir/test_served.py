"""The store over real HTTP, and its promise that what was answered is kept through a SIGKILL."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.fhir.resources import entry, patient, statuses, transaction
from tests.fhir.test_transactions import cast_bundle
from tests.server import free_port

pytestmark = pytest.mark.acceptance
START_SECONDS = 30


@contextmanager
def served(url: str, log: Path) -> Iterator[tuple[httpx.Client, "subprocess.Popen[bytes]"]]:
    """A client of a process that serves the database at ``url``, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "tests.fhir.served", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "HOUNSFIELD_TEST_DATABASE": url},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    headers = {"Content-Type": "application/fhir+json"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/fhir/", headers=headers, timeout=20) as client:
            deadline = time.monotonic() + START_SECONDS
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                try:
                    if client.get("metadata").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield client, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_transactions_survive_a_kill(database_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with served(database_url, log) as (client, process):
        base = str(client.base_url).rstrip("/")
        answer = client.post(base, json=cast_bundle("1.2.3", "kill"))
        assert statuses(answer.json()) == ["201 Created"] * 4
        for number in range(20):
            bundle = transaction(entry("PUT", f"Patient/k{number}", {"id": f"k{number}", **patient("kill")}))
            assert client.post(base, json=bundle).status_code == 200
        head = client.head("Patient/k1")
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", 'W/"1"')
        os.killpg(process.pid, signal.SIGKILL)
    with served(database_url, log) as (client, _):
        bundle = client.get("Patient?identifier=kill&_count=7").json()
        assert bundle["total"] == 21
        seen = len(bundle["entry"])
        while following := [link["url"] for link in bundle["link"] if link["relation"] == "next"]:
            bundle = client.get(following[0]).json()
            seen += len(bundle["entry"])
        assert seen == 21
        found = client.get("ImagingStudy?identifier=urn:oid:1.2.3&_include=ImagingStudy:patient").json()
        assert [one["search"]["mode"] for one in found["entry"]] == ["match", "include"]
