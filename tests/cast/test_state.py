"""Cast's tables on both engines."""

import base64
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hounsfield.cast import error_tables
from hounsfield.cast.error_tables import Choice, ErrorRow, InvalidToken, StoredError
from hounsfield.cast.failure import Table
from hounsfield.cast.state import Activity, Attempt, CastState, LastError, Outcome, Progress
from hounsfield.cast.step import Remove
from hounsfield.cast.study_values import InstanceValues
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database, Transaction

ACTIVITY = Activity("running", "http://fhir.example", "https://dicom.example.com/")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def state_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated database of each engine."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "state.db")
        return f"sqlite:///{tmp_path / 'state.db'}"
    url: str = request.getfixturevalue("cast_postgres_url")
    return url


@pytest.fixture
async def database(state_url: str) -> AsyncIterator[Database]:
    """An open database without rows of cast."""
    database = open_database(state_url)

    async def empty(tx: Transaction) -> None:
        for table in (
            "cast_state",
            "cast_status",
            "cast_error",
            "cast_updated_instance",
            "cast_error_removed",
            "cast_retry",
        ):
            await tx.execute(f"DELETE FROM {table}")

    await database.write(empty)
    yield database
    await database.close()


def step(sequence: int) -> Remove:
    return Remove(sequence, "1.1", "1.2", f"1.3.{sequence}")


def row(sequence: int, table: Table = Table.FHIR_FAIL, once: str | None = None, number: int | None = None) -> ErrorRow:
    return ErrorRow(table, step(sequence), "SomeException", f"text {sequence}", number, once)


def token_of(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


async def test_an_empty_database(state: CastState) -> None:
    status = await state.status()
    assert await state.position() == 0
    assert (status.activity, status.is_alive, status.synced_sequence, status.synced_date) == (None, False, 0, None)
    assert status.error_counts == dict.fromkeys(Table, 0)
    assert await state.errors(Table.DICOM_FAIL, 10, None) == ([], None)
    assert await state.updated_instances("1.1") == {}


async def test_the_position_only_goes_forward(state: CastState) -> None:
    for position in (3, 9, 5):
        await state.save(Progress(position), [Outcome()], ACTIVITY)
    assert await state.position() == 9
    first = (await state.status()).synced_date
    await state.save(Progress(9), [Outcome()], ACTIVITY)
    assert (await state.status()).synced_date == first


@pytest.mark.parametrize("finished", [(), (5,), (5, 6, 7, 9, 20, 21)])
async def test_finished_entries_are_read_back(state: CastState, finished: tuple[int, ...]) -> None:
    progress = Progress(3, frozenset(finished))
    await state.save(progress, [], ACTIVITY)
    assert await state.progress() == progress
    await state.save(Progress(2, frozenset({99})), [], ACTIVITY)
    assert await state.progress() == progress


async def test_what_a_worker_says_is_read_back(state: CastState) -> None:
    current = Attempt(7, "1.1", "1.2", "1.3", 2, 1_700_000_000_000_000)
    activity = Activity("retrying", "http://fhir", "http://dicom/", current, LastError("X", "text", 5))
    await state.report(activity)
    status = await state.status()
    assert status.activity == activity
    assert status.is_alive


async def test_a_silent_worker_is_not_alive(state: CastState, monkeypatch: pytest.MonkeyPatch) -> None:
    await state.report(ACTIVITY)
    monkeypatch.setattr("hounsfield.cast.state.STALE_SECONDS", -1.0)
    assert not (await state.status()).is_alive


async def test_rows_come_by_sequence_then_newest_first(state: CastState) -> None:
    for sequence in (2, 5, 2, 9, 5):
        await state.save(Progress(0), [Outcome([row(sequence)])], ACTIVITY)
    found, token = await state.errors(Table.FHIR_FAIL, 10, None)
    assert [one.sequence for one in found] == [9, 5, 5, 2, 2]
    assert found[1].timestamp > found[2].timestamp
    assert token is None
    assert len({one.row_key for one in found}) == 5
    assert found[0].exception == "SomeException: text 9"
    assert (found[0].study_uid, found[0].series_uid, found[0].instance_uid) == ("1.1", "1.2", "1.3.9")


async def test_pages(state: CastState) -> None:
    await state.save(Progress(0), [Outcome([row(sequence) for sequence in range(1, 26)])], ACTIVITY)
    await state.save(Progress(0), [Outcome([row(1, Table.DICOM_FAIL)])], ACTIVITY)
    seen: list[StoredError] = []
    token = None
    sizes = []
    while True:
        found, token = await state.errors(Table.FHIR_FAIL, 10, token)
        seen += found
        sizes.append(len(found))
        if token is None:
            break
    assert sizes == [10, 10, 5]
    assert [one.sequence for one in seen] == list(range(25, 0, -1))
    exactly, following = await state.errors(Table.FHIR_FAIL, 25, None)
    assert (len(exactly), following) == (25, None)


NO_ROW = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "",
        "é",
        token_of("x"),
        token_of([1]),
        token_of([1, 2, 3]),
        token_of([1, 2, "x"]),
        token_of([None, 2, NO_ROW]),
        token_of([-1, 2, NO_ROW]),
        token_of([99999999999999999999, 1, NO_ROW]),
    ],
)
async def test_a_token_that_is_none(state: CastState, token: str) -> None:
    with pytest.raises(InvalidToken):
        await state.errors(Table.FHIR_FAIL, 10, token)


async def test_a_row_that_is_the_same_is_written_once_per_table(state: CastState) -> None:
    for _ in range(3):
        await state.save(Progress(0), [Outcome([row(1, once="1"), row(1, Table.DICOM_FAIL, once="1")])], ACTIVITY)
        await state.retrying(row(1, Table.TRANSIENT_RETRY, number=1), ACTIVITY)
    counts = (await state.status()).error_counts
    assert counts[Table.FHIR_FAIL] == counts[Table.DICOM_FAIL] == 1
    assert counts[Table.TRANSIENT_RETRY] == 3


async def test_long_and_odd_texts(state: CastState) -> None:
    await state.save(Progress(0), [Outcome([ErrorRow(Table.FHIR_FAIL, step(1), "X", "\0" + "ü" * 40_000)])], ACTIVITY)
    ((found,), _) = await state.errors(Table.FHIR_FAIL, 10, None)
    assert len(found.exception) == 30_000
    assert "\0" not in found.exception


async def test_study_values_of_updated_instances(state: CastState) -> None:
    one, two = InstanceValues("A", None), InstanceValues(None, "D")
    await state.save(Progress(1), [Outcome((), "1.1", {"a": one, "b": one}, {})], ACTIVITY)
    await state.save(Progress(1), [Outcome((), "1.9", {"a": two}, {})], ACTIVITY)
    assert await state.updated_instances("1.1") == {"a": one, "b": one}
    await state.save(Progress(2), [Outcome((), "1.1", {"a": two, "c": one}, {"a": one, "b": one})], ACTIVITY)
    assert await state.updated_instances("1.1") == {"a": two, "c": one}
    assert await state.updated_instances("1.9") == {"a": two}


async def test_a_large_table_is_emptied_alone(
    database: Database, state: CastState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_tables, "REMOVED_AT_ONCE", 10)
    await state.save(Progress(0), [Outcome([row(sequence) for sequence in range(25)])], ACTIVITY)
    await state.save(Progress(0), [Outcome([row(1, Table.DICOM_FAIL)])], ACTIVITY)
    await error_tables.empty(database, Table.FHIR_FAIL, copied_elsewhere=True)
    counts = (await state.status()).error_counts
    assert (counts[Table.FHIR_FAIL], counts[Table.DICOM_FAIL]) == (0, 1)
    with_tables = CastState(database, has_table_store=True)
    assert (await with_tables.status()).uncopied == 26


async def test_requests_on_both_engines(database: Database, state: CastState) -> None:
    for sequence in (3, 5, 5, 9):
        await state.save(Progress(0), [Outcome([row(sequence)])], ACTIVITY)
    assert await error_tables.request_retry(database, error_tables.RETRYABLE, "1.1") == 4
    (request,) = (await state.status()).retries
    assert await error_tables.retry_requests(database) == [request]
    assert await error_tables.to_try_again(database, request, 0, 2) == [3, 5]
    assert await error_tables.to_try_again(database, request, 5, 2) == [9]
    again = Outcome([row(9)], tried_again=[3, 9], request=request)
    await state.save(Progress(0), [again], ACTIVITY)
    assert await error_tables.to_try_again(database, request, 0, 9) == [5]
    assert await error_tables.page(database, Table.FHIR_FAIL, 9, None, Choice("1.1", request.created + 1)) == (
        [one for one in (await state.errors(Table.FHIR_FAIL, 9, None))[0] if one.sequence == 9],
        None,
    )
    await error_tables.end_request(database, request)
    assert (await state.status()).retries == []
