"""Delete at three levels, and the removal of files afterwards (store.md §7, server.md §12)."""

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import ORIGINAL, VERSIONS, instance_path, series_path, study_path, value
from tests.server import Server

pytestmark = pytest.mark.acceptance

LEVELS: dict[str, Callable[..., str]] = {"study": study_path, "series": series_path, "instance": instance_path}


def exists(client: httpx.Client, path: str) -> bool:
    """Whether metadata, files and (for a study) search agree that something is there."""
    answers = {client.get(f"{path}/metadata").status_code, client.get(path).status_code}
    assert answers in ({200}, {404})
    return answers == {200}


def found(client: httpx.Client, ds: Dataset) -> list[str]:
    """SOP Instance UIDs a search finds in the study of ``ds``."""
    response = client.get("/v2/instances", params={"StudyInstanceUID": ds.StudyInstanceUID})
    return [] if response.status_code == 204 else [value(item, "00080018") for item in response.json()]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("level", LEVELS)
def test_what_is_deleted_is_gone_and_the_rest_stays(client: httpx.Client, level: str, version: str) -> None:
    first = factories.dataset()
    same, other, stranger = dicomweb.sibling(first), dicomweb.sibling(first, same_series=False), factories.dataset()
    dicomweb.store(client, first, same, other, stranger)
    response = client.delete(LEVELS[level](first, version))
    assert response.status_code == 204
    assert response.content == b""
    gone = {"study": [first, same, other], "series": [first, same], "instance": [first]}[level]
    for ds in (first, same, other, stranger):
        assert exists(client, instance_path(ds)) == (ds not in gone)
        assert (ds.SOPInstanceUID in found(client, ds)) == (ds not in gone)
    assert exists(client, study_path(first)) == (level != "study")
    assert exists(client, series_path(first)) == (level == "instance")
    again = client.delete(LEVELS[level](first, version))
    assert (again.status_code, again.text) == (404, f"The specified {level} cannot be found.")


def test_the_last_instance_takes_series_and_study_along(client: httpx.Client) -> None:
    first = factories.dataset()
    other = dicomweb.sibling(first, same_series=False)
    dicomweb.store(client, first, other)
    assert client.delete(instance_path(first)).status_code == 204
    assert not exists(client, series_path(first))
    response = client.get(f"/v2/studies/{first.StudyInstanceUID}/series")
    assert [value(item, "0020000E") for item in response.json()] == [other.SeriesInstanceUID]
    assert client.delete(instance_path(other)).status_code == 204
    assert not exists(client, study_path(first))
    for parameters in ({"StudyInstanceUID": first.StudyInstanceUID}, {"PatientName": "doe", "fuzzymatching": "true"}):
        response = client.get("/v2/studies", params={"StudyInstanceUID": first.StudyInstanceUID, **parameters})
        assert response.status_code == 204


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_to_delete(client: httpx.Client, level: str) -> None:
    response = client.delete(LEVELS[level](factories.dataset()))
    assert (response.status_code, response.text) == (404, f"The specified {level} cannot be found.")


def test_a_level_below_another_study_is_not_found(client: httpx.Client) -> None:
    first, stranger = factories.dataset(), factories.dataset()
    dicomweb.store(client, first, stranger)
    path = f"{study_path(first)}/series/{stranger.SeriesInstanceUID}"
    assert client.delete(path).text == "The specified series cannot be found."
    assert (
        client.delete(f"{path}/instances/{stranger.SOPInstanceUID}").text == "The specified instance cannot be found."
    )
    assert exists(client, instance_path(stranger))


def test_bad_uids_are_named_from_the_top(client: httpx.Client) -> None:
    for path, name in (
        ("x/series/y/instances/z", "StudyInstanceUid"),
        ("1.2/series/y/instances/z", "SeriesInstanceUid"),
        ("1.2/series/1.3/instances/z", "SopInstanceUid"),
        ("x", "StudyInstanceUid"),
    ):
        response = client.delete(f"/v2/studies/{path}")
        assert response.status_code == 400
        assert name in response.text


def test_headers_and_body_do_not_matter(client: httpx.Client) -> None:
    ds = factories.dataset()
    dicomweb.store(client, ds)
    headers = {"accept": "image/png", "content-type": "text/csv", "content-length": "3"}
    response = client.request("DELETE", instance_path(ds), headers=headers, content=b"a,b")
    assert response.status_code == 204


def test_a_padded_uid_names_the_same(client: httpx.Client) -> None:
    ds = factories.dataset()
    dicomweb.store(client, ds)
    assert client.delete(f"{study_path(ds)}%20%20").status_code == 204


def test_one_of_many_concurrent_deletes_wins(server: Server) -> None:
    ds = factories.dataset()
    with server.client() as client, ThreadPoolExecutor(8) as pool:
        dicomweb.store(client, ds)
        answers = list(pool.map(lambda path: client.delete(path).status_code, [LEVELS["study"](ds)] * 16))
    assert sorted(answers) == [204] + [404] * 15


def test_storing_again_right_after_a_delete(client: httpx.Client) -> None:
    ds = factories.dataset()
    for number in range(5):
        ds.PatientName = f"Name^{number}"
        body = factories.part10(ds)
        assert dicomweb.post(client, [body]).status_code == 200
        assert client.get(instance_path(ds), headers={"accept": ORIGINAL}).content == body
        assert client.delete(LEVELS[random.choice(list(LEVELS))](ds)).status_code == 204


def test_stores_and_deletes_of_one_study_at_the_same_time(server: Server) -> None:
    first = factories.dataset()
    datasets = [first] + [dicomweb.sibling(first, same_series=number % 2 == 0) for number in range(15)]
    files = {ds.SOPInstanceUID: factories.part10(ds) for ds in datasets}

    def work(seed: int) -> None:
        dice = random.Random(seed)
        with server.client() as client:
            for _ in range(25):
                ds = dice.choice(datasets)
                if dice.random() < 0.6:
                    assert dicomweb.post(client, [files[ds.SOPInstanceUID]]).status_code in (200, 409)
                else:
                    path = LEVELS[dice.choice(["study", "series", "instance", "instance", "instance"])](ds)
                    assert client.delete(path).status_code in (204, 404)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with server.client() as client:
        visible = found(client, first)
        for ds in datasets:
            answer = client.get(instance_path(ds), headers={"accept": ORIGINAL})
            assert answer.status_code == (200 if ds.SOPInstanceUID in visible else 404)
            if answer.status_code == 200:
                assert answer.content == files[ds.SOPInstanceUID]


# --- files ---


@pytest.fixture(scope="module")
def quick_cleanup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that removes files of deleted instances at once."""
    section = "DicomServer__Services__DeletedInstanceCleanup"
    environment = {f"{section}__DeleteDelay": "00:00:00", f"{section}__PollingInterval": "00:00:00.1"}
    server = Server(tmp_path_factory.mktemp("cleanup") / "data", [*QUIET, "--workers", "1"], environment)
    try:
        yield server.start()
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()
    finally:
        server.end()


def files(server: Server) -> set[Path]:
    # os.walk passes over folders that go while it looks.
    return {Path(folder) / name for folder, _, names in os.walk(server.data_dir / "dicom") for name in names}


def test_files_are_removed_and_their_folders_too(quick_cleanup: Server) -> None:
    first, keep = factories.dataset(), factories.dataset()
    datasets = [first] + [dicomweb.sibling(first, same_series=number % 2 == 0) for number in range(24)]
    with quick_cleanup.client() as client:
        dicomweb.store(client, keep)
        before = files(quick_cleanup)
        dicomweb.store(client, *datasets)
        assert len(files(quick_cleanup)) == len(before) + len(datasets)
        assert client.delete(study_path(first)).status_code == 204
        until(lambda: files(quick_cleanup) == before)
        until(lambda: not (quick_cleanup.data_dir / "dicom" / first.StudyInstanceUID).exists())
        assert exists(client, instance_path(keep))


def test_cleanup_leaves_the_file_of_an_instance_stored_again(quick_cleanup: Server) -> None:
    ds = factories.dataset()
    with quick_cleanup.client() as client:
        before = files(quick_cleanup)
        for _ in range(10):
            dicomweb.store(client, ds)
            assert client.delete(instance_path(ds)).status_code == 204
        dicomweb.store(client, ds)
        until(lambda: len(files(quick_cleanup)) == len(before) + 1)
        time.sleep(0.3)
        assert client.get(instance_path(ds), headers={"accept": ORIGINAL}).content == factories.part10(ds)


def test_files_stay_while_the_delay_lasts(client: httpx.Client, server: Server) -> None:
    ds = factories.dataset()
    dicomweb.store(client, ds)
    assert client.delete(study_path(ds)).status_code == 204
    assert len(list((server.data_dir / "dicom" / ds.StudyInstanceUID).rglob("*.dcm"))) == 1


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Waits for ``condition``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
