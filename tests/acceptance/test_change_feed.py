"""The change feed: entries, states, windows, order (change-feed.md)."""

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import VERSIONS, Json, instance_path, series_path, study_path
from tests.server import Server

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def feed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server nobody else writes to."""
    server = Server(tmp_path_factory.mktemp("feed") / "data", [*QUIET, "--workers", "2"])
    try:
        yield server.start()
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()
    finally:
        server.end()


@pytest.fixture(scope="module")
def feed(feed_server: Server) -> Iterator[httpx.Client]:
    """A client of :func:`feed_server`; the feed is empty for the first test."""
    with feed_server.client() as client:
        yield client


def get(client: httpx.Client, path: str, **parameters: Any) -> Any:
    response = client.get(path, params=parameters)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    return response.json()


def newest(client: httpx.Client) -> int:
    response = client.get("/v2/changefeed/latest", params={"includeMetadata": "false"})
    return 0 if response.status_code == 204 else int(response.json()["sequence"])


def after(client: httpx.Client, sequence: int, **parameters: Any) -> list[Json]:
    """All entries after ``sequence``."""
    found: list[Json] = []
    end = newest(client)
    for offset in range(sequence, end, 100):
        found += get(client, "/v1/changefeed", offset=offset, limit=100, **parameters)
    return found


def moment(entry: Json) -> datetime:
    return datetime.fromisoformat(entry["timestamp"])


def test_an_empty_feed(feed: httpx.Client) -> None:
    for version in (*VERSIONS, "v1.0-prerelease"):
        assert get(feed, f"/{version}/changefeed") == []
        response = feed.get(f"/{version}/changefeed/latest")
        assert response.status_code == 204
        assert response.content == b""


def test_a_rejected_store_writes_nothing(feed: httpx.Client) -> None:
    before = newest(feed)
    ds = factories.dataset()
    for body in (factories.instance(PatientID=None), b"nonsense"):
        assert dicomweb.post(feed, [body]).status_code == 409
    dicomweb.store(feed, ds)
    assert dicomweb.post(feed, [factories.part10(ds)]).status_code == 409
    assert feed.delete(f"/v2/studies/{factories.uid()}").status_code == 404
    assert len(after(feed, before)) == 1
    assert newest(feed) == before + 1


@pytest.mark.parametrize("version", VERSIONS)
def test_an_entry(feed: httpx.Client, version: str) -> None:
    ds = factories.dataset()
    begun = datetime.now(UTC)
    dicomweb.store(feed, ds)
    entry = get(feed, f"/{version}/changefeed/latest")
    (metadata,) = feed.get(f"{instance_path(ds)}/metadata").json()
    assert entry == {
        "sequence": newest(feed),
        "partitionName": "Microsoft.Default",
        "studyInstanceUid": ds.StudyInstanceUID,
        "seriesInstanceUid": ds.SeriesInstanceUID,
        "sopInstanceUid": ds.SOPInstanceUID,
        "action": "Create",
        "timestamp": entry["timestamp"],
        "state": "Current",
        "metadata": metadata,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?\+00:00", entry["timestamp"])
    assert begun - timedelta(milliseconds=1) <= moment(entry) <= datetime.now(UTC)
    without = get(feed, f"/{version}/changefeed/latest", includeMetadata="false")
    assert without == {name: content for name, content in entry.items() if name != "metadata"}


def test_whatever_the_accept_header_says(feed: httpx.Client) -> None:
    for accept in ("text/html", "application/dicom+json", "image/png", ""):
        response = feed.get("/v2/changefeed", headers={"accept": accept})
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json; charset=utf-8"


def test_every_deleted_instance_has_an_entry(feed: httpx.Client) -> None:
    first = factories.dataset()
    datasets = [first, dicomweb.sibling(first), dicomweb.sibling(first, same_series=False)]
    for path in (study_path, series_path, instance_path):
        before = newest(feed)
        dicomweb.store(feed, *datasets)
        assert feed.delete(path(first)).status_code == 204
        gone = {study_path: datasets, series_path: datasets[:2], instance_path: datasets[:1]}[path]
        entries = after(feed, before)
        created, deleted = entries[:3], entries[3:]
        assert [entry["sopInstanceUid"] for entry in created] == [ds.SOPInstanceUID for ds in datasets]
        assert {entry["sopInstanceUid"] for entry in deleted} == {ds.SOPInstanceUID for ds in gone}
        assert {entry["action"] for entry in deleted} == {"Delete"}
        assert {entry["state"] for entry in deleted} == {"Deleted"}
        assert all("metadata" not in entry for entry in deleted)
        assert len({entry["timestamp"] for entry in deleted}) == 1
        assert [entry["sequence"] for entry in entries] == list(range(before + 1, before + 4 + len(gone)))
        for entry in created:
            is_gone = entry["sopInstanceUid"] in {ds.SOPInstanceUID for ds in gone}
            assert entry["state"] == ("Deleted" if is_gone else "Current")
            assert ("metadata" in entry) != is_gone
        feed.delete(study_path(first))


def test_a_replaced_entry_shows_the_live_content(feed: httpx.Client) -> None:
    ds = factories.dataset(PatientName="Old^Name")
    before = newest(feed)
    dicomweb.store(feed, ds)
    feed.delete(instance_path(ds))
    ds.PatientName = "New^Name"
    dicomweb.store(feed, ds)
    entries = after(feed, before)
    assert [entry["state"] for entry in entries] == ["Replaced", "Replaced", "Current"]
    assert [entry["action"] for entry in entries] == ["Create", "Delete", "Create"]
    for entry in entries:
        assert entry["metadata"]["00100010"]["Value"] == [{"Alphabetic": "New^Name"}]


STEPS = st.lists(st.tuples(st.sampled_from(["store", "delete"]), st.integers(0, 2)), min_size=1, max_size=10)


@given(STEPS)
@settings(max_examples=25, deadline=None)
def test_states_follow_the_table(feed: httpx.Client, steps: list[tuple[str, int]]) -> None:
    first = factories.dataset(PixelData=None)
    datasets = [first, dicomweb.sibling(first, PixelData=None), factories.dataset(PixelData=None)]
    start = newest(feed)
    history: list[tuple[int, str, int]] = []  # instance, action, version
    live: dict[int, int] = {}
    for number, (step, which) in enumerate(steps):
        if step == "store":
            status = dicomweb.post(feed, [factories.part10(datasets[which])]).status_code
            assert status == (409 if which in live else 200)
            if status == 200:
                live[which] = number
                history.append((which, "Create", number))
        else:
            status = feed.delete(instance_path(datasets[which])).status_code
            assert status == (204 if which in live else 404)
            if status == 204:
                history.append((which, "Delete", live.pop(which)))
    entries = after(feed, start)
    assert [entry["sequence"] for entry in entries] == list(range(start + 1, start + 1 + len(history)))
    for entry, (which, action, version) in zip(entries, history, strict=True):
        assert (entry["sopInstanceUid"], entry["action"]) == (datasets[which].SOPInstanceUID, action)
        if which not in live:
            expected = "Deleted"
        else:
            expected = "Current" if live[which] == version and action == "Create" else "Replaced"
        assert entry["state"] == expected
        assert ("metadata" in entry) == (expected != "Deleted")


# --- parameters ---


@pytest.mark.parametrize(
    ("version", "query", "name"),
    [
        *((version, query, name)
          for version in VERSIONS
          for query, name in [
              ("offset=-1", "offset"), ("offset=x", "offset"), ("offset=1.0", "offset"), ("offset=١", "offset"),
              ("offset=9223372036854775808", "offset"), ("limit=0", "limit"), ("limit=-1", "limit"),
              ("limit=x", "limit"), ("limit=99999999999", "limit"), ("includeMetadata=0", "includeMetadata"),
              ("includeMetadata=1", "includeMetadata"), ("includeMetadata=yes", "includeMetadata"),
              ("includeMetadata=", "includeMetadata"),
              ("INCLUDEMETADATA=no", "includeMetadata"),
          ]),
        ("v1", "limit=101", "limit"),
        ("v2", "limit=201", "limit"),
        ("v2", "startTime=2023-05-03", "startTime"),
        ("v2", "startTime=2023-05-03T10:58:00", "startTime"),
        ("v2", "endTime=4/26/2023 5:38:06 PM", "endTime"),
        ("v2", "starttime=yesterday", "startTime"),
        ("v2", "endTime=2023-05-03T10:58:00+00:00", "endTime"),  # a raw + is a space
        ("v2", "startTime=2023-05-03T10:58:00Z&endTime=2023-05-03T10:58:00Z", "endTime"),
        ("v2", "startTime=2023-05-03T10:58:01Z&endTime=2023-05-03T10:58:00Z", "endTime"),
        ("v2", "startTime=2023-13-03T10:58:01Z", "startTime"),
    ],
)  # fmt: skip
def test_parameters_that_are_refused(feed: httpx.Client, version: str, query: str, name: str) -> None:
    response = feed.get(f"/{version}/changefeed?{query}")
    assert response.status_code == 400
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert name in response.text


@pytest.mark.parametrize("version", VERSIONS)
def test_parameters_of_latest(feed: httpx.Client, version: str) -> None:
    assert feed.get(f"/{version}/changefeed/latest?includeMetadata=x").status_code == 400
    dicomweb.store(feed, factories.dataset())
    latest = get(feed, f"/{version}/changefeed/latest", limit="x", offset=-1, startTime="x", IncludeMetadata="FALSE")
    assert "metadata" not in latest


def test_names_are_read_in_any_case_and_unknown_ones_ignored(feed: httpx.Client) -> None:
    dicomweb.store(feed, factories.dataset())
    for version in VERSIONS:
        (entry,) = get(feed, f"/{version}/changefeed", OFFSET=newest(feed) - 1, Limit=1, includemetadata="False", x="y")
        assert "metadata" not in entry
    # v1 knows no times.
    assert get(feed, "/v1/changefeed", offset=newest(feed) - 1, startTime="x", endTime="2000-01-01T00:00:00Z")


def test_the_feed_is_below_no_partition(feed: httpx.Client) -> None:
    assert feed.get("/v2/partitions/Microsoft.Default/changefeed").status_code == 404


# --- windows ---


class Entries(list[Json]):
    """A list that hypothesis need not print."""

    def __repr__(self) -> str:
        return f"{len(self)} entries"


@pytest.fixture(scope="module")
def entries(feed: httpx.Client) -> Entries:
    """At least 230 entries: all the feed holds when the first test asks."""
    first = factories.dataset(PixelData=None)
    dicomweb.store(feed, first)
    for _ in range(23):
        dicomweb.store(feed, *(dicomweb.sibling(first, PixelData=None) for _ in range(10)))
    return Entries(after(feed, 0, includeMetadata="false"))


BIG = 9223372036854775807


def test_defaults_and_maximum_of_limit(feed: httpx.Client, entries: Entries) -> None:
    assert len(get(feed, "/v1/changefeed")) == 10
    assert len(get(feed, "/v1/changefeed", limit=100)) == 100
    assert len(get(feed, "/v2/changefeed")) == 100
    assert len(get(feed, "/v2/changefeed", limit=200)) == 200
    assert [entry["sequence"] for entry in entries] == list(range(1, len(entries) + 1))
    assert all("metadata" in entry for entry in get(feed, "/v2/changefeed", offset=len(entries) - 5, limit=5))


@given(st.one_of(st.integers(0, 260), st.sampled_from([BIG, BIG - 1, BIG - 100])), st.integers(1, 100))
@settings(max_examples=40, deadline=None)
def test_the_window_of_v1(feed: httpx.Client, entries: Entries, offset: int, limit: int) -> None:
    found = get(feed, "/v1/changefeed", offset=offset, limit=limit, includeMetadata="false")
    known = [entry for entry in found if entry["sequence"] <= len(entries)]
    assert [entry["sequence"] for entry in known] == [
        entry["sequence"] for entry in entries if offset < entry["sequence"] <= offset + limit
    ]


def spelled(when: datetime, style: int) -> str:
    """One of the accepted spellings of ``when``."""
    zone = (UTC, timezone(timedelta(hours=-7)), timezone(timedelta(hours=5, minutes=30)))[style % 3]
    text = when.astimezone(zone).isoformat(timespec="microseconds")
    if style % 3 == 0 and style % 2:
        return text.replace("+00:00", "Z")
    return text.replace("-07:00", "-07") if style % 2 else text


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_the_window_of_v2(feed: httpx.Client, entries: Entries, data: st.DataObject) -> None:
    times = sorted({moment(entry) for entry in entries})
    bounds = st.one_of(
        st.none(),
        st.tuples(st.sampled_from(times), st.sampled_from([-1, 0, 0, 1])).map(
            lambda drawn: drawn[0] + timedelta(microseconds=drawn[1])
        ),
    )
    start, end = data.draw(bounds), data.draw(bounds)
    offset, limit = data.draw(st.one_of(st.integers(0, 240), st.just(BIG))), data.draw(st.integers(1, 200))
    parameters: dict[str, Any] = {"offset": offset, "limit": limit, "includeMetadata": "false"}
    for name, bound in (("startTime", start), ("endTime", end)):
        if bound is not None:
            parameters[name] = spelled(bound, data.draw(st.integers(0, 5)))
    low = start or datetime.min.replace(tzinfo=UTC)
    high = end or datetime.max.replace(tzinfo=UTC)
    if high <= low:
        assert feed.get("/v2/changefeed", params=parameters).status_code == 400
        return
    found = get(feed, "/v2/changefeed", **parameters)
    expected = [entry["sequence"] for entry in entries if low <= moment(entry) < high][offset : offset + limit]
    assert [entry["sequence"] for entry in found if entry["sequence"] <= len(entries)] == expected


def test_a_timestamp_sent_back_includes_as_a_start_and_excludes_as_an_end(feed: httpx.Client, entries: Entries) -> None:
    for entry in entries[::17]:
        from_it = get(feed, "/v2/changefeed", startTime=entry["timestamp"], limit=200, includeMetadata="false")
        assert from_it[0]["timestamp"] == entry["timestamp"]
        assert entry["sequence"] in [found["sequence"] for found in from_it]
        until_it = get(feed, "/v2/changefeed", endTime=entry["timestamp"], limit=200, includeMetadata="false")
        assert all(moment(found) < moment(entry) for found in until_it)


def test_blank_times_count_as_not_given(feed: httpx.Client, entries: Entries) -> None:
    assert len(get(feed, "/v2/changefeed", startTime="", endTime="  ", limit=7)) == 7 <= len(entries)


def test_times_are_told_apart_by_seven_digits(feed: httpx.Client) -> None:
    start, end = "2023-05-10T16:00:00.1234561Z", "2023-05-10T16:00:00.1234562Z"
    assert get(feed, "/v2/changefeed", startTime=start, endTime=end) == []
    assert feed.get("/v2/changefeed", params={"startTime": end, "endTime": start}).status_code == 400


def test_other_spellings_of_times(feed: httpx.Client, entries: Entries) -> None:
    for text in ("Wed, 26 Apr 2023 18:23:40 GMT", "2023-05-10T16:00:00.1234567Z", "2023-05-10T16:00:00+7"):
        assert len(get(feed, "/v2/changefeed", startTime=text, limit=5)) == 5
        assert get(feed, "/v2/changefeed", endTime=text) == []
    assert entries


# --- order ---


def test_readers_never_have_to_look_back(feed_server: Server, feed: httpx.Client) -> None:
    """Writers in several connections and processes, one reader a version: what has been read stays as it was."""
    start = newest(feed)
    done = threading.Event()
    problems: list[str] = []
    first = factories.dataset(PixelData=None)

    def write(number: int) -> None:
        with feed_server.client() as client:
            for round_ in range(15):
                ds: Dataset = dicomweb.sibling(first, same_series=False, PixelData=None)
                group = [ds, *(dicomweb.sibling(ds, PixelData=None) for _ in range(round_ % 4))]
                before = newest(client)
                dicomweb.store(client, *group)
                # After the answer the entries are readable.
                mine = {one.SOPInstanceUID for one in group}
                if not mine <= {entry["sopInstanceUid"] for entry in after(client, before, includeMetadata="false")}:
                    problems.append("an acknowledged instance had no entry")
                if round_ % 5 == number % 5:
                    client.delete(series_path(ds))

    def read(version: str) -> None:
        seen = 0
        last = ""
        stamps: list[Json] = []
        with feed_server.client() as client:
            while not (done.is_set() and seen == newest(client)):
                head = newest(client)
                if head < seen:
                    problems.append("latest went back")
                if version == "v1":
                    page = get(client, "/v1/changefeed", offset=seen, limit=100, includeMetadata="false")
                    expected = list(range(seen + 1, seen + 1 + len(page)))
                    if [entry["sequence"] for entry in page] != expected:
                        problems.append(f"gap or disorder after {seen}: {[entry['sequence'] for entry in page]}")
                    if seen + len(page) < min(head, seen + 100):
                        problems.append(f"latest said {head}, a page after {seen} had only {len(page)}")
                else:
                    page = get(client, "/v2/changefeed", offset=seen, limit=200, includeMetadata="false")
                    if [entry["sequence"] for entry in page] != list(range(seen + 1, seen + 1 + len(page))):
                        problems.append(f"v2 gap or disorder after {seen}")
                for entry in page:
                    if entry["timestamp"] < last and moment(entry) < moment(stamps[-1]):
                        problems.append("time went back")
                    last = entry["timestamp"]
                    stamps.append(entry)
                seen += len(page)

    readers = [threading.Thread(target=read, args=(version,)) for version in VERSIONS]
    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert problems == []
    assert newest(feed) > start + 6 * 15


def test_sequences_go_on_after_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = Server(tmp_path_factory.mktemp("restart") / "data", [*QUIET, "--workers", "1"])
    try:
        with server.start().client() as client:
            ds = factories.dataset()
            dicomweb.store(client, ds)
            client.delete(instance_path(ds))
            before = after(client, 0)
        server.kill()
        with server.start().client() as client:
            assert after(client, 0) == before
            dicomweb.store(client, ds)
            entry = get(client, "/v2/changefeed/latest")
            assert entry["sequence"] == 3
            assert moment(entry) >= moment(before[-1])
            assert [one["state"] for one in after(client, 0)] == ["Replaced", "Replaced", "Current"]
    finally:
        server.end()
