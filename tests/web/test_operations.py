"""What a kind of operation adds to the resource, and who may cancel it (operations.md §1)."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.database import migrate
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.operations import engine
from hounsfield.operations.job import Json, Operation
from hounsfield.security.roles import DataAction
from hounsfield.web.access import Access, Caller
from hounsfield.web.operations import Kind, operation_routes, parse_id
from hounsfield.web.partitions import Partitions
from hounsfield.web.versions import VersionedRoutes


class Callers(Access):
    """Lets in a caller who may do what is set here."""

    def __init__(self) -> None:
        self.permitted = frozenset(DataAction)

    async def admit(self, request: Any, action: str) -> Caller:
        request.scope["hounsfield.caller"] = Caller({}, self.permitted)
        return Caller({}, self.permitted)


async def tags_of(operation: Operation, root: str) -> list[str]:
    return [f"{root}/extendedquerytags/{tag}" for tag in operation.arguments["tags"]]


def results_of(operation: Operation) -> Json:
    return {"exported": 0, **(operation.results or {}), "errorHref": operation.arguments["errors"]}


KINDS = [
    Kind("reindex", DataAction.MANAGE_EXTENDED_QUERY_TAGS, resources=tags_of),
    Kind("export", DataAction.EXPORT, has_percent=False, results=results_of),
]
ARGUMENTS = {"tags": ["00101010"], "errors": "https://example.com/errors.log"}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'index.db'}"
    migrate.upgrade(url)
    opened = open_database(url)
    yield opened
    await opened.close()


@pytest.fixture
def callers() -> Callers:
    return Callers()


@pytest.fixture
async def client(database: Database, callers: Callers) -> AsyncIterator[httpx.AsyncClient]:
    partitions = Partitions(database, enabled=False, cache_size=1, cache_time=timedelta(0))
    app = VersionedRoutes(operation_routes(database, KINDS), partitions, callers)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as opened:
        yield opened


async def start(database: Database, kind: str) -> str:
    return await database.write(lambda tx: engine.start(tx, kind, ARGUMENTS))


async def test_each_kind_shows_what_it_has(client: httpx.AsyncClient, database: Database) -> None:
    common = {"operationId", "type", "createdTime", "lastUpdatedTime", "status"}
    for kind, more in (
        ("reindex", {"percentComplete": 0, "resources": ["http://host/v1.0/extendedquerytags/00101010"]}),
        ("export", {"results": {"exported": 0, "errorHref": ARGUMENTS["errors"]}}),
        ("of tomorrow", {"percentComplete": 0}),
    ):
        operation_id = await start(database, kind)
        body = (await client.get(f"/v1.0/operations/{operation_id}")).json()
        assert body["type"] == kind
        assert {name: value for name, value in body.items() if name not in common} == more
        assert common <= body.keys()
        listed = (await client.get("/v1.0/operations")).json()
        assert listed[0] == {**body, "cancelRequested": False}


@pytest.mark.parametrize(
    ("kind", "permitted", "status"),
    [
        ("reindex", {DataAction.READ, DataAction.MANAGE_EXTENDED_QUERY_TAGS}, 202),
        ("reindex", {DataAction.READ, DataAction.EXPORT, DataAction.WRITE}, 403),
        ("export", {DataAction.READ, DataAction.EXPORT}, 202),
        ("export", {DataAction.EXPORT}, 403),
        ("of tomorrow", set(DataAction), 202),
        ("of tomorrow", set(DataAction) - {DataAction.DELETE}, 403),
    ],
)
async def test_cancelling_takes_what_starting_takes(
    client: httpx.AsyncClient, database: Database, callers: Callers, kind: str, permitted: set[DataAction], status: int
) -> None:
    operation_id = await start(database, kind)
    callers.permitted = frozenset(permitted)
    assert (await client.post(f"/v2/operations/{operation_id}/cancelrequest")).status_code == status
    callers.permitted = frozenset(DataAction)
    body = (await client.get(f"/v2/operations/{operation_id}?details=true")).json()
    assert body["cancelRequested"] == (status == 202)


@given(st.uuids(), st.sampled_from(["{}", "{{{}}}", "({})"]), st.booleans())
def test_every_guid_is_read(guid: Any, form: str, upper: bool) -> None:
    for text in (str(guid), guid.hex):
        written = form.format(text.upper() if upper else text)
        assert parse_id(written) == guid.hex


@given(st.text(alphabet="0123456789abcdefxyz{}()-_ ١", max_size=40))
def test_what_is_read_is_an_id(text: str) -> None:
    found = parse_id(text)
    assert found is None or (len(found) == 32 and set(found) <= set("0123456789abcdef"))
