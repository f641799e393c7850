"""The loop: capability, polling, lease, status, faults, restart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hounsfield.cast.failure import Faulted, Standstill
from hounsfield.cast.feed import FeedPage, FeedRefused, FeedUnreadable
from hounsfield.cast.state import CastState, Progress, Status
from hounsfield.cast.synchroniser import UNFINISHED_PAGES, LeaseLost
from hounsfield.cast.worker import LEASE_SECONDS, CastWorker, check_capability
from hounsfield.database import leases
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.errors import StoreUnavailable
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.security.access_tokens import NoIdentity
from tests.cast.conftest import OPTIONS, ROOT
from tests.cast.faulty_target import FaultyTarget, status, unreachable
from tests.cast.fhir_content import content, resources
from tests.cast.memory_archive import MemoryArchive, ct

TRANSACTIONS = {"rest": [{"interaction": [{"code": "transaction"}]}]}


@asynccontextmanager
async def running(worker: CastWorker) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.01)


def synced(state: CastState, position: int) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        found = await state.status()
        return found.synced_sequence == position and found.activity is not None and found.activity.state == "idle"

    return holds


def in_state(state: CastState, name: str) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        activity = (await state.status()).activity
        return activity is not None and activity.state == name

    return holds


def store(archive: MemoryArchive, number: int) -> None:
    archive.store((f"1.{number}", f"1.{number}.1", f"1.{number}.1.1"), ct(PatientID=f"P{number}"))


@pytest.mark.parametrize(("number", "version"), [("4.0.0", "R4"), ("4.0.1", "R4"), ("4.3.0", "R4"), ("5.0.0", "R5")])
def test_fit_servers(number: str, version: str) -> None:
    check_capability({"fhirVersion": number} | TRANSACTIONS, version)


def test_an_r4_server_is_not_written_to_in_r5() -> None:
    with pytest.raises(Faulted, match="Fhir:Version=R5"):
        check_capability({"fhirVersion": "4.0.1"} | TRANSACTIONS, "R5")


@pytest.mark.parametrize(
    "statement",
    [
        {"fhirVersion": "3.0.2"} | TRANSACTIONS,
        {"fhirVersion": "5.0.0"} | TRANSACTIONS,
        TRANSACTIONS,
        {"fhirVersion": "4.0.1"},
        {"fhirVersion": "4.0.1", "rest": [{"interaction": [{"code": "batch"}]}, {}]},
    ],
)
def test_unfit_servers(statement: dict[str, Any]) -> None:
    with pytest.raises(Faulted) as fault:
        check_capability(statement)
    assert fault.value.name == "InvalidFhirServerException"


async def test_new_entries_are_cast_until_told_to_stop(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, state: CastState
) -> None:
    worker = CastWorker(archive, target, database, OPTIONS)
    async with running(worker):
        await until(synced(state, 0))
        for number in range(1, 30):
            store(archive, number)
        await until(synced(state, 29))
        found = (await state.status()).activity
        assert found is not None
        assert (found.fhir_endpoint, found.dicom_web_endpoint) == (target.endpoint, ROOT)
    assert len(await resources(target, "ImagingStudy")) == 29
    stopped = (await state.status()).activity
    assert stopped is not None
    assert stopped.state == "stopped"


async def test_a_restart_goes_on_where_it_ended(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState
) -> None:
    for round_ in range(3):
        store(archive, round_)
        async with running(CastWorker(archive, faulty, database, OPTIONS)):
            await until(synced(state, round_ + 1))
    assert len(faulty.bundles) == 3


async def test_pages_that_repeat_entries_or_come_unordered(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, state: CastState
) -> None:
    class Stuttering(MemoryArchive):
        async def page(self, after: int, limit: int) -> FeedPage:
            page = await archive.page(max(after - 5, 0), limit + 5)
            return FeedPage([*reversed(page.entries), *page.entries], after + limit)

        async def latest(self) -> int:
            return await archive.latest()

    for number in range(25):
        archive.store(("1.1", "1.1", f"1.1.{number}"), ct(PatientName=f"Name{number}", InstanceNumber=number))
    async with running(CastWorker(Stuttering(), target, database, OPTIONS)):
        await until(synced(state, 25))
    found = await content(target)
    study = next(one for name, one in found.items() if name.startswith("ImagingStudy"))
    assert [one["number"] for one in study["series"][0]["instance"]] == list(range(25))


async def test_a_window_without_entries_is_passed(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, state: CastState
) -> None:
    store(archive, 1)
    archive.skip(100)
    store(archive, 2)
    async with running(CastWorker(archive, target, database, OPTIONS)):
        await until(synced(state, 102))
    assert len(await resources(target, "ImagingStudy")) == 2


async def test_a_reader_that_gets_no_further_is_not_asked_at_once_again(
    target: EmbeddedTarget, database: Database, state: CastState
) -> None:
    class Stuck(MemoryArchive):
        asked = 0

        async def latest(self) -> int:
            return 5

        async def page(self, after: int, limit: int) -> FeedPage:
            self.asked += 1
            return FeedPage([], after)

    stuck = Stuck()
    async with running(CastWorker(stuck, target, database, replace(OPTIONS, poll_interval=timedelta(seconds=0.2)))):
        await asyncio.sleep(0.3)
    assert 1 <= stuck.asked <= 3


async def test_wake_and_watch_shorten_the_pause(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, state: CastState
) -> None:
    slow = replace(OPTIONS, poll_interval=timedelta(minutes=1))
    worker = CastWorker(archive, target, database, slow)
    async with running(worker):
        await until(in_state(state, "idle"))
        store(archive, 1)
        worker.wake()
        await until(synced(state, 1), 1)
    watching = CastWorker(archive, target, database, replace(slow, watch_interval=timedelta(milliseconds=10)))
    async with running(watching):
        await until(in_state(state, "idle"))
        store(archive, 2)
        await until(synced(state, 2), 1)


class BusyArchive(MemoryArchive):
    """Something new has come whenever a page has been read."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = 0

    async def page(self, after: int, limit: int) -> FeedPage:
        found = await super().page(after, limit)
        self.pages += 1
        store(self, 100 + self.pages)
        return found


async def test_a_busy_store_is_followed_at_the_pace_of_the_watch(
    target: EmbeddedTarget, database: Database, state: CastState
) -> None:
    busy = BusyArchive()
    store(busy, 1)
    options = replace(OPTIONS, poll_interval=timedelta(minutes=1), watch_interval=timedelta(milliseconds=250))
    async with running(CastWorker(busy, target, database, options)):
        await until(synced(state, 3))
        await asyncio.sleep(0.5)
    assert busy.pages <= 8


@pytest.mark.parametrize("code", [401, 403])
async def test_refused_credentials_are_a_fault_that_loses_nothing(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState, code: int
) -> None:
    store(archive, 1)
    faulty.poison = {"Bundle": status(code)}
    async with running(CastWorker(archive, faulty, database, OPTIONS)):
        await until(in_state(state, "faulted"))
        found = await state.status()
        assert found.activity is not None
        assert found.activity.last_error is not None
        assert found.activity.last_error.type == "FhirClientException"
        assert found.synced_sequence == 0
        assert sum(found.error_counts.values()) == 0
        faulty.poison.clear()
        await until(synced(state, 1))
        done: Status = await state.status()
        assert done.activity is not None
        assert done.activity.last_error is None
    assert faulty.requests.count("GET metadata") >= 2


async def test_an_unfit_server_is_a_fault_until_it_is_fit(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(archive, 1)

    async def old() -> dict[str, Any]:
        return {"fhirVersion": "3.0.2"}

    monkeypatch.setattr(faulty, "capabilities", old)
    async with running(CastWorker(archive, faulty, database, OPTIONS)):
        await until(in_state(state, "faulted"))
        assert faulty.requests == []
        monkeypatch.undo()
        await until(synced(state, 1))


async def test_a_server_that_is_away_at_the_start_is_waited_for(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState
) -> None:
    store(archive, 1)
    faulty.is_down = True
    async with running(CastWorker(archive, faulty, database, OPTIONS)):
        await until(in_state(state, "retrying"))
        faulty.is_down = False
        await until(synced(state, 1))


async def test_a_server_that_refuses_metadata_is_a_fault(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState
) -> None:
    faulty.failures, faulty.match = [status(404)], "GET metadata"
    async with running(CastWorker(archive, faulty, database, OPTIONS)):
        await until(in_state(state, "faulted"))
        await until(synced(state, 0))


@pytest.mark.parametrize(("error", "name"), [(FeedUnreadable("no"), "FeedUnreadable"), (KeyError("x"), "KeyError")])
async def test_a_feed_that_cannot_be_read_is_a_fault(
    archive: MemoryArchive,
    target: EmbeddedTarget,
    database: Database,
    state: CastState,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    name: str,
) -> None:
    async def unreadable(*_: object) -> FeedPage:
        raise error

    store(archive, 1)
    monkeypatch.setattr(archive, "page", unreadable)
    async with running(CastWorker(archive, target, database, OPTIONS)):
        await until(in_state(state, "faulted"))
        activity = (await state.status()).activity
        assert activity is not None
        assert activity.last_error is not None
        assert activity.last_error.type == name
        monkeypatch.undo()
        await until(synced(state, 1))


async def test_a_feed_that_has_become_shorter_is_a_fault(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, state: CastState
) -> None:
    """The archive was restored from a backup: what it numbers anew would never be cast, and nobody would know."""
    for number in range(3):
        store(archive, number)
    async with running(CastWorker(archive, target, database, OPTIONS)):
        await until(synced(state, 3))
    restored = MemoryArchive()
    store(restored, 7)
    async with running(CastWorker(restored, target, database, OPTIONS)):
        await until(in_state(state, "faulted"))
        activity = (await state.status()).activity
        assert activity is not None and activity.last_error is not None
        assert activity.last_error.type == "FeedReplaced"
        assert "ends at 1" in activity.last_error.message
        assert await state.position() == 3


async def test_a_position_that_cannot_be_read_is_not_zero(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(archive, 1)
    async with running(CastWorker(archive, faulty, database, OPTIONS)):
        await until(synced(state, 1))
    monkeypatch.setattr("hounsfield.cast.worker.BEAT_SECONDS", 0.05)
    failures = [StoreUnavailable("disk"), StoreUnavailable("disk")]
    progress = CastState.progress

    async def failing(self: CastState) -> Progress:
        if failures:
            raise failures.pop()
        return await progress(self)

    monkeypatch.setattr(CastState, "progress", failing)
    asked: list[int] = []
    page = archive.page

    async def recorded(after: int, limit: int) -> FeedPage:
        asked.append(after)
        return await page(after, limit)

    monkeypatch.setattr(archive, "page", recorded)
    store(archive, 2)
    async with running(CastWorker(archive, faulty, database, OPTIONS)):
        await until(synced(state, 2))
    assert asked == [1]
    assert failures == []


async def test_one_worker_is_active_and_the_next_takes_over(
    archive: MemoryArchive,
    target: EmbeddedTarget,
    database: Database,
    state: CastState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hounsfield.cast.worker.BEAT_SECONDS", 0.05)
    first, second = FaultyTarget(target), FaultyTarget(target)
    async with running(CastWorker(archive, first, database, OPTIONS)) as stop:
        await until(in_state(state, "idle"))
        async with running(CastWorker(archive, second, database, OPTIONS)):
            store(archive, 1)
            await until(synced(state, 1))
            assert second.requests == []
            stop.set()
            store(archive, 2)
            await until(synced(state, 2))
    assert len(first.bundles) == len(second.bundles) == 1


async def test_a_worker_whose_lease_was_taken_stops_writing(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hounsfield.cast.worker.BEAT_SECONDS", 0.05)
    monkeypatch.setattr("hounsfield.cast.worker.LEASE_SECONDS", 0.2)
    async with running(CastWorker(archive, faulty, database, OPTIONS)):
        await until(in_state(state, "idle"))

        async def steal(tx: Any) -> None:
            await tx.execute("UPDATE lease SET owner = 'thief', expires = 9000000000000000 WHERE name = 'cast'")

        await database.write(steal)
        await asyncio.sleep(0.2)
        store(archive, 1)
        await asyncio.sleep(0.2)
        assert faulty.bundles == []
        await leases.release(database, "cast", "thief")
        await until(synced(state, 1))


async def test_a_lease_that_cannot_be_renewed_ends_in_time(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from before it was asked for: with another clock, somebody else may think it over a moment earlier."""
    clock = asyncio.get_running_loop().time
    acquire = leases.acquire

    async def slow(*arguments: Any) -> bool:
        taken = await acquire(*arguments)
        await asyncio.sleep(0.2)
        return taken

    monkeypatch.setattr(leases, "acquire", slow)
    worker = CastWorker(archive, faulty, database, OPTIONS)
    begun = clock()
    assert await worker._acquire()
    worker._guard()
    with monkeypatch.context() as later:
        later.setattr(asyncio.get_running_loop(), "time", lambda: begun + LEASE_SECONDS - 0.01)
        worker._guard()
        later.setattr(asyncio.get_running_loop(), "time", lambda: begun + LEASE_SECONDS + 0.1)
        with pytest.raises(LeaseLost):
            worker._guard()


async def test_stopping_does_not_wait_for_an_outage(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState
) -> None:
    store(archive, 1)
    faulty.poison = {"Bundle": status(503)}
    patient = replace(OPTIONS, total_retry_duration=timedelta(hours=1))
    worker = CastWorker(archive, faulty, database, patient)
    async with running(worker):
        await until(in_state(state, "retrying"))
        clock = asyncio.get_running_loop().time
        began = clock()
    assert clock() - began < 1


async def test_catching_up_pauses_between_pages(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, state: CastState
) -> None:
    for number in range(5):
        store(archive, number)
    gentle = replace(OPTIONS, page_size=1, catchup_interval=timedelta(milliseconds=60))
    clock = asyncio.get_running_loop().time
    began = clock()
    async with running(CastWorker(archive, target, database, gentle)):
        await until(synced(state, 5))
    assert clock() - began >= 4 * 0.06


@pytest.mark.peer
async def test_on_postgresql(archive: MemoryArchive, cast_postgres_url: str) -> None:
    database = open_database(cast_postgres_url)
    state = CastState(database)
    target = EmbeddedTarget(FhirStore(database, "http://hospital.example/fhir"), "http://hospital.example/fhir")
    for number in range(40):
        archive.store((f"1.{number % 8}", "1.1", f"1.1.{number}"), ct(PatientID=f"P{number % 4}"))
    async with running(CastWorker(archive, target, database, replace(OPTIONS, page_size=100))):
        await until(synced(state, 40), 20)
    assert len(await resources(target, "ImagingStudy")) == 8
    await database.close()


@pytest.mark.parametrize("watch", [None, timedelta(milliseconds=20)], ids=["polled", "watched"])
async def test_a_study_that_waits_holds_up_no_other_page(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState, watch: timedelta | None
) -> None:
    """Nor what is stored while it waits; its own later entries keep their place, and the position stands before it."""
    for number in range(3):
        store(archive, number)
    faulty.poison = {"urn:oid:1.1'": status(500)}
    patient = replace(OPTIONS, page_size=1, watch_interval=watch, total_retry_duration=timedelta(minutes=1))

    async def studies() -> set[str]:
        return {study["identifier"][0]["value"] for study in await resources(faulty, "ImagingStudy")}

    async def others() -> bool:
        return await studies() == {"urn:oid:1.0", "urn:oid:1.2"}

    async def those_after() -> bool:
        return await studies() == {"urn:oid:1.0", "urn:oid:1.2", "urn:oid:1.3"}

    async with running(CastWorker(archive, faulty, database, patient)):
        await until(others)
        archive.store(("1.1", "1.1.1", "1.1.1.2"), ct(PatientID="P1"))
        store(archive, 3)
        await until(those_after)
        found = await state.status()
        assert found.synced_sequence == 1
        assert found.activity is not None
        assert found.activity.state == "retrying"
        assert found.activity.current is not None
        assert found.activity.current.sequence == 2
        faulty.poison.clear()
        await until(synced(state, 5))
    [stuck] = [one for one in await resources(faulty, "ImagingStudy") if one["identifier"][0]["value"] == "urn:oid:1.1"]
    assert len(stuck["series"][0]["instance"]) == 2


async def test_no_more_is_read_while_much_waits(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState
) -> None:
    for number in range(20):
        store(archive, number)
    read: list[int] = []

    class Watched(MemoryArchive):
        async def page(self, after: int, limit: int) -> FeedPage:
            read.append(after)
            return await archive.page(after, limit)

        async def latest(self) -> int:
            return await archive.latest()

    faulty.poison = {"": unreachable}
    async with running(CastWorker(Watched(), faulty, database, replace(OPTIONS, page_size=2))):
        await until(in_state(state, "retrying"))
        await asyncio.sleep(0.1)
        assert read == [2 * number for number in range(UNFINISHED_PAGES)]
        faulty.poison = {}
        await until(synced(state, 20))


class RefusedFeed(MemoryArchive):
    """A feed that cannot be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def latest(self) -> int:
        raise self._error


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


FORBIDDEN = FeedRefused("DicomWebException", "no", status=403)
UNAUTHORIZED = FeedRefused("DicomWebException", "no", status=401)
NO_TOKEN = chained(FeedRefused("FailToRetrieveTokenException", "no"), NoIdentity("no"))


@pytest.mark.parametrize(
    ("match", "feed", "reason"),
    [
        ("GET metadata", None, Standstill.FHIR_FORBIDDEN),
        ("GET Patient", None, Standstill.FHIR_FORBIDDEN),
        ("POST", None, Standstill.FHIR_FORBIDDEN),
        ("", FORBIDDEN, Standstill.DICOM_FORBIDDEN),
        ("", NO_TOKEN, Standstill.NO_IDENTITY),
        ("", UNAUTHORIZED, Standstill.OTHER),
        ("", ZeroDivisionError(), Standstill.OTHER),
    ],
)
async def test_standstills_are_counted_as_the_reference_does(
    archive: MemoryArchive,
    faulty: FaultyTarget,
    database: Database,
    state: CastState,
    match: str,
    feed: Exception | None,
    reason: Standstill,
) -> None:
    """Every time, and kept by the database."""
    store(archive, 1)
    if feed is None:
        faulty.match, faulty.failures = match, [status(403), status(403)]
    reader = archive if feed is None else RefusedFeed(feed)

    async def counted() -> bool:
        return (await state.status()).standstills[reason] >= 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hounsfield.cast.worker._SHORTEST_FAULT", timedelta(milliseconds=10))
        async with running(CastWorker(reader, faulty, database, OPTIONS)):
            await until(counted)
    found = (await state.status()).standstills
    assert [other for other in Standstill if found[other]] == [reason]
