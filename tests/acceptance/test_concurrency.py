"""Many clients and two servers on one data directory (store.md §§6, 7)."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.test_lifecycle import running
from tests.server import Server

CLIENTS = 16
EXISTS, IN_FLIGHT = 45070, 45071
AT_ONCE = {
    "DicomServer__Services__DeletedInstanceCleanup__DeleteDelay": "00:00:00",
    "DicomServer__Services__DeletedInstanceCleanup__PollingInterval": "00:00:01",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers on one data directory."""
    data_dir = tmp_path_factory.mktemp("pair") / "data"
    with running(data_dir, environment=AT_ONCE) as one, running(data_dir, environment=AT_ONCE) as other:
        yield one, other
        assert one.stop() == 0
        assert other.stop() == 0
        assert "Traceback" not in one.log() + other.log()


def together(count: int, work: Callable[[int], None]) -> None:
    """Runs ``work`` in so many threads that begin at once; the first error is raised."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def feed_of(client: httpx.Client, study: str) -> list[tuple[int, str]]:
    """Sequence and action of every entry of a study, as version 1 pages it."""
    found, offset = [], 0
    latest = client.get("/v1/changefeed/latest?includeMetadata=false").json()["sequence"]
    while offset < latest:
        page = client.get(f"/v1/changefeed?limit=100&offset={offset}&includeMetadata=false").json()
        found += [(entry["sequence"], entry["action"]) for entry in page if entry["studyInstanceUid"] == study]
        offset += 100
    assert [sequence for sequence, _ in found] == sorted({sequence for sequence, _ in found})
    return found


def files_of(server: Server, study: str) -> list[Path]:
    return list((server.data_dir / "dicom").rglob(f"{study}/**/*.dcm"))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


@pytest.mark.parametrize("version", dicomweb.VERSIONS)
def test_one_of_many_through_two_servers_wins(pair: tuple[Server, Server], version: str) -> None:
    ds = factories.dataset(PixelData=bytes(300_000))
    body = factories.part10(ds)
    answers: list[httpx.Response] = []

    def store(number: int) -> None:
        with pair[number % 2].client() as client:
            answers.append(dicomweb.post(client, [body], f"/{version}/studies"))

    together(CLIENTS, store)
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * (CLIENTS - 1)
    for answer in answers:
        if answer.status_code == 409:
            (item,) = answer.json()["00081198"]["Value"]
            assert item["00081197"]["Value"][0] in (EXISTS, IN_FLIGHT)
    for server in pair:
        with server.client() as client:
            got = client.get(dicomweb.instance_path(ds), headers={"accept": dicomweb.ORIGINAL})
            assert got.content[128:] == body[128:]
            assert [action for _, action in feed_of(client, ds.StudyInstanceUID)] == ["Create"]
    assert len(files_of(pair[0], ds.StudyInstanceUID)) == 1


def test_instances_of_one_study_through_two_servers(pair: tuple[Server, Server]) -> None:
    first = factories.dataset()
    datasets = [first, *(dicomweb.sibling(first) for _ in range(4 * CLIENTS - 1))]

    def store(number: int) -> None:
        with pair[number % 2].client() as client:
            for ds in datasets[number::CLIENTS]:
                dicomweb.store(client, ds)

    together(CLIENTS, store)
    for server in pair:
        with server.client() as client:
            metadata = client.get(dicomweb.study_path(first) + "/metadata").json()
            assert {item["00080018"]["Value"][0] for item in metadata} == {ds.SOPInstanceUID for ds in datasets}
            assert [action for _, action in feed_of(client, first.StudyInstanceUID)] == ["Create"] * len(datasets)


def test_storing_and_deleting_at_once(pair: tuple[Server, Server]) -> None:
    ds = factories.dataset()
    body = factories.part10(ds)
    stop = time.monotonic() + 4
    counts = {"stored": 0, "deleted": 0}
    lock = threading.Lock()

    def work(number: int) -> None:
        with pair[number // 2 % 2].client() as client:
            while time.monotonic() < stop:
                if number % 2:
                    status = client.delete(dicomweb.study_path(ds)).status_code
                    assert status in (204, 404), status
                    name, done = "deleted", status == 204
                else:
                    status = dicomweb.post(client, [body]).status_code
                    assert status in (200, 409), status
                    name, done = "stored", status == 200
                if done:
                    with lock:
                        counts[name] += 1

    together(8, work)
    with pair[0].client() as client:
        actions = [action for _, action in feed_of(client, ds.StudyInstanceUID)]
        assert actions.count("Create") == counts["stored"]
        assert actions.count("Delete") == counts["deleted"]
        assert all(action == ("Create", "Delete")[number % 2] for number, action in enumerate(actions)), actions
        assert counts["stored"] > 5
        status = client.get(dicomweb.instance_path(ds), headers={"accept": dicomweb.ORIGINAL}).status_code
        left = counts["stored"] - counts["deleted"]
        assert status == (200 if left else 404)
        eventually(lambda: len(files_of(pair[0], ds.StudyInstanceUID)) == left)
        if left:
            got = client.get(dicomweb.instance_path(ds), headers={"accept": dicomweb.ORIGINAL})
            assert got.content[128:] == body[128:]
