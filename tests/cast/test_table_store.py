"""Azure tables: addresses and signatures, and error rows that follow the database whatever happens."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hounsfield.cast import error_tables
from hounsfield.cast.error_tables import ErrorRow
from hounsfield.cast.failure import Table
from hounsfield.cast.state import Activity, CastState, LastError, Outcome, Progress
from hounsfield.cast.step import Remove
from hounsfield.cast.table_copy import POSITION, POSITION_KEYS, TableCopy
from hounsfield.cast.table_store import TableStore, TableStoreUnavailable, parse_connection_string
from hounsfield.cast.worker import CastWorker
from hounsfield.database.engine import Database
from hounsfield.errors import SettingsError
from hounsfield.fhir.embedded import EmbeddedTarget
from tests.cast.conftest import OPTIONS
from tests.cast.faulty_target import FaultyTarget, status
from tests.cast.fhir_content import resources
from tests.cast.memory_archive import OTHER_STUDY, A, B, MemoryArchive, ct
from tests.cast.test_worker import in_state, running, synced, until
from tests.peers.azurite import azurite_tables
from tests.server import free_port

IDLE = Activity("idle", "f", "d")
NOWHERE = "AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a"


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A connection string of a table service of this module's own."""
    with azurite_tables(tmp_path_factory.mktemp("tables")) as text:
        yield text


@pytest.fixture
async def store(connection: str, request: pytest.FixtureRequest) -> AsyncIterator[TableStore]:
    """Tables that no other test has, by their prefix."""
    store = TableStore(parse_connection_string(connection), f"t{abs(hash(request.node.name)) % 10**9}")
    yield store
    await store.close()


@pytest.fixture
def copy(store: TableStore, database: Database) -> TableCopy:
    return TableCopy(store, database, lambda error: None, with_position=True, poll=0.02, pause=0.02)


@pytest.fixture
def state(database: Database) -> CastState:
    """With rows that have to go from the tables as well."""
    return CastState(database, has_table_store=True)


async def file(state: CastState, *rows: ErrorRow, position: int = 0) -> None:
    await state.save(Progress(position), [Outcome(rows)], IDLE)


def row(table: Table, sequence: int = 7, name: str = "SomeException", number: int | None = None) -> ErrorRow:
    return ErrorRow(table, Remove(sequence, "1.1", "1.2", "1.3"), name, "text 'ü' 😀", number)


async def copied(store: TableStore, state: CastState, table: Table) -> list[dict[str, Any] | None]:
    """What the tables have of the rows in the database."""
    rows, _ = await state.errors(table, 1000, None)
    return [await store.get(table.value, one.partition_key, one.row_key) for one in rows]


@pytest.mark.peer
@pytest.mark.parametrize("table", Table)
async def test_rows_have_the_reference_s_columns(
    state: CastState, copy: TableCopy, store: TableStore, table: Table
) -> None:
    number = 3 if table is Table.TRANSIENT_RETRY else None
    await file(state, row(table, 2**40, number=number))
    assert (await state.status()).uncopied == 1
    assert not await copy.copy()
    ((stored,), _) = await state.errors(table, 10, None)
    (found,) = await copied(store, state, table)
    assert found is not None
    assert found.pop("Timestamp")
    assert found == {
        "PartitionKey": "SomeException",
        "RowKey": stored.row_key,
        "StudyUid": "1.1",
        "SeriesUid": "1.2",
        "InstanceUid": "1.3",
        "ChangeFeedSequence": str(2**40),  # Edm.Int64 is a string in JSON
        "Exception": "SomeException: text 'ü' 😀",
    } | ({"RetryNumber": 3} if number else {})
    assert (await state.status()).uncopied == 0


@pytest.mark.peer
async def test_removed_rows_go_and_a_crash_in_between_repeats_harmlessly(
    state: CastState, copy: TableCopy, store: TableStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await file(state, *(row(Table.FHIR_FAIL, number) for number in range(250)))

    async def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as crash:
        crash.setattr(copy, "_mark", dies)
        with pytest.raises(KeyboardInterrupt):
            await copy.copy()  # a page is there, but nobody knows
    assert (await state.status()).uncopied == 250
    while await copy.copy():
        pass
    assert None not in await copied(store, state, Table.FHIR_FAIL)
    gone, _ = await state.errors(Table.FHIR_FAIL, 250, None)
    await error_tables.empty(database, Table.FHIR_FAIL, copied_elsewhere=True)
    assert (await state.status()).uncopied == 250
    while await copy.copy():
        pass
    assert [await store.get(Table.FHIR_FAIL.value, one.partition_key, one.row_key) for one in gone[::50]] == [None] * 5
    assert (await state.status()).uncopied == 0


@pytest.mark.peer
async def test_the_position_follows_and_is_taken_over_by_a_new_database(
    archive: MemoryArchive, target: EmbeddedTarget, store: TableStore, database: Database, state: CastState
) -> None:
    for uids in (A, B, OTHER_STUDY):
        archive.store(uids, ct())
    await store.make(POSITION)
    await store.put(
        POSITION,
        {"PartitionKey": POSITION_KEYS[0], "RowKey": POSITION_KEYS[1], "SyncedSequence": 2},
        longs=frozenset({"SyncedSequence"}),
    )
    async with running(CastWorker(archive, target, database, OPTIONS, store, keeps_position=True)):
        await until(synced(state, 3))

        async def follows() -> bool:
            found = await store.get(POSITION, *POSITION_KEYS)
            return found is not None and found["SyncedSequence"] == "3"

        await until(follows)
    assert [one["identifier"][0]["value"] for one in await resources(target, "ImagingStudy")] == ["urn:oid:1.2"]


@pytest.mark.peer
async def test_the_position_of_another_feed_is_not_taken(
    archive: MemoryArchive, target: EmbeddedTarget, store: TableStore, database: Database, state: CastState
) -> None:
    archive.store(A, ct())
    await store.make(POSITION)
    await store.put(
        POSITION,
        {"PartitionKey": POSITION_KEYS[0], "RowKey": POSITION_KEYS[1], "SyncedSequence": 5000},
        longs=frozenset({"SyncedSequence"}),
    )
    async with running(CastWorker(archive, target, database, OPTIONS, store, keeps_position=True)):
        await until(synced(state, 1))
    assert len(await resources(target, "ImagingStudy")) == 1


@pytest.mark.peer
async def test_an_outage_stops_neither_casting_nor_loses_a_row(
    archive: MemoryArchive,
    faulty: FaultyTarget,
    database: Database,
    state: CastState,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hounsfield.cast.worker.BEAT_SECONDS", 0.05)  # also how often it is told
    port = free_port()
    account = parse_connection_string(NOWHERE.replace(":9/", f":{port}/"))
    away = TableStore(account)
    archive.store(A, ct())
    archive.store(OTHER_STUDY, ct())
    faulty.poison = {A[2]: status(400)}
    async with running(CastWorker(archive, faulty, database, OPTIONS, away)):
        await until(synced(state, 2))

        async def complains() -> bool:
            activity = (await state.status()).activity
            return activity is not None and activity.table_store_error is not None

        await until(complains)
    await away.close()
    assert (await state.status()).uncopied == 1
    assert len(await resources(faulty, "ImagingStudy")) == 1
    with azurite_tables(tmp_path, port) as text:
        back = TableStore(parse_connection_string(text))
        async with running(CastWorker(archive, faulty, database, OPTIONS, back)):

            async def caught_up() -> bool:
                found = await state.status()
                error = found.activity and found.activity.table_store_error
                return found.uncopied == 0 and error is None

            await until(caught_up)
        assert None not in await copied(back, state, Table.FHIR_FAIL)
        await back.close()


async def test_a_position_that_cannot_be_read_is_waited_for(
    archive: MemoryArchive, target: EmbeddedTarget, database: Database, state: CastState
) -> None:
    store = TableStore(parse_connection_string(NOWHERE))
    archive.store(A, ct())
    async with running(CastWorker(archive, target, database, OPTIONS, store, keeps_position=True)):
        await until(in_state(state, "faulted"))
    activity = (await state.status()).activity
    assert activity is not None and activity.last_error is not None
    assert activity.last_error.type == "TableStoreUnavailable"
    assert "TableStore:ConnectionString" in activity.last_error.message
    assert await state.position() == 0
    await store.close()


async def test_a_row_that_is_refused_does_not_keep_the_others_out(state: CastState, database: Database) -> None:
    put: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            put.append(request.url.path)
            return httpx.Response(400 if "Poison" in request.url.path else 204)
        return httpx.Response(409)

    store = TableStore(parse_connection_string(NOWHERE), transport=httpx.MockTransport(answer))
    copy = TableCopy(store, database, lambda error: None, with_position=False)
    await file(state, row(Table.FHIR_FAIL, 1, "Poison"), row(Table.FHIR_FAIL, 2))
    assert not await copy.copy()
    assert len(put) == 2
    assert (await state.status()).uncopied == 0


@pytest.mark.parametrize(
    ("answered", "words"), [(403, "credentials"), (401, "credentials"), (503, "503"), (404, "404"), (429, "429")]
)
async def test_what_may_pass_is_tried_again(database: Database, state: CastState, answered: int, words: str) -> None:
    told: list[LastError | None] = []
    statuses = [answered]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(statuses.pop() if statuses and request.method == "PUT" else 204)

    store = TableStore(parse_connection_string(NOWHERE), transport=httpx.MockTransport(answer))
    copy = TableCopy(store, database, told.append, with_position=False, poll=0.01, pause=0.01)
    await file(state, row(Table.DICOM_FAIL))
    task = asyncio.create_task(copy.run())

    async def is_well() -> bool:
        return bool(told) and told[-1] is None and (await state.status()).uncopied == 0

    await until(is_well)
    task.cancel()
    assert told[0] is not None and words in told[0].message


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("AccountName=n;AccountKey=a2V5", "https://n.table.core.windows.net"),
        (
            "DefaultEndpointsProtocol=http;AccountName=n;AccountKey=a2V5;EndpointSuffix=example.org",
            "http://n.table.example.org",
        ),
        ("accountname=n;accountkey=a2V5;tableendpoint=https://t.example/;", "https://t.example"),
        ("TableEndpoint=https://t.example;SharedAccessSignature=?sv=1&sig=x%3D", "https://t.example"),
        ("UseDevelopmentStorage=true", "http://127.0.0.1:10002/devstoreaccount1"),
    ],
)
def test_connection_strings(text: str, endpoint: str) -> None:
    account = parse_connection_string(text)
    assert account.endpoint == endpoint
    assert bool(account.key) != bool(account.signature)
    assert "a2V5" not in repr(account) and "sig" not in repr(account)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "AccountName=n",
        "AccountKey=a2V5",
        "AccountName=n;AccountKey=%",
        "TableEndpoint=t.example;AccountName=n;AccountKey=a2V5",
        "TableEndpoint=https://t.example;AccountKey=a2V5",
        "TableEndpoint=http://[;AccountName=n;AccountKey=a2V5",
    ],
)
def test_connection_strings_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_connection_string(text)
    assert "TableStore:ConnectionString" in refused.value.message
    assert "a2V5" not in refused.value.message


async def test_a_shared_access_signature_goes_into_the_address() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(204)

    text = "TableEndpoint=https://t.example;SharedAccessSignature=?sv=1&sig=x%3D"
    store = TableStore(parse_connection_string(text), transport=httpx.MockTransport(answer))
    await store.delete("T", "it's", "a b")
    assert str(asked[0].url) == "https://t.example/T(PartitionKey='it''s',RowKey='a%20b')?sv=1&sig=x%3D"
    assert "authorization" not in asked[0].headers


@pytest.mark.parametrize("prefix", ["1x", "a-b", "ä", "a" * 31])
def test_prefixes_that_are_none(prefix: str) -> None:
    with pytest.raises(SettingsError, match="TableNamePrefix"):
        TableStore(parse_connection_string(NOWHERE), prefix)


async def test_long_texts_fit_into_a_string_property() -> None:
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(204)

    store = TableStore(parse_connection_string(NOWHERE), transport=httpx.MockTransport(answer))
    await store.put("T", {"PartitionKey": "p", "RowKey": "r", "Exception": "x" + "😀" * 30_000})
    text = httpx.Response(200, content=sent[0]).json()["Exception"]
    assert 65_530 <= len(text.encode("utf-16-le")) <= 65_536


async def test_the_store_says_what_it_cannot_read() -> None:
    answers: list[Callable[[], httpx.Response]] = [
        lambda: httpx.Response(200, content=b"<html>"),
        lambda: httpx.Response(200, json=[]),
    ]
    store = TableStore(parse_connection_string(NOWHERE), transport=httpx.MockTransport(lambda request: answers.pop()()))
    for _ in range(2):
        with pytest.raises(TableStoreUnavailable):
            await store.get("T", "p", "r")
