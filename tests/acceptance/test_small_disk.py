"""A disk that is full or read-only: stores and deletes are refused whole, reading goes on, and nothing has to be
restarted when there is room again (store.md §§5, 7; server.md §12)."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset

from tests import disk, factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import ORIGINAL, instance_path, study_path
from tests.acceptance.test_cleanup import files, settings, stored, waiting
from tests.acceptance.test_lifecycle import running, serve_fails, until
from tests.disk import Disk
from tests.server import free_port

pytestmark = pytest.mark.acceptance

SIZES = {"in memory": 700_000, "in a file": 3_000_000}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    """A file system of 32 MiB."""
    with disk.small_disk(tmp_path / "disk", "32m") as mounted:
        yield mounted


def is_whole(client: httpx.Client, ds: Dataset) -> bool:
    """Whether the file is there as it was sent."""
    return client.get(instance_path(ds), headers={"accept": ORIGINAL}).content == factories.part10(ds)


def refused(response: httpx.Response, *texts: str) -> None:
    """A 503 that says why, and no more."""
    assert response.status_code == 503, (response.status_code, response.text)
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text in [f"The data store operation failed. {text}" for text in texts]


FULL_STORE, FULL_INDEX = "The object store is full.", "The index database cannot be used: database or disk is full."
"""Which of them is in want of room first is a matter of bytes."""


def newest(client: httpx.Client) -> int:
    return int(client.get("/v1/changefeed/latest?includeMetadata=false").json()["sequence"])


@pytest.mark.parametrize("size", SIZES)
def test_a_full_disk(small: Disk, size: str) -> None:
    """Files and index on one disk, as in a data directory."""
    data_dir = small.directory / "data"
    with running(data_dir, "--no-worker") as server, server.client() as client:
        there = factories.dataset()
        dicomweb.store(client, there)
        before = newest(client)
        ds = factories.dataset(PixelData=bytes(SIZES[size]))
        content = factories.part10(ds)
        small.fill(leave=300_000)
        refused(dicomweb.post(client, [content]), FULL_STORE)
        refused(dicomweb.post(client, [content, content]), FULL_STORE)
        small.fill()
        refused(dicomweb.post(client, [factories.instance()]), FULL_STORE, FULL_INDEX)
        refused(client.delete(study_path(there)), FULL_INDEX)
        # Nothing is half stored or half deleted.
        assert newest(client) == before
        assert len(files(data_dir)) == 1
        assert not list((data_dir / "spool").iterdir())
        assert is_whole(client, there)
        assert client.get(instance_path(ds)).status_code == 404
        assert len(client.get("/v2/instances").json()) == 1
        until(lambda: client.get("/health/check").status_code == 503, 5)
        # Room again, and everything goes on.
        small.empty()
        until(lambda: client.get("/health/check").status_code == 200, 5)
        assert dicomweb.post(client, [content]).status_code == 200
        assert is_whole(client, ds)
        assert client.delete(study_path(there)).status_code == 204
        assert newest(client) == before + 2
        assert server.stop() == 0
        assert "Unexpected error" not in server.log()


def test_a_request_that_finds_room_for_some(small: Disk) -> None:
    """The answer says which: 272 for the others, and these can be sent again."""
    data_dir = small.directory / "data"
    with running(data_dir, "--no-worker") as server, server.client() as client:
        datasets = [factories.dataset(PixelData=bytes(100_000)) for _ in range(80)]
        contents = [factories.part10(ds) for ds in datasets]
        small.fill(leave=5_000_000)
        response = dicomweb.post(client, contents)
        assert response.status_code == 202
        stored_uids = {dicomweb.value(item, "00081155") for item in dicomweb.referenced(response)}
        assert {dicomweb.value(item, "00081197") for item in dicomweb.failed(response)} == {272}
        assert 0 < len(stored_uids) < 80
        assert len(files(data_dir)) == len(stored_uids)
        for ds in datasets:
            assert (client.get(instance_path(ds)).status_code == 200) == (ds.SOPInstanceUID in stored_uids)
        small.empty()
        again = dicomweb.post(client, contents)
        assert len(dicomweb.referenced(again)) == 80 - len(stored_uids)
        assert {dicomweb.value(item, "00081197") for item in dicomweb.failed(again)} == {45070}
        assert len(files(data_dir)) == 80
        assert server.stop() == 0


def test_cleanup_makes_room_on_a_full_disk(small: Disk) -> None:
    data_dir = small.directory / "data"
    with running(data_dir, "--no-worker", environment=settings()) as server, server.client() as client:
        (first, *_) = stored(client, 4)
        keep = factories.dataset()
        dicomweb.store(client, keep)
        assert client.delete(study_path(first)).status_code == 204
        assert server.stop() == 0
    with running(data_dir, environment=settings(DeleteDelay="00:00:02")) as server, server.client() as client:
        until(lambda: waiting(client) == (0, 0))
        datasets = [factories.dataset(PixelData=bytes(500_000)) for _ in range(4)]
        dicomweb.store(client, *datasets)
        for ds in datasets:
            assert client.delete(study_path(ds)).status_code == 204
        small.fill()
        until(lambda: len(files(data_dir)) == 1)
        until(lambda: waiting(client) == (0, 0))
        assert is_whole(client, keep)
        dicomweb.store(client, factories.dataset())
        assert server.stop() == 0
        assert "Traceback" not in server.log()


def test_an_object_store_that_turns_read_only(small: Disk, tmp_path: Path) -> None:
    environment = {**settings(), "ObjectStore__Url": f"file://{small.directory}/files"}
    with running(tmp_path / "data", environment=environment) as server, server.client() as client:
        datasets = stored(client, 2)
        before = newest(client)
        small.turn("ro")
        for size in SIZES.values():
            refused(
                dicomweb.post(client, [factories.instance(PixelData=bytes(size))]),
                "The object store is mounted read-only.",
            )
        assert newest(client) == before
        assert is_whole(client, datasets[0])
        # A delete is a matter of the index; the file waits.
        assert client.delete(instance_path(datasets[0])).status_code == 204
        until(lambda: "A deleted instance's file could not be removed" in server.log())
        until(lambda: waiting(client)[0] == 1)
        assert len(list(small.directory.rglob("*.dcm"))) == 2
        small.turn("rw")
        ds = factories.dataset()
        dicomweb.store(client, ds)
        assert is_whole(client, ds)
        assert server.stop() == 0
    # By now it may have run out of retries.
    with running(tmp_path / "data", environment={**environment, **settings(MaxRetries="100000")}) as server:
        until(lambda: len(list(small.directory.rglob("*.dcm"))) == 2)
        assert server.stop() == 0


def used(small: Disk) -> tuple[Path, Dataset]:
    """A data directory on the small disk, of a server that has ended, and the instance in it."""
    data_dir = small.directory / "data"
    ds = factories.dataset()
    with running(data_dir) as server, server.client() as client:
        dicomweb.store(client, ds)
        assert server.stop() == 0
    return data_dir, ds


def is_well(data_dir: Path, ds: Dataset) -> None:
    """A server starts there and has the instance."""
    with running(data_dir) as server, server.client() as client:
        assert is_whole(client, ds)
        assert server.stop() == 0


def test_a_data_directory_that_is_read_only_from_the_start(small: Disk) -> None:
    data_dir, ds = used(small)
    small.turn("ro")
    said = serve_fails("--port", str(free_port()), "--data-dir", str(data_dir))
    assert "is not writable" in said
    small.turn("rw")
    is_well(data_dir, ds)


def test_a_start_on_a_full_disk(small: Disk) -> None:
    """Refused with the reason; with room it starts."""
    data_dir, ds = used(small)
    small.fill()
    done = subprocess.run(
        [sys.executable, "-m", "hounsfield", "serve", *QUIET, "--port", str(free_port()), "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert FULL_INDEX in done.stderr
    assert "Traceback" not in done.stderr
    small.empty()
    is_well(data_dir, ds)
