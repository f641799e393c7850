"""A process that dies at every named point of a store, a delete and a cleanup (hounsfield.faults)."""

import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset

from hounsfield.faults import POINTS
from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import ORIGINAL, instance_path, study_path
from tests.acceptance.test_crash import check_feed, feed, visible
from tests.acceptance.test_lifecycle import running

SOURCE = Path(__file__).parents[2] / "src" / "hounsfield"
SHORT = "transaction: by one statement"
STORE = [name for name in POINTS if not name.startswith(("cleanup", "batch", "operation", "tag", "update", "export"))]
DELETE = [name for name in POINTS if name.startswith("transaction") and name != SHORT]
CLEANUP = [name for name in POINTS if name.startswith("cleanup")]
SIZES = {"in memory": 8_000, "in a file": 1_500_000}

pytestmark = pytest.mark.acceptance


def fault(name: str) -> dict[str, str]:
    # The health check writes a file, too; the server has to become ready first.
    return {"HOUNSFIELD_FAULT": name, "HealthCheckPublisher__ExcludedHealthCheckNames": "ObjectStore"}


def does_not_answer(ask: Callable[[], httpx.Response]) -> bool:
    """Whether the server died over a question."""
    try:
        ask()
    except httpx.TransportError:
        return True
    return False


def is_there(client: httpx.Client, ds: Dataset, content: bytes, *, again: bool = False) -> bool:
    """Whether an instance is there, whole, by every way to it, or by none. ``again``: stored after a delete."""
    response = client.get(instance_path(ds), headers={"accept": ORIGINAL})
    found = visible(client)
    if not again:
        check_feed(feed(client), found)
    if response.status_code == 404:
        assert ds.SOPInstanceUID not in found
        assert client.get(study_path(ds) + "/metadata").status_code == 404
        return False
    assert response.content[128:] == content[128:]
    assert ds.SOPInstanceUID in found
    assert len(client.get(study_path(ds) + "/metadata").json()) == 1
    return True


def test_every_point_is_somewhere_and_named_here() -> None:
    used = [name for path in SOURCE.rglob("*.py") for name in re.findall(r'faults\.point\("(.+?)"\)', path.read_text())]
    assert set(used) == set(POINTS)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("point", STORE)
def test_a_store_that_dies(tmp_path: Path, point: str, size: str) -> None:
    ds = factories.dataset(PixelData=bytes(SIZES[size]))
    content = factories.part10(ds)
    reached = not point.startswith("upload" if size == "in memory" else "file: ") or point == "file: name synced"
    with running(tmp_path / "data", "--no-worker", environment=fault(point)) as server, server.client() as client:
        assert does_not_answer(lambda: dicomweb.post(client, [content])) == reached
        server.kill()
    with running(tmp_path / "data") as server, server.client() as client:
        assert not list((server.data_dir / "spool").iterdir())
        there = is_there(client, ds, content)
        if point != "file: name synced":  # which goes on beside the commit
            assert there == (not reached or STORE.index(point) >= STORE.index("transaction: committed"))
        assert dicomweb.post(client, [content]).status_code == (409 if there else 200)
        assert is_there(client, ds, content)
        assert server.stop() == 0
        assert "Traceback" not in server.log()


@pytest.mark.parametrize(
    "point", ["store: placed", SHORT, "transaction: begun", "transaction: committed", "store: done"]
)
def test_a_store_of_the_next_instance_of_a_series_that_dies(tmp_path: Path, point: str) -> None:
    """It changes nothing in study and series, so one statement makes it visible; no transaction is begun."""
    first = factories.dataset()
    ds = factories.dataset(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID)
    content = factories.part10(ds)
    with running(tmp_path / "data", "--no-worker") as server, server.client() as client:
        dicomweb.store(client, first)
        assert server.stop() == 0
    reached = point != "transaction: begun"
    with running(tmp_path / "data", "--no-worker", environment=fault(point)) as server, server.client() as client:
        assert does_not_answer(lambda: dicomweb.post(client, [content])) == reached
        server.kill()
    with running(tmp_path / "data") as server, server.client() as client:
        found = visible(client)
        check_feed(feed(client), found)
        there = ds.SOPInstanceUID in found
        assert there == (not reached or STORE.index(point) >= STORE.index("transaction: committed"))
        assert dicomweb.post(client, [content]).status_code == (409 if there else 200)
        response = client.get(instance_path(ds), headers={"accept": ORIGINAL})
        assert response.content[128:] == content[128:]
        assert len(client.get(study_path(ds) + "/metadata").json()) == len(feed(client)) == 2
        assert server.stop() == 0
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("point", DELETE)
def test_a_delete_that_dies(tmp_path: Path, point: str) -> None:
    ds = factories.dataset()
    content = factories.part10(ds)
    with running(tmp_path / "data", "--no-worker") as server, server.client() as client:
        dicomweb.store(client, ds)
        assert server.stop() == 0
    with running(tmp_path / "data", "--no-worker", environment=fault(point)) as server, server.client() as client:
        assert does_not_answer(lambda: client.delete(study_path(ds)))
        server.kill()
    with running(tmp_path / "data") as server, server.client() as client:
        there = is_there(client, ds, content)
        assert there == (point != "transaction: committed")
        assert client.delete(study_path(ds)).status_code == (204 if there else 404)
        assert dicomweb.post(client, [content]).status_code == 200
        assert is_there(client, ds, content, again=True)
        assert [entry["action"] for entry in feed(client)] == ["Create", "Delete", "Create"]
        assert server.stop() == 0


@pytest.mark.parametrize("point", CLEANUP)
def test_a_cleanup_that_dies(tmp_path: Path, point: str) -> None:
    section = "DicomServer__Services__DeletedInstanceCleanup"
    at_once = {f"{section}__DeleteDelay": "00:00:00", f"{section}__PollingInterval": "00:00:01"}
    datasets = [factories.dataset() for _ in range(3)]

    def files() -> int:
        return len(list((tmp_path / "data" / "dicom").rglob("*.dcm")))

    def waiting() -> int:
        with sqlite3.connect(tmp_path / "data" / "index.db") as connection:
            return int(connection.execute("SELECT count(*) FROM deleted_file").fetchone()[0])

    def eventually(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, (files(), waiting())
            time.sleep(0.1)

    with running(tmp_path / "data", "--no-worker", environment=at_once) as server, server.client() as client:
        for ds in datasets:
            dicomweb.store(client, ds)
            assert client.delete(study_path(ds)).status_code == 204
        assert server.stop() == 0
    assert (files(), waiting()) == (3, 3)
    with running(tmp_path / "data", environment=at_once | fault(point)) as server:
        eventually(lambda: files() < 3)
        server.kill()
    with sqlite3.connect(tmp_path / "data" / "index.db") as connection:
        connection.execute("DELETE FROM lease")  # as if the minute of the dead worker were over
    with running(tmp_path / "data", environment=at_once) as server, server.client() as client:
        eventually(lambda: (files(), waiting()) == (0, 0))
        for ds in datasets:
            assert client.get(study_path(ds)).status_code == 404
        assert server.stop() == 0
        assert "Traceback" not in server.log()
