"""Processes that die while tags are added, re-indexed or deleted: nothing is missed, left over or done twice."""

import contextlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset

from hounsfield.operations.reindex import BATCH
from tests import factories
from tests.acceptance import dicomweb, query_tags
from tests.acceptance.query_tags import add, ended, entry, get
from tests.acceptance.test_faults import does_not_answer, fault
from tests.acceptance.test_lifecycle import running

pytestmark = pytest.mark.acceptance

TAG = "StationName"
COUNT = 450
"""Instances: some batches of the re-index."""
LISTS = "/v2/extendedquerytags"


def instance(number: int, name: str) -> Dataset:
    return factories.dataset(StationName=name, InstanceNumber=number, Rows=1, Columns=1, PixelData=b"\0\0")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with COUNT instances, those with odd numbers at station "ODD"."""
    path = tmp_path_factory.mktemp("archive") / "data"
    with running(path, "--no-worker") as server, server.client() as client:
        for start in range(0, COUNT, 50):
            dicomweb.store(client, *(instance(n, "ODD" if n % 2 else "EVEN") for n in range(start, start + 50)))
        assert server.stop() == 0
    return path


@pytest.fixture
def data(archive: Path, tmp_path: Path) -> Path:
    return shutil.copytree(archive, tmp_path / "data")


@contextlib.contextmanager
def database(data: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(data / "index.db")
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def found(client: httpx.Client, value: str) -> int:
    """How many instances a search finds."""
    response = client.get("/v2/instances", params={TAG: value, "limit": 1, "count": "true"})
    assert response.status_code in (200, 204), response.text
    return int(response.headers["x-total-count"])


def rows(data: Path) -> list[int]:
    """Values, words and errors of tags there are in all."""
    with database(data) as connection:
        tables = ("query_tag_value", "query_tag_name", "query_tag_error")
        return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


@pytest.mark.parametrize("point", ["operation: step applied", "operation: step committed"])
def test_a_worker_that_dies_over_a_re_index(data: Path, point: str) -> None:
    with running(data, environment=fault(point)) as server, server.client() as client:
        reference = add(client, entry(TAG)).json()
        deadline = time.monotonic() + 20
        enough = {"operation: step applied": 0, "operation: step committed": BATCH}[point]
        while rows(data)[0] < enough:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        dicomweb.store(client, instance(1, "ODD"))
        server.kill()
    with database(data) as connection:
        connection.execute("UPDATE operation_part SET due = 0 WHERE owner IS NOT NULL")  # as if its lease were over
    with running(data) as server, server.client() as client:
        href = reference["href"].replace(reference["href"].partition("/v2")[0], server.root)
        assert ended(client, href)["status"] == "succeeded"
        assert get(client, TAG)["status"] == "ready"
        assert (found(client, "odd"), found(client, "even")) == (COUNT // 2 + 1, COUNT // 2)
        assert rows(data)[0] == COUNT + 1
        assert server.stop() == 0
        assert "Traceback" not in server.log()


def test_a_server_that_dies_when_tags_are_added(data: Path) -> None:
    with (
        running(data, "--no-worker", environment=fault("operation: started")) as server,
        server.client() as client,
    ):
        assert does_not_answer(lambda: add(client, entry(TAG)))
        server.kill()
    with running(data, "--no-worker") as server, server.client() as client:
        assert client.get(LISTS).json() == []
        assert add(client, entry(TAG)).status_code == 202


def test_a_server_that_dies_over_a_deletion(data: Path) -> None:
    with running(data) as server, server.client() as client:
        query_tags.added(client, entry(TAG), entry("InstanceNumber"), entry("OperatorsName"))
        assert server.stop() == 0
    with (
        running(data, "--no-worker", environment=fault("tag deletion: batch removed")) as server,
        server.client() as client,
    ):
        assert does_not_answer(lambda: client.delete(f"{LISTS}/{TAG}"))
        server.kill()
    with running(data, "--no-worker") as server, server.client() as client:
        assert get(client, TAG)["status"] == "deleting"
        assert client.get("/v2/instances", params={TAG: "odd"}).status_code == 400
        assert add(client, entry(TAG)).status_code == 409
        query_tags.delete(client, TAG)
        assert rows(data) == [COUNT, 0, 0]
        assert server.stop() == 0
    with database(data) as connection:
        connection.execute("UPDATE query_tag SET status = 2 WHERE path = '00200013'")  # as another death leaves it
    with running(data) as server, server.client() as client:
        deadline = time.monotonic() + 40
        while client.get(f"{LISTS}/InstanceNumber").status_code != 404:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert rows(data) == [0, 0, 0]
        assert [tag["path"] for tag in client.get(LISTS).json()] == ["00081070"]
        assert server.stop() == 0


def test_stores_through_several_servers_while_a_tag_comes_and_goes(data: Path) -> None:
    """Each instance is indexed exactly once, whichever process stored it, whenever the tag was added."""
    with running(data, "--workers", "2") as first, running(data, "--workers", "2", "--no-worker") as second:
        stop = threading.Event()
        stored: list[list[str]] = [[], []]

        def keep_storing(number: int) -> None:
            with (first, second)[number].client() as client:
                while not stop.is_set():
                    ds = instance(1, "LATE")
                    version = "v1" if len(stored[number]) % 2 else "v2"
                    assert dicomweb.post(client, [factories.part10(ds)], f"/{version}/studies").status_code == 200
                    stored[number].append(str(ds.SOPInstanceUID))

        threads = [threading.Thread(target=keep_storing, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        try:
            with second.client() as client:
                for _ in range(3):
                    query_tags.added(client, entry(TAG))
                    query_tags.delete(client, TAG)
                query_tags.added(client, entry(TAG))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert all(len(each) > 3 for each in stored)
        with second.client() as client:
            assert found(client, "late") == len(stored[0]) + len(stored[1])
            assert found(client, "odd") == COUNT // 2
        with database(data) as connection:
            missed = connection.execute(
                "SELECT count(*) FROM instance WHERE id NOT IN (SELECT object_id FROM query_tag_value)"
            ).fetchone()
        assert missed == (0,)
        assert first.stop() == second.stop() == 0
        assert "Traceback" not in first.log() + second.log()
