"""Long-running operations over HTTP: the resource, the list, the cancel request (operations.md §1), and the command."""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.operations import engine
from hounsfield.operations.job import Status
from tests.acceptance.conftest import QUIET
from tests.acceptance.test_lifecycle import running
from tests.acceptance.test_security import security
from tests.operations import counting
from tests.peers.oidc_provider import OidcProvider
from tests.server import Server

pytestmark = pytest.mark.acceptance

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,7}Z")
VERSIONS = ("v1.0-prerelease", "v1", "v2")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose worker knows none of the operations here."""
    with running(tmp_path_factory.mktemp("operations") / "data", *QUIET) as server:
        asyncio.run(counting.create_table(index_of(server.data_dir)))
        yield server


@pytest.fixture
def client(served: Server) -> Iterator[httpx.Client]:
    with served.client() as opened:
        yield opened


@pytest.fixture
async def database(served: Server) -> AsyncIterator[Database]:
    """The server's index, as a worker of the tests sees it."""
    opened = open_database(index_of(served.data_dir))
    yield opened
    await opened.close()


def index_of(data_dir: Path) -> str:
    return f"sqlite:///{data_dir / 'index.db'}"


def work_off(served: Server) -> None:
    """Have a worker process do what there is."""
    command = [sys.executable, "-m", "tests.operations.counting", index_of(served.data_dir)]
    subprocess.run(command, check=True, timeout=60)


async def test_an_operation_from_its_start_to_its_end(served: Server, client: httpx.Client, database: Database) -> None:
    operation_id = await counting.begin(database, 5, 4)
    for version in VERSIONS:
        response = client.get(f"/{version}/operations/{operation_id}")
        assert response.status_code == 202
        assert response.headers["location"] == f"{served.root}/{version}/operations/{operation_id}"
        assert response.headers["api-supported-versions"] == "1.0-prerelease, 1, 2"
        body = response.json()
        assert TIME.fullmatch(body["createdTime"]) and TIME.fullmatch(body["lastUpdatedTime"])
        assert {name: value for name, value in body.items() if not name.endswith("Time")} == {
            "operationId": operation_id, "type": "counting", "status": "notStarted", "percentComplete": 0
        }  # fmt: skip
    work_off(served)
    for version in VERSIONS:
        response = client.get(f"/{version}/operations/{operation_id}")
        assert response.status_code == 200 and "location" not in response.headers
        body = response.json()
        assert (body["status"], body["percentComplete"]) == ("succeeded" if version == "v2" else "completed", 100)
        begun, updated = (datetime.fromisoformat(body[name]) for name in ("createdTime", "lastUpdatedTime"))
        assert begun < updated


async def test_every_usual_form_of_an_id(client: httpx.Client, database: Database) -> None:
    operation_id = await counting.begin(database, 1)
    dashed = "-".join((operation_id[:8], *(operation_id[at : at + 4] for at in (8, 12, 16)), operation_id[20:]))
    for form in (operation_id, operation_id.upper(), dashed, dashed.upper(), f"{{{dashed}}}", f"({dashed})"):
        response = client.get(f"/v2/operations/{form}")
        assert response.json()["operationId"] == operation_id
        assert response.headers["location"].endswith(f"/v2/operations/{operation_id}")
    for form in ("0" * 32, "abc", operation_id[1:], f"{operation_id}0", dashed[1:], dashed.replace("-", "_"), "%20"):
        response = client.get(f"/v2/operations/{form}")
        assert (response.status_code, "location" in response.headers) == (404, False)
    assert client.get(f"/v2/partitions/Microsoft.Default/operations/{operation_id}").status_code == 404
    assert client.get(f"/v3/operations/{operation_id}").status_code == 400
    assert client.delete(f"/v2/operations/{operation_id}").status_code == 405


async def test_the_list_is_newest_first_and_paged(client: httpx.Client, database: Database) -> None:
    ids = [await counting.begin(database, 1) for _ in range(3)][::-1]
    found = client.get("/v2/operations", params={"limit": 2}).json()
    assert [each["operationId"] for each in found] == ids[:2]
    assert found[0]["cancelRequested"] is False
    assert client.get("/v1/operations", params={"limit": 1, "offset": 2}).json()[0]["operationId"] == ids[2]
    assert client.get("/v2/operations", params={"offset": 100000}).json() == []
    for wrong in ({"limit": 0}, {"limit": 201}, {"offset": -1}, {"limit": "x"}):
        response = client.get("/v2/operations", params=wrong)
        assert response.status_code == 400 and next(iter(wrong)) in response.text


async def test_cancelling(served: Server, client: httpx.Client, database: Database) -> None:
    operation_id = await counting.begin(database, 9)
    for version in VERSIONS:
        response = client.post(f"/{version}/operations/{operation_id}/cancelrequest")
        href = f"{served.root}/{version}/operations/{operation_id}"
        assert (response.status_code, response.headers["location"]) == (202, href)
        assert response.json() == {"id": operation_id, "href": href}
    assert client.get(f"/v2/operations/{operation_id}").json().keys() == {
        "operationId", "type", "createdTime", "lastUpdatedTime", "status", "percentComplete"
    }  # fmt: skip
    assert client.get(f"/v2/operations/{operation_id}?details=true").json()["cancelRequested"] is True
    work_off(served)
    body = client.get(f"/v2/operations/{operation_id}?details=true").json()
    assert (body["status"], body["percentComplete"], body["cancelRequested"]) == ("canceled", 0, True)
    assert await counting.counted(database, operation_id) == {}
    response = client.post(f"/v2/operations/{operation_id}/cancelrequest")
    assert response.status_code == 409 and "ended" in response.text
    assert client.post(f"/v2/operations/{'0' * 32}/cancelrequest").status_code == 404


async def test_a_failure_says_why_to_those_who_ask(served: Server, client: httpx.Client, database: Database) -> None:
    operation_id = await database.write(lambda tx: engine.start(tx, counting.KIND, {}))
    work_off(served)
    assert "error" not in client.get(f"/v2/operations/{operation_id}").json()
    body = client.get(f"/v2/operations/{operation_id}?details=TRUE").json()
    assert (body["status"], body["error"]) == ("failed", "A step failed 3 times. The last time: KeyError.")


async def test_figures(client: httpx.Client, database: Database) -> None:
    await counting.begin(database, 1)
    time.sleep(1.1)  # figures are kept for a second
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("hounsfield_operations{")]
    found = {line.split('"')[1]: float(line.split()[-1]) for line in lines}
    assert found.keys() == {status.value for status in Status}
    assert found["notStarted"] >= 1


async def test_the_command(served: Server, database: Database) -> None:
    operation_id = await counting.begin(database, 300)

    def start(*arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "hounsfield", "operations", *arguments, "--at", f"{served.root}/v2"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    watching = start("watch", "--json")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["operationId"] == operation_id
    work_off(served)
    shown = watching.communicate(timeout=30)[0].splitlines()
    assert (watching.returncode, json.loads(shown[-1])["status"]) == (0, "succeeded")


@pytest.mark.peer
async def test_permissions_and_the_audit_log(tmp_path: Path, oidc_provider_process: OidcProvider) -> None:
    environment = security(oidc_provider_process.authority, roles=True)

    def token(name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {oidc_provider_process.token(name)}"}

    with running(tmp_path / "data", *QUIET, environment=environment) as server, server.client() as client:
        database = open_database(index_of(server.data_dir))
        operation_id = await database.write(lambda tx: engine.start(tx, "of tomorrow", {}))
        await database.close()
        path = f"/v2/operations/{operation_id}"
        for headers, see, cancel in (
            ({}, 401, 401),
            (token("nobody"), 403, 403),
            (token("reader"), 202, 403),
            (token("admin"), 202, 202),
        ):
            assert client.get(path, headers=headers).status_code == see
            assert client.get("/v2/operations", headers=headers).status_code == (200 if see == 202 else see)
            assert client.post(f"{path}/cancelrequest", headers=headers).status_code == cancel
        actions = re.findall(r'"Action":"([\w-]+)"', server.log())
    assert {"operation", "cancel-operation"} <= set(actions)
