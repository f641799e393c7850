import base64
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from hounsfield.cli import connection as module
from hounsfield.cli.connection import (
    AnsweredEarly,
    BadAddress,
    Connection,
    ConnectionBroken,
    Patience,
    Server,
    ServerUnreachable,
    Stopped,
)
from tests.cli.dicomweb_server import DicomWebServer, Handler


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://host:8080/v2/", "http://host:8080/v2"),
        (" https://pacs.example.org/dicom-web ", "https://pacs.example.org/dicom-web"),
        ("http://[::1]:8080/v2", "http://[::1]:8080/v2"),
        ("http://host/\r\n", "http://host"),
        ("http://me:secret@host/v2", "http://host/v2"),
    ],
)
def test_base_urls(url: str, kept: str) -> None:
    assert Server.at(url).url == kept


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8080",
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://host/v2?x=1",
        "http://ho st/",
        "http://h/\r\nX: y",
    ],
)
def test_what_is_no_base_url(url: str) -> None:
    with pytest.raises(BadAddress, match="one looks like"):
        Server.at(url)


def test_credentials() -> None:
    assert Server.at("http://h", "abc\n").authorization == "Bearer abc"
    basic = base64.b64encode(b"me:p@ss").decode()
    assert Server.at("http://me:p%40ss@h").authorization == f"Basic {basic}"
    assert Server.at("http://me:p%40ss@h", "abc").authorization == "Bearer abc"
    assert "abc" not in repr(Server.at("http://h", "abc"))
    with pytest.raises(BadAddress, match="HOUNSFIELD_TOKEN") as refused:
        Server.at("http://h", "a\r\nb")
    assert "a\r\nb" not in str(refused.value)


@pytest.fixture
def connection(server: DicomWebServer) -> Iterator[Connection]:
    with Connection(Server.at(server.url, timeout=5)) as opened:
        yield opened


def test_connection_is_kept_and_replaced_when_the_server_closed_it(
    server: DicomWebServer, connection: Connection
) -> None:
    ports: list[int] = []

    def note(handler: Handler) -> bool:
        ports.append(handler.client_address[1])
        if len(ports) == 2:
            handler.close_connection = True  # without telling in a header
        return handler.answer(200, b"fine")

    server.interfere = note
    for _ in range(4):
        assert connection.ask("GET", "/x", {}).body == b"fine"
        time.sleep(0.05)
    assert ports[0] == ports[1] != ports[2] == ports[3]


def test_timeout_is_a_broken_connection(server: DicomWebServer) -> None:
    release = threading.Event()
    server.interfere = lambda handler: release.wait(10)
    with (
        Connection(Server(server.url, timeout=0.2)) as slow,
        pytest.raises(ConnectionBroken, match="no answer in time"),
    ):
        slow.ask("GET", "/", {})
    release.set()


def test_answer_that_ends_early_is_a_broken_connection(server: DicomWebServer, connection: Connection) -> None:
    def cut(handler: Handler) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        handler.close_connection = True
        return True

    server.interfere = cut
    with pytest.raises(ConnectionBroken, match="ended early"):
        connection.ask("GET", "/", {})


def test_answer_before_the_end_of_the_body_is_read(server: DicomWebServer, connection: Connection) -> None:
    def send(sock: socket.socket) -> None:
        sock.sendall(b"beginning")
        raise AnsweredEarly

    server.interfere = lambda handler: handler.answer(401, b"Who are you?")
    answer = connection.ask("POST", "/studies", {"Content-Length": "1000000"}, send)
    assert (answer.status, answer.sentence) == (401, "Who are you?")
    assert connection.ask("GET", "/", {}).status == 401, "on a new connection"


def test_unknown_name_and_closed_port_are_unreachable() -> None:
    for url in ("http://127.0.0.1:1", "http://no-such-host.invalid"):
        with pytest.raises(ServerUnreachable, match="Check that the server is running"):
            Connection(Server.at(url)).ask("GET", "/", {})


def test_plain_server_behind_https_is_unreachable(server: DicomWebServer) -> None:
    with pytest.raises(ServerUnreachable):
        Connection(Server.at(server.url.replace("http:", "https:"))).connect()


@pytest.mark.parametrize(
    ("body", "content_type", "sentence"),
    [
        (b"The study is unknown.", "text/plain", "The study is unknown."),
        (b'{"error": {"code": "x", "message": "No such version."}}', "application/json", "No such version."),
        (b'{"message": "No."}', "application/json", "No."),
        (b'{"other": 1}', "application/json", ""),
        (b"<html>lots</html>", "text/html", ""),
        (b"\x1b[2Jcleared", "text/plain", "\ufffd[2Jcleared"),
        (b"x" * 9000, "text/plain", "x" * 500 + "…"),
    ],
)
def test_sentences(
    server: DicomWebServer, connection: Connection, body: bytes, content_type: str, sentence: str
) -> None:
    server.interfere = lambda handler: handler.answer(400, body, content_type)
    assert connection.ask("GET", "/", {}).sentence == sentence


def test_patience_waits_as_asked_and_ends(server: DicomWebServer, connection: Connection) -> None:
    waits: list[float] = []

    class Impatient(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return False

    after = iter(["7", formatdate(time.time() + 100, usegmt=True), "nonsense", "99999", "-5", ""])
    server.interfere = lambda handler: handler.answer(503, b"", Retry_After=next(after))
    notes: list[str] = []
    answer = Patience(5, Impatient(), notes.append).try_until_answered(lambda: connection.ask("GET", "/", {}))
    assert answer.status == 503
    assert waits[0] == 7
    assert 95 < waits[1] <= 100
    assert 1.5 < waits[2] < 2.5, "the third wait of its own: 2 s, give or take"
    assert waits[3] == module.LONGEST_WAIT
    assert 6 < waits[4] < 10
    assert len(notes) == 5
    assert notes[0] == "The server is busy (HTTP 503). Trying again in 7.0 s"


def test_stop_ends_a_wait() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        Patience(9, stop).pause("Busy.", 1, asked=60)
    assert time.monotonic() - began < 5


def test_proxy_of_the_environment_is_used_except_for_this_machine(
    server: DicomWebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.interfere = lambda handler: handler.answer(200, handler.path.encode())
    monkeypatch.setenv("http_proxy", f"http://me:pw@127.0.0.1:{server.server_address[1]}")
    with Connection(Server.at("http://pacs.invalid/v2")) as through:
        assert through.ask("GET", "/studies", {}).body == b"http://pacs.invalid/v2/studies"
    assert server.requests[0][2]["Proxy-Authorization"].startswith("Basic ")
    with Connection(Server.at(server.url)) as direct:
        assert direct.ask("GET", "/studies", {}).body == b"/v2/studies"
    monkeypatch.setenv("no_proxy", "pacs.invalid")
    with pytest.raises(ServerUnreachable), Connection(Server.at("http://pacs.invalid/v2")) as past:
        past.ask("GET", "/studies", {})
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(BadAddress, match="https_proxy"):
        Connection(Server.at("https://pacs.example.org"))
