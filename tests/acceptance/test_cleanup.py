"""Removing the files of deleted instances: delay, batches, retries, giving up, restarts, and what /metrics says
(server.md §12).

A file is made impossible to remove by putting a folder in its place.
"""

import os
import re
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydicom.dataset import Dataset

from hounsfield.operations.job import Status
from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import ORIGINAL, instance_path, study_path
from tests.acceptance.test_lifecycle import running, until
from tests.docs.pages import ROOT, table
from tests.server import Server

pytestmark = pytest.mark.acceptance

STUCK = "A deleted instance's file could not be removed"
ELSEWHERE = {
    "hounsfield_cast_table_store_waiting",
    "hounsfield_cast_workitem_lag",
    "hounsfield_cast_workitem_lag_seconds",
}
"""Gauges with Azure tables, and with casting of workitems, only."""


def settings(**options: str) -> dict[str, str]:
    """The environment of a server that cleans up at once, unless ``options`` say otherwise."""
    given = {"DeleteDelay": "00:00:00", "PollingInterval": "00:00:00.1", "RetryBackOff": "00:00:00", **options}
    return {f"DicomServer__Services__DeletedInstanceCleanup__{name}": text for name, text in given.items()}


def metrics(client: httpx.Client) -> Mapping[str, float]:
    """The figures of /metrics, each of which must be explained, and a gauge unless it is a total."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in text_string_to_metric_families(response.text):
        assert family.type == ("counter" if family.name == "hounsfield_cast_failures" else "gauge")
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert sample.name.startswith("hounsfield_")
            name = " ".join([sample.name.removeprefix("hounsfield_"), *sample.labels.values()])
            assert name not in found
            found[name] = sample.value
    return found


def waiting(client: httpx.Client) -> tuple[int, int]:
    """Pending deletions, and those of them that ran out of retries."""
    found = metrics(client)
    return int(found["pending_deletions"]), int(found["exhausted_deletions"])


def files(data_dir: Path) -> list[Path]:
    # Not rglob, which minds when a folder goes while it looks.
    found = [Path(folder, name) for folder, _, names in os.walk(data_dir / "dicom") for name in names]
    return sorted(path for path in found if path.suffix == ".dcm" and path.is_file())


def file_of(data_dir: Path, ds: Dataset) -> Path:
    found = list((data_dir / "dicom" / str(ds.StudyInstanceUID)).rglob(f"{ds.SOPInstanceUID}_*.dcm"))
    assert len(found) == 1
    return found[0]


def block(path: Path) -> None:
    """Put a folder in the place of a file, and the file beside it."""
    path.rename(path.with_suffix(".aside"))
    path.mkdir()


def unblock(path: Path) -> None:
    path.rmdir()
    path.with_suffix(".aside").rename(path)


def forget_lease(data_dir: Path) -> None:
    """As if the minute of a dead worker were over."""
    with sqlite3.connect(data_dir / "index.db") as connection:
        connection.execute("DELETE FROM lease")
    connection.close()


def stored(client: httpx.Client, count: int) -> list[Dataset]:
    """``count`` instances of one new study."""
    first = factories.dataset()
    datasets = [first, *(dicomweb.sibling(first) for _ in range(count - 1))]
    dicomweb.store(client, *datasets)
    return datasets


def test_a_removal_that_fails_is_tried_again_and_given_up(tmp_path: Path) -> None:
    """Others are removed meanwhile; raising MaxRetries takes it up again, even after kill -9."""
    data_dir = tmp_path / "data"
    few = settings(MaxRetries="2", BatchSize="2")
    with running(data_dir, environment=few) as server, server.client() as client:
        datasets = stored(client, 7)
        kept = stored(client, 1)
        blocked = [file_of(data_dir, ds) for ds in datasets[:3]]
        for path in blocked:
            block(path)
        assert client.delete(study_path(datasets[0])).status_code == 204
        until(lambda: waiting(client) == (3, 3))
        assert files(data_dir) == [file_of(data_dir, kept[0])]
        said = [line for line in server.log().splitlines() if STUCK in line]
        assert [line.split()[2] for line in said].count("WARNING") == 2 * 3
        assert [line.split()[2] for line in said].count("CRITICAL") == 3
        assert all("in 3 attempts, and stays" in line for line in said if "CRITICAL" in line)
        assert not any(ds.SOPInstanceUID in line or ds.StudyInstanceUID in line for ds in datasets for line in said)
        for path in blocked:
            unblock(path)
        time.sleep(1)  # several rounds
        assert metrics(client)["pending_deletion_oldest_age_seconds"] >= 1
        assert waiting(client) == (3, 3)
        server.kill()
    forget_lease(data_dir)
    with running(data_dir, environment=settings(MaxRetries="5")) as server, server.client() as client:
        until(lambda: waiting(client) == (0, 0))
        assert metrics(client)["pending_deletion_oldest_age_seconds"] == 0
        assert files(data_dir) == [file_of(data_dir, kept[0])]
        assert server.stop() == 0
        assert "Traceback" not in server.log()


def test_a_removal_that_failed_waits_for_the_back_off(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with running(data_dir, environment=settings(RetryBackOff="00:00:03")) as server, server.client() as client:
        (ds,) = stored(client, 1)
        path = file_of(data_dir, ds)
        block(path)
        assert client.delete(study_path(ds)).status_code == 204
        until(lambda: STUCK in server.log())
        failed = time.monotonic()
        unblock(path)
        until(lambda: waiting(client) == (0, 0))
        assert time.monotonic() - failed > 2.5
        assert server.log().count(STUCK) == 1
        assert files(data_dir) == []


def test_the_delay_outlasts_a_kill(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with running(data_dir, environment=settings(DeleteDelay="00:00:06")) as server, server.client() as client:
        datasets = stored(client, 2)
        deleted = time.monotonic()
        assert client.delete(instance_path(datasets[0])).status_code == 204
        time.sleep(1)
        server.kill()
    forget_lease(data_dir)
    assert len(files(data_dir)) == 2
    # The delay was settled when the instance was deleted; a new setting is for new deletions.
    with running(data_dir, environment=settings()) as server, server.client() as client:
        if time.monotonic() - deleted < 5.5:
            assert len(files(data_dir)) == 2
            assert waiting(client) == (1, 0)
        until(lambda: len(files(data_dir)) == 1)
        assert time.monotonic() - deleted > 5.5
        until(lambda: waiting(client) == (0, 0))
        assert client.get(instance_path(datasets[1]), headers={"accept": ORIGINAL}).status_code == 200
        assert client.delete(instance_path(datasets[1])).status_code == 204
        until(lambda: files(data_dir) == [], 4)


def test_one_round_takes_batch_after_batch(tmp_path: Path) -> None:
    """The next round would be in an hour."""
    data_dir = tmp_path / "data"
    with running(data_dir, "--no-worker", environment=settings()) as server, server.client() as client:
        (first, *_) = stored(client, 25)
        assert client.delete(study_path(first)).status_code == 204
        assert waiting(client) == (25, 0)
        assert server.stop() == 0
    with running(data_dir, environment=settings(PollingInterval="01:00:00", BatchSize="3")) as server:
        until(lambda: files(data_dir) == [])
        with server.client() as client:
            until(lambda: waiting(client) == (0, 0))
        assert server.stop() == 0


def test_only_the_old_version_s_file_goes(tmp_path: Path) -> None:
    """Stored again before the cleanup of the deleted one: with the worker stopped in between, nothing is by chance."""
    data_dir = tmp_path / "data"
    ds = factories.dataset()
    with running(data_dir, "--no-worker", environment=settings()) as server, server.client() as client:
        dicomweb.store(client, ds)
        old = file_of(data_dir, ds)
        assert client.delete(study_path(ds)).status_code == 204
        ds.PatientName = "New^Name"
        dicomweb.store(client, ds)
        assert len(files(data_dir)) == 2
        assert server.stop() == 0
    with running(data_dir, environment=settings()) as server, server.client() as client:
        until(lambda: not old.exists())
        until(lambda: waiting(client) == (0, 0))
        assert len(files(data_dir)) == 1
        assert client.get(instance_path(ds), headers={"accept": ORIGINAL}).content == factories.part10(ds)
        entries = client.get("/v2/changefeed").json()
        assert [(entry["action"], entry["state"]) for entry in entries] == [
            ("Create", "Replaced"),
            ("Delete", "Replaced"),
            ("Create", "Current"),
        ]


def test_failing_rounds_do_not_end_the_loop(tmp_path: Path) -> None:
    """For a while the queue cannot be read."""
    data_dir = tmp_path / "data"
    with running(data_dir, environment=settings()) as server, server.client() as client:
        (ds,) = stored(client, 1)
        with sqlite3.connect(data_dir / "index.db") as connection:
            connection.execute("ALTER TABLE deleted_file RENAME TO elsewhere")
        until(lambda: "Background work waits" in server.log())
        with sqlite3.connect(data_dir / "index.db") as connection:
            connection.execute("ALTER TABLE elsewhere RENAME TO deleted_file")
        connection.close()
        assert client.delete(study_path(ds)).status_code == 204
        until(lambda: files(data_dir) == [])
        assert server.stop() == 0


# --- the other figures ---


@pytest.fixture
def quiet(tmp_path: Path) -> Server:
    """A server that is not started."""
    return Server(tmp_path / "data", ["--no-cast", "--no-fhir", "--no-worker", "--workers", "2"])


def test_the_figures_of_the_archive(quiet: Server) -> None:
    try:
        with quiet.start().client() as client:
            datasets = stored(client, 3)
            dicomweb.store(client, dicomweb.sibling(datasets[0], same_series=False))
            client.delete(instance_path(datasets[0]))
            assert quiet.stop() == 0
        # After a new start, as counts over all instances are good for a minute.
        with quiet.start().client() as client:
            expected = client.get("/statistics").json()
            cells = [row["Gauge"] for row in table(ROOT / "docs" / "operate.md", "Gauge", "What")]
            written = set(re.findall(r"`(\w+)`", " ".join(cells)))
            for _ in range(20):  # whichever process answers
                found = dict(metrics(client))
                shown = {f"hounsfield_{name.partition(' ')[0]}" for name in found}
                assert shown == written - ELSEWHERE
                found = {name: value for name, value in found.items() if not name.startswith("cast_")}
                assert 0 < found.pop("pending_deletion_oldest_age_seconds") < 60
                assert found == {
                    "studies": 1,
                    "series": 2,
                    "instances": 3,
                    "stored_bytes": expected["bytes"],
                    "received_bytes": expected["bytes"],
                    "original_bytes": 0,
                    "recompressed_instances": 0,
                    "updated_instances": 0,
                    "change_feed_sequence": 5,
                    "pending_deletions": 1,
                    "exhausted_deletions": 0,
                    **{f"operations {status}": 0 for status in Status},
                }
            assert client.post("/metrics").status_code == 405
            for path in ("/v2/metrics", "/metrics/", "/Metrics"):
                assert client.get(path).status_code == 404
            assert client.get("/metrics", headers={"accept": "application/openmetrics-text"}).status_code == 200
            # What is cheap to know follows within a second.
            dicomweb.store(client, factories.dataset())
            until(lambda: metrics(client)["change_feed_sequence"] == 6, 5)
    finally:
        quiet.end()


def test_figures_that_cannot_be_had(quiet: Server) -> None:
    try:
        with quiet.start().client() as client:
            with sqlite3.connect(quiet.data_dir / "index.db") as connection:
                connection.execute("ALTER TABLE deleted_file RENAME TO elsewhere")
            connection.close()
            response = client.get("/metrics")
            assert response.status_code == 503
            assert response.headers["content-type"] == "text/plain; charset=utf-8"
    finally:
        quiet.end()
