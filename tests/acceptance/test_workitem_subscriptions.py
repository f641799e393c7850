"""Notification connections through WebSockets: two API processes, reconnects, kill -9 (PS3.18 §11.10–11.13)."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from tests.acceptance.test_lifecycle import running
from tests.acceptance.test_security import security
from tests.acceptance.test_workitems import claimed, created, send
from tests.peers.oidc_provider import OidcProvider
from tests.server import Server
from tests.worklist import make
from tests.worklist.make import element, new_uid, sequence, to_state

pytestmark = pytest.mark.acceptance

WORKLIST, FILTERED = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two API processes."""
    with running(tmp_path_factory.mktemp("subscribers") / "data", "--workers", "2") as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()


@pytest.fixture
def api(listening: Server) -> Iterator[httpx.Client]:
    with listening.client() as client:
        yield client


def subscribed(client: httpx.Client, title: str, resource: str, query: str = "") -> str:
    """Subscribe; the address of the notification connection."""
    answer = client.post(f"/v2/workitems/{resource}/subscribers/{title}{query}")
    assert answer.status_code == 201, answer.text
    return answer.headers["content-location"]


def a_title() -> str:
    return new_uid()[-12:]


async def next_report(connection: ClientConnection) -> tuple[str, int]:
    """Workitem and event of the next report."""
    async with asyncio.timeout(20):
        report = json.loads(await connection.recv())
    assert report["00000002"]["Value"] == ["1.2.840.10008.5.1.4.34.6.4"]
    assert 1 <= report["00000110"]["Value"][0] <= 65535
    return report["00001000"]["Value"][0], report["00001002"]["Value"][0]


async def test_every_process_tells_of_what_any_has_committed(api: httpx.Client, listening: Server) -> None:
    uid = created(api)
    urls = [subscribed(api, a_title(), uid) for _ in range(6)]
    connections = [await websockets.connect(url) for url in urls]
    for connection in connections:
        assert await next_report(connection) == (uid, 1)
    # Connections go to the process that has fewer, so both processes have some, and both are asked.
    for method, path, body in (
        ("PUT", f"{uid}/state", to_state("IN PROGRESS", "1.2")),
        ("POST", f"{uid}?1.2", make.discontinued()),
        ("PUT", f"{uid}/state", to_state("CANCELED", "1.2")),
    ):
        with listening.client() as another:
            assert send(another, method, path, body).status_code == 200
    for connection in connections:
        assert [await next_report(connection) for _ in range(3)] == [(uid, 1), (uid, 3), (uid, 1)]
        await connection.close()


async def test_what_happens_while_nobody_listens_is_told_later_and_once(api: httpx.Client) -> None:
    uid, other = created(api), created(api)
    title = a_title()
    url = subscribed(api, title, uid)
    assert subscribed(api, title, other) == url
    async with websockets.connect(url) as connection:
        assert [await next_report(connection) for _ in range(2)] == [(uid, 1), (other, 1)]
        await connection.ping()
    for _ in range(3):
        send(api, "POST", uid, {"00741002": sequence({"00741004": element("DS", _)})})
    async with websockets.connect(url) as connection:
        assert [await next_report(connection) for _ in range(3)] == [(uid, 3)] * 3
    send(api, "POST", other, {"00404041": element("CS", "UNAVAILABLE")})
    async with websockets.connect(url) as connection:
        assert await next_report(connection) == (other, 1)


async def test_what_was_not_confirmed_comes_again_after_kill_minus_9(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--no-worker") as server, server.client() as client:
        url = subscribed(client, "ME", WORKLIST)
        made = [created(client) for _ in range(5)]
        async with silent(url) as received:
            # A client that never answers a ping: what it was sent may not have arrived.
            while len(received) < 5:
                await asyncio.sleep(0.01)
            server.kill()
        server.start()
        claimed(client)
        async with websockets.connect(url) as connection:
            told = [await next_report(connection) for _ in range(7)]
            assert [uid for uid, _ in told[:5]] == made
            await asyncio.sleep(0)
        server.kill()
        server.start()
        uid = created(client)
        async with websockets.connect(url) as connection:
            last = await next_report(connection)
            while last[0] != uid:
                assert last in told, "only what may not have been confirmed in time comes again"
                last = await next_report(connection)


@asynccontextmanager
async def silent(url: str) -> AsyncIterator[list[bytes]]:
    """A connection that answers nothing; the text frames it has received."""
    address, _, path = url.removeprefix("ws://").partition("/")
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    writer.write(head.encode())
    await reader.readuntil(b"\r\n\r\n")
    received: list[bytes] = []

    async def read() -> None:
        while True:
            first, length = await reader.readexactly(2)
            size = int.from_bytes(await reader.readexactly(2), "big") if length == 126 else length
            content = await reader.readexactly(size)
            if first == 0x81:
                received.append(content)

    reading = asyncio.create_task(read())
    try:
        yield received
    finally:
        reading.cancel()
        writer.close()


async def test_the_owner_is_told_to_cancel(api: httpx.Client) -> None:
    uid = claimed(api)
    url = subscribed(api, a_title(), uid)
    assert send(api, "POST", f"{uid}/cancelrequest", {}).status_code == 400
    async with websockets.connect(url) as connection:
        assert await next_report(connection) == (uid, 1)
        request = {"00741238": element("LT", "why"), "0074100C": element("LO", "Desk")}
        answer = send(api, "POST", f"{uid}/cancelrequest", request)
        assert answer.status_code == 202
        report = json.loads(await connection.recv())
        assert report["00001002"]["Value"] == [2]
        assert {key: report[key] for key in request} == request
    assert send(api, "GET", uid).json()["00741000"]["Value"] == ["IN PROGRESS"]


async def test_a_filter(api: httpx.Client) -> None:
    station = new_uid()[-14:]
    query = (
        f"?filter=ScheduledStationNameCodeSequence.CodeValue={station},ProcedureStepState=SCHEDULED&deletionlock=true"
    )
    url = subscribed(api, a_title(), FILTERED, query)
    async with websockets.connect(url) as connection:
        created(api)
        uid = created(api, t00404025=sequence(make.code(station)))
        assert await next_report(connection) == (uid, 1)


async def test_the_address_of_a_title_with_spaces_is_a_url(api: httpx.Client) -> None:
    uid = created(api)
    url = subscribed(api, "CT%20ROOM%3F1", uid)
    assert url.endswith("/v2/subscribers/CT%20ROOM%3F1")
    async with websockets.connect(url) as connection:
        assert await next_report(connection) == (uid, 1)


async def test_who_connects_again_takes_the_place(api: httpx.Client) -> None:
    url = subscribed(api, a_title(), created(api))
    async with websockets.connect(url) as first:
        await next_report(first)
        async with websockets.connect(url) as second:
            with pytest.raises(websockets.ConnectionClosed):
                async with asyncio.timeout(30):
                    while True:
                        await first.recv()
            assert second.state.name == "OPEN"


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "1.2/subscribers/ME", 404, "The workitem instance is not found."),
        ("POST", "1.x/subscribers/ME", 400, "UID"),
        ("POST", f"{WORKLIST}/subscribers/back%5Cslash", 400, "AE title"),
        ("POST", f"{WORKLIST}/subscribers/longer-than-sixteen", 400, "AE title"),
        ("POST", f"{WORKLIST}/subscribers/ME?deletionlock=perhaps", 400, "deletionlock"),
        ("POST", f"{WORKLIST}/subscribers/ME?filter=PatientID=1", 400, "filter"),
        ("POST", f"{FILTERED}/subscribers/ME", 400, "filter"),
        ("POST", f"{FILTERED}/subscribers/ME?filter=Modality=CT", 400, "Modality"),
        ("POST", f"{FILTERED}/subscribers/ME?filter=PatientID=1,PatientID=2", 400, "twice"),
        ("DELETE", f"{WORKLIST}/subscribers/NOBODY", 404, "no such subscription"),
        ("DELETE", "1.2/subscribers/NOBODY", 404, "no such subscription"),
        ("POST", f"{WORKLIST}/subscribers/NOBODY/suspend", 404, "no such subscription"),
        ("POST", "1.2/subscribers/NOBODY/suspend", 400, "Only subscriptions to the worklist"),
        ("GET", f"{WORKLIST}/subscribers/NOBODY", 400, "WebSocket"),
    ],
)
def test_what_is_refused(api: httpx.Client, method: str, path: str, status: int, said: str) -> None:
    answer = api.request(method, f"/v2/workitems/{path}")
    assert (answer.status_code, said in answer.text) == (status, True), answer.text


async def test_connections_that_are_refused(api: httpx.Client) -> None:
    url = subscribed(api, a_title(), WORKLIST)
    with pytest.raises(websockets.InvalidStatus, match="404"):
        await websockets.connect(url.rpartition("/")[0] + "/NOBODY")
    with pytest.raises(websockets.InvalidStatus, match="403"):
        await websockets.connect(url, origin=websockets.Origin("https://elsewhere.example.com"))
    own = websockets.Origin(str(api.base_url).rstrip("/"))
    async with websockets.connect(url, origin=own) as connection:
        # Whatever a client says, it is not cut off for it.
        await connection.send("hello")
        await connection.ping()
    with pytest.raises(websockets.ConnectionClosed):
        async with websockets.connect(url) as connection:
            await connection.send("x" * 10_000)
            while True:
                await connection.recv()


@pytest.mark.peer
async def test_a_connection_takes_a_token_and_a_role(tmp_path: Path, oidc_provider_process: OidcProvider) -> None:
    def bearer(role: str) -> dict[str, str]:
        return {"authorization": f"Bearer {oidc_provider_process.token(role)}"}

    environment = security(oidc_provider_process.authority, {}, roles=True)
    with running(tmp_path / "data", environment=environment) as server, server.client() as client:
        path = f"/v2/workitems/{WORKLIST}/subscribers/ME"
        assert client.post(path).status_code == 401
        assert client.post(path, headers=bearer("reader")).status_code == 403
        url = client.post(path, headers=bearer("admin")).headers["content-location"]
        for headers, status in (({}, 401), (bearer("nobody"), 403)):
            with pytest.raises(websockets.InvalidStatus, match=str(status)):
                await websockets.connect(url, additional_headers=headers)
        client.headers.update(bearer("admin"))
        async with websockets.connect(url, additional_headers=bearer("reader")) as connection:
            uid = created(client)
            assert await next_report(connection) == (uid, 1)
        assert '"Action":"open-notification-connection"' in server.log()


async def test_the_server_says_that_it_goes(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--no-worker") as server, server.client() as client:
        async with websockets.connect(subscribed(client, "ME", WORKLIST)) as connection:
            created(client)
            await next_report(connection)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            assert await next_report(connection) == (WORKLIST, 4)
            with pytest.raises(websockets.ConnectionClosedOK) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
            assert await stopping == 0
