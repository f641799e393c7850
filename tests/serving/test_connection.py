"""Requests over real sockets against a small application: RFC 9112, and what clients get wrong."""

import asyncio
import contextlib
import gc
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.serving import connection, process
from hounsfield.serving.head import MAX_HEAD_BYTES
from hounsfield.serving.output import TAKEN_TOGETHER
from tests.serving.application import PARTS, Client, Echo, Running, running

GET = b"GET /a%20b?c=%3d&d HTTP/1.1\r\nHost: h\r\nX-One: 1\r\n\r\n"


def post(body: bytes, *, path: bytes = b"/", more: bytes = b"") -> bytes:
    """A request with a Content-Length."""
    return b"POST %b HTTP/1.1\r\nHost: h\r\n%bContent-Length: %d\r\n\r\n%b" % (path, more, len(body), body)


def chunked(pieces: list[bytes], *, end: bytes = b"0\r\n\r\n") -> bytes:
    """A request in chunks."""
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


async def ask(client: Client, request: bytes) -> Any:
    """What the application was asked, by its answer."""
    await client.send(request)
    status, _, body = await client.response()
    assert status == 200
    return json.loads(body)


async def test_what_the_application_is_asked() -> None:
    async with running(Echo()) as server:
        client = await server.connect()
        said = await ask(client, GET)
        assert said == {
            "method": "GET",
            "path": "/a b",
            "raw": "/a%20b",
            "query": "c=%3d&d",
            "version": "1.1",
            "headers": [["host", "h"], ["x-one", "1"]],
            "body": "",
        }
        assert (await ask(client, b"\r\nOPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"))["path"] == "*"
        assert (await ask(client, b"GET http://other:1/x?y HTTP/1.1\r\nHost: h\r\n\r\n"))["path"] == "/x"
        assert (await ask(client, b"GET /%ff%2f HTTP/1.1\r\nHost: h\r\n\r\n"))["path"] == "/\ufffd/"
        assert (await ask(client, b"GET /?<x HTTP/1.1\r\nHost: h\r\n\r\n"))["query"] == "<x"
        upgrade = await ask(client, b"GET /u HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert upgrade["path"] == "/u"
        assert await client.rest() == b""


async def test_the_answers_of_one_connection() -> None:
    async with running(Echo()) as server:
        client = await server.connect()
        await client.send(GET + post(b"first") + GET + chunked([b"sec", b"ond"]))
        bodies = [json.loads((await client.response())[2])["body"] for _ in range(4)]
        assert bodies == ["", "first", "", "second"]
        await client.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" + GET)
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: " in head
        assert (await client.response())[0] == 200
        await client.send(b"GET /bodiless HTTP/1.1\r\nHost: h\r\n\r\n" + GET)
        assert (await client.response())[::2] == (204, b"")
        assert (await client.response())[0] == 200
        await client.close()
        await server.idle()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_however_requests_are_cut(data: st.DataObject) -> None:
    bodies = data.draw(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
    in_chunks = data.draw(st.lists(st.booleans(), min_size=len(bodies), max_size=len(bodies)))
    # What follows a chunked body in the same piece is not read (see has_surplus), so that only comes last.
    stream = b"".join(post(body) for body, chunks in zip(bodies, in_chunks, strict=True) if not chunks)
    expected = [body for body, chunks in zip(bodies, in_chunks, strict=True) if not chunks]
    if any(in_chunks):
        pieces = [body for body, chunks in zip(bodies, in_chunks, strict=True) if chunks and body]
        stream += chunked(pieces)
        expected.append(b"".join(pieces))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    echo = Echo()

    async def run() -> None:
        async with running(echo) as server:
            client = await server.connect()
            for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
                await client.send(stream[start:end])
                await asyncio.sleep(0)
            for body in expected:
                assert json.loads((await client.response())[2])["body"].encode("latin-1") == body
            await client.close()
            await server.idle()

    asyncio.run(run())
    assert echo.bodies == expected


async def test_bodies_of_every_size_arrive_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    echo = Echo()
    async with running(echo) as server:
        client = await server.connect()
        for size in (1, 65_000, 300_000, connection.WHOLE_BODY, connection.WHOLE_BODY + 1, 5_000_001):
            body = os.urandom(size)
            await client.send(post(body, path=b"/watchless"))
            assert (await client.response())[0] == 200
            assert echo.bodies.pop() == body
        assert connection.WHOLE_BODY in echo.chunk_sizes
        assert max(echo.chunk_sizes) == connection.WHOLE_BODY
        assert server.serving.body_room == process.BODY_BYTES


async def test_many_slow_bodies_take_little_memory() -> None:
    """Announcing a body must not be enough to have room made for it, again and again."""
    async with running(Echo()) as server:
        clients = [await server.connect() for _ in range(100)]
        for client in clients:
            await client.send(post(b"x" * connection.WHOLE_BODY)[:1000])
        await asyncio.sleep(0.3)
        assert server.serving.body_room > -100 * connection.SMALL_CHUNK
        for client in clients:
            await client.close()
        await server.idle()
        assert server.serving.body_room == process.BODY_BYTES


async def test_a_trickle_is_handed_over_without_waiting_for_a_whole_piece() -> None:
    echo = Echo()
    async with running(echo) as server:
        client = await server.connect()
        body = b"0123456789"
        request = post(body)
        await client.send(request[:-9])
        for at in range(9):
            await asyncio.sleep(2 * connection.FLUSH_SECONDS if at % 3 == 0 else 0)
            await client.send(request[len(request) - 9 + at : len(request) - 8 + at])
        assert (await client.response())[0] == 200
        assert echo.bodies == [body]
        assert len(echo.chunk_sizes) >= 2


async def test_a_client_that_waits_to_be_told() -> None:
    async with running(Echo()) as server:
        client = await server.connect()
        head, _, body = post(b"content", more=b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")
        await client.send(head + b"\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(body)
        assert json.loads((await client.response())[2])["body"] == "content"
        refused = post(b"", path=b"/early", more=b"Expect: 100-continue\r\n").replace(b"Length: 0", b"Length: 99")
        await client.send(refused)
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (413, "close")
        assert await client.rest() == b""


async def test_an_answer_before_the_body_has_come() -> None:
    async with running(Echo()) as server:
        client = await server.connect()
        small = post(b"x" * 100_000, path=b"/early")
        await client.send(small[:500])
        assert (await client.response())[0] == 413
        await client.send(small[500:])
        assert (await ask(client, GET))["path"] == "/a b"
        # One that goes on for long gets its answer, and the connection ends.
        await client.send(post(b"", path=b"/early").replace(b"Length: 0", b"Length: 9000000000"))
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (413, "close")
        await client.send(bytes(1 << 20))
        assert await client.rest() == b""
        await client.close()
        await server.idle()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 501),
        (b"GET /\r\n\r\n", 505),
        (b"\x16\x03\x01", 400),
        (b"GET / HTTP/1.1\nHost: h\n\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b'GET / HTTP/1.1\r\nHost: a"b\r\n\r\n', 400),
        (b"GET / HTTP/1.1\r\nHost: a:80:90\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n", 400),
        (b"GET elsewhere HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"NONSENSE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (post(b"").replace(b"Length: 0", b"Length: -1"), 400),
        (post(b"").replace(b"Length: 0", b"Length: 5\r\nContent-Length: 6"), 400),
        (post(b"", more=b"Transfer-Encoding: chunked\r\n"), 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: h\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 201 + b"\r\n", 431),
    ],
)
async def test_what_is_refused(request_bytes: bytes, status: int) -> None:
    echo = Echo()
    async with running(echo) as server:
        answer = await server.exchange(request_bytes)
        assert int(answer.split(b" ")[1]) == status
        assert b"connection: close" in answer
        assert echo.bodies == []
        await server.idle()


@pytest.mark.parametrize(
    "host", [b"", b"a", b"A_b-c.example:8080", b"[::1]:80", b"127.0.0.1:", b"xn--bcher-kva.example  "]
)
async def test_hosts_there_may_be(host: bytes) -> None:
    async with running(Echo()) as server:
        answer = await server.exchange(b"GET / HTTP/1.1\r\nConnection: close\r\nHost: " + host + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        await server.idle()


@pytest.mark.parametrize(
    "body", [b"zz\r\nx\r\n0\r\n\r\n", b"5\r\nab\r\n0\r\n\r\n", b"ffffffffffffffffff\r\nx", b"-1\r\n"]
)
async def test_chunks_that_are_none(body: bytes) -> None:
    """The application is told that the rest will not come, and can still answer."""
    echo = Echo()
    async with running(echo) as server:
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await server.exchange(head + body)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert echo.bodies == []
        assert echo.cut_off == 1


async def test_chunk_extensions_and_trailers_do_not_go_on_for_ever() -> None:
    async with running(Echo()) as server:
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await server.exchange(head + b"1;" + b"x" * 2_000_000)
        assert answer[:13] in (b"", b"HTTP/1.1 400 ")
        small = b"".join(b"1\r\n%c\r\n" % byte for byte in bytes(range(33, 123)) * 2000)
        client = await server.connect()
        assert len((await ask(client, head + small + b"0\r\n\r\n"))["body"]) == 90 * 2000
        ordinary = b'1;name="value"\r\nx\r\n0\r\nX-Trailer: y\r\n\r\n'
        client = await server.connect()
        assert (await ask(client, head + ordinary))["body"] == "x"


async def test_what_follows_a_chunked_body_in_one_piece_is_not_taken_for_a_request() -> None:
    echo = Echo()
    async with running(echo) as server:
        answer = await server.exchange(chunked([b"body"]) + GET)
        assert answer.count(b"HTTP/1.1 200") == 1
        assert echo.bodies == [b"body"]


async def test_old_clients() -> None:
    async with running(Echo()) as server:
        answer = await server.exchange(b"GET /chunks HTTP/1.0\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert body == b"one" + b"two" * 10_000 + b"three"
        client = await server.connect()
        await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert (await client.response())[1]["connection"] == "keep-alive"
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.response())[1]["connection"] == "close"
        assert await client.rest() == b""


async def test_an_answer_of_unknown_length() -> None:
    async with running(Echo()) as server:
        client = await server.connect()
        await client.send(b"GET /chunks HTTP/1.1\r\nHost: h\r\n\r\n")
        _, headers, body = await client.response()
        assert headers["transfer-encoding"] == "chunked"
        assert body == b"one" + b"two" * 10_000 + b"three"
        assert "date" in headers


@pytest.mark.parametrize("path", [b"/file", b"/file/length"])
@pytest.mark.parametrize("size", [10, 70_000, 9_000_000])
async def test_files_are_sent_by_the_kernel(tmp_path: Path, size: int, path: bytes) -> None:
    file = tmp_path / "file"
    content = os.urandom(size)
    file.write_bytes(content)
    async with running(Echo(file)) as server:
        client = await server.connect()
        for _ in range(3):
            await client.send(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
            status, _, body = await client.response()
            assert status == 200
            assert body == b"head" + content + content[-10:]
        await client.send(b"HEAD /file/length HTTP/1.1\r\nHost: h\r\n\r\n" + GET)
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"content-length: %d" % (size + 14) in head
        assert (await client.response())[0] == 200


@pytest.mark.parametrize("path", [b"/files", b"/files/length"])
@pytest.mark.parametrize("size", [1, 70_000, 700_000, 1_500_000])
async def test_files_one_behind_the_other(tmp_path: Path, size: int, path: bytes) -> None:
    file = tmp_path / "file"
    content = os.urandom(size)
    file.write_bytes(content)
    expected = b"".join(b"%03d%b" % (number, content) for number in range(PARTS)) + b"end"
    async with running(Echo(file)) as server:
        client = await server.connect()
        for _ in range(2):
            await client.send(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
            status, _, body = await client.response()
            assert (status, body) == (200, expected)
        await client.send(b"HEAD %b HTTP/1.1\r\nHost: h\r\n\r\n" % path + GET)
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await client.response())[0] == 200
        answer = await server.exchange(b"GET %b HTTP/1.0\r\n\r\n" % path)
        assert answer.partition(b"\r\n\r\n")[2] == expected


async def test_files_are_opened_as_the_client_takes_them(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(1_000_000))
    echo = Echo(file)
    async with running(echo) as server:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
            await asyncio.get_running_loop().sock_sendall(sock, b"GET /files HTTP/1.1\r\nHost: h\r\n\r\n")
            async with asyncio.timeout(10):
                while not echo.opened:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert echo.opened <= (6 << 20) // 1_000_000 + 2 * TAKEN_TOGETHER  # what the kernel holds, and some more
        await server.idle()


async def test_a_file_that_is_gone_ends_the_connection(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(100_000))
    async with running(Echo(file)) as server:
        answer = await server.exchange(b"GET /files/gone HTTP/1.1\r\nHost: h\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert not answer.endswith(b"0\r\n\r\n")
        assert 100_000 < len(answer) < PARTS // 2 * 100_100
        await server.idle()


async def test_applications_that_break() -> None:
    async with running(Echo()) as server:
        for path in (b"/fail", b"/silent", b"/injected", b"/short"):
            answer = await server.exchange(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
            assert answer.startswith(b"HTTP/1.1 500 "), path
            assert b"secret" not in answer
            assert b"set-cookie" not in answer
        answer = await server.exchange(b"GET /fail/late HTTP/1.1\r\nHost: h\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert not answer.endswith(b"0\r\n\r\n")
        await server.idle()


async def test_clients_that_go_away_leave_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(3_000_000))
    echo = Echo(file)
    requests = [
        post(b"x" * 200_000, path=b"/watch"),
        b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /file HTTP/1.1\r\nHost: h\r\n\r\n",
        chunked([b"y" * 1000] * 20),
        GET * 3,
    ]
    async with running(echo) as server:
        first = await server.connect()
        await ask(first, GET)
        await first.close()
        await server.idle()
        before, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
        for number in range(200):
            request = requests[number % len(requests)]
            client = await server.connect()
            await client.send(request[: len(request) * (number % 7 + 1) // 7])
            if number % 3:
                with contextlib.suppress(TimeoutError):  # what was not asked whole is not answered
                    async with asyncio.timeout(0.02):
                        await client.reader.read(1 << (number % 18))
            client.reset() if number % 2 else await client.close()
        await server.idle()
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > tasks:
                await asyncio.sleep(0.01)
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before
        assert server.serving.body_room == process.BODY_BYTES
        assert echo.disconnects > 0


@pytest.mark.parametrize("sent", [b"GET /a", GET, post(b"0123456789", path=b"/watch")[:-5], b""])
def test_a_reset_is_noticed_at_once(sent: bytes) -> None:
    """With the event loop that serves; it reports an error of a socket once, and then never again."""
    echo = Echo()

    async def run() -> None:
        async with running(echo) as server:
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", server.port)) as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.sendall(sent)
                await asyncio.sleep(0)
            await server.idle()

    uvloop.run(run())


async def test_clients_that_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "CLOCK_SECONDS", 1)
    for name in ("HEAD_SECONDS", "IDLE_SECONDS", "STALL_SECONDS"):
        monkeypatch.setattr(connection, name, 0.2)
    echo = Echo()
    async with running(echo) as server:
        slow_head = await server.connect()
        await slow_head.send(GET[:10])
        idle = await server.connect()
        slow_body = await server.connect()
        await slow_body.send(post(b"0123456789")[:-5])
        slow_reader = await server.connect()
        await slow_reader.send(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await slow_head.rest()).startswith(b"HTTP/1.1 408 ")
        assert await idle.rest() == b""
        assert (await slow_body.response())[0] == 400
        await server.idle()
        assert echo.disconnects == 1


async def test_bodies_that_trickle_in_end_those_that_come_slowly_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "CLOCK_SECONDS", 1)
    monkeypatch.setattr(connection, "STALL_SECONDS", 1.5)
    echo = Echo()
    async with running(echo) as server:
        trickling, slow = await server.connect(), await server.connect()
        await trickling.send(post(bytes(5_000))[:-5_000])
        await slow.send(post(bytes(5_000))[:-5_000])
        for _ in range(50):  # 10 and 1,000 bytes a second
            await trickling.send(b"x")
            await slow.send(bytes(100))
            await asyncio.sleep(0.1)
        assert echo.cut_off == 1
        assert (await trickling.response())[0] == 400
        assert (await slow.response())[0] == 200
        assert [len(body) for body in echo.bodies] == [5_000]


async def test_stopping_lets_answers_finish() -> None:
    echo = Echo()
    async with running(echo) as server:
        waiting, idle = await server.connect(), await server.connect()
        await waiting.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.sleep(0.05)
        server.stop.set()
        assert await idle.rest() == b""
        echo.release.set()
        status, headers, body = await waiting.response()
        assert (status, headers["connection"], body) == (200, "close", b"released")
        await server.idle()
        with pytest.raises(ConnectionError):
            await server.connect()
    assert echo.events == ["startup", "shutdown"]


async def test_stopping_does_not_wait_for_ever() -> None:
    server = Running(Echo())
    server.drain_seconds = 0.1
    task = asyncio.create_task(server.serving.run(server.stop, server.drain_seconds))
    client = await server.connect()
    await client.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    await asyncio.sleep(0.05)
    server.stop.set()
    async with asyncio.timeout(5):
        await task
        assert await client.rest() == b""
    await client.close()


UPGRADE = b"GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols"


@pytest.mark.parametrize("stops", [False, True])
async def test_another_protocol_than_http(stops: bool) -> None:
    async with running(Echo()) as server:
        client = await server.connect()
        await client.send(UPGRADE + b"at once")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(SWITCHED)
        assert b"upgrade: echo\r\n" in head
        assert b"connection: close" not in head.lower()
        assert b"transfer-encoding" not in head.lower()
        assert await client.reader.readexactly(9) == b"<at once>"
        for _ in range(5):
            await client.send(b"x" * 100)
            # At once, and not when the kernel thinks that enough has come together.
            async with asyncio.timeout(0.15):
                assert await client.reader.readexactly(102) == b"<" + b"x" * 100 + b">"
        if stops:
            server.stop.set()
        else:
            await client.send(b"end")
        assert await client.rest() == b"bye"
        await server.idle()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /upgrade HTTP/1.1\r\nHost: h\r\n\r\n",
        UPGRADE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nab"),
    ],
)
async def test_nothing_is_upgraded_unasked(request_: bytes) -> None:
    async with running(Echo()) as server:
        client = await server.connect()
        await client.send(request_)
        status, _, body = await client.response()
        assert (status, body) == (400, b"no upgrade")


async def test_connections_go_to_the_process_that_has_fewer() -> None:
    """Two accept from one socket; whoever has more leaves the next to the other."""
    counts = [0, 0]
    first = Running(Echo())
    servers = [process.Serving(Echo(), first.listener.dup(), counts, slot) for slot in range(2)]
    stop = asyncio.Event()
    tasks = [asyncio.create_task(serving.run(stop, 1)) for serving in servers]
    clients = []
    for number in range(8):
        clients.append(await first.connect())
        await asyncio.sleep(0.01)
        assert abs(counts[0] - counts[1]) <= 1
        assert sum(counts) == number + 1
    # A process that does not answer is not waited for any longer.
    counts[0] = -1_000_000
    servers[0]._accept_off()
    clients.append(await first.connect())
    assert (await ask(clients[-1], GET))["path"] == "/a b"
    for client in clients:
        await client.close()
    stop.set()
    first.listener.close()
    await asyncio.gather(*tasks)


async def test_a_process_that_has_many_more_is_more_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "YIELD_SECONDS", 0.05)
    counts = [0, 0]
    first = Running(Echo())
    late, other = (process.Serving(Echo(), first.listener.dup(), counts, slot) for slot in range(2))
    stop = asyncio.Event()
    tasks = [asyncio.create_task(serving.run(stop, 1)) for serving in (late, other)]
    await asyncio.sleep(0.1)
    late._accept_off()
    clients = [await first.connect() for _ in range(3)]
    async with asyncio.timeout(10):
        while len(other.connections) < 3:
            await asyncio.sleep(0.01)
    clients.append(await first.connect())
    await asyncio.sleep(2 * process.YIELD_SECONDS * process.YIELDS)
    assert counts == [0, 3]
    late._accept_on()
    assert (await ask(clients[3], GET))["path"] == "/a b"
    assert counts == [1, 3]
    for client in clients:
        await client.close()
    stop.set()
    first.listener.close()
    await asyncio.gather(*tasks)
