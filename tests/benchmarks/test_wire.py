import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks.wire import RECEIVE_BYTES, SAMPLE_BYTES, Base, Connection, WireError

Serve = Callable[..., Base]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that answers the requests of each connection with the given bytes, then closes it."""
    listeners: list[socket.socket] = []

    def start(*connections: list[bytes]) -> Base:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            for answers in connections:
                link, _ = listener.accept()
                with link:
                    for answer in answers:
                        request = b""
                        while not request.endswith(b"\r\n\r\n"):
                            request += link.recv(65536)
                        link.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        return Base("127.0.0.1", listener.getsockname()[1], "/root")

    yield start
    for listener in listeners:
        listener.close()


def ask(base: Base, whole: bool = True) -> tuple[int, bytes, int]:
    with Connection(base) as connection:
        answer = connection.exchange([base.get("/x", "*/*")], whole)
    return answer.status, bytes(answer.body), answer.length


def test_a_body_of_known_length(serve: Serve) -> None:
    assert ask(serve([b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc"])) == (404, b"abc", 3)


def test_a_body_in_chunks(serve: Serve) -> None:
    big = b"x" * (3 * RECEIVE_BYTES)
    chunks = b"3;note=1\r\nabc\r\n%x\r\n%s\r\n0\r\nTrailer: 1\r\n\r\n" % (len(big), big)
    base = serve([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks])
    assert ask(base) == (200, b"abc" + big, 3 + len(big))


def test_many_small_chunks_behind_each_other(serve: Serve) -> None:
    chunks = b"".join(b"5\r\n%05d\r\n" % number for number in range(100_000)) + b"0\r\n\r\n"
    base = serve([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks])
    status, body, length = ask(base)
    assert (status, length) == (200, 500_000)
    assert body == b"".join(b"%05d" % number for number in range(100_000))


def test_a_body_up_to_the_end_of_the_connection(serve: Serve) -> None:
    assert ask(serve([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"])) == (200, b"abc", 3)


@pytest.mark.parametrize("length", [b"Content-Length: 3", b"content-length:3", b"CONTENT-LENGTH: \t3 "])
def test_headers_are_written_in_many_ways(serve: Serve, length: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-Note: content-length: 1\r\n%b\r\nEmpty:\r\n\r\nabc" % length
    with Connection(serve([answer])) as connection:
        found = connection.exchange([connection.base.get("/x", "*/*")], whole=True)
    assert found.body == b"abc"
    assert found.headers == {"x-note": "content-length: 1", "content-length": "3", "empty": ""}


def test_a_connection_that_is_to_be_closed_is(serve: Serve) -> None:
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nconnection: Close\r\n\r\na"
    base = serve([first], [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb"])
    with Connection(base) as connection:
        assert [connection.exchange([base.get("/x", "*/*")], whole=True).body for _ in range(2)] == [b"a", b"b"]


def test_an_answer_without_body(serve: Serve) -> None:
    assert ask(serve([b"HTTP/1.1 204 No Content\r\n\r\n"])) == (204, b"", 0)


def test_not_modified_has_no_body_and_leaves_the_connection_open(serve: Serve) -> None:
    unchanged = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"
    base = serve([unchanged, b"HTTP/1.1 304 Not Modified\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])
    with Connection(base) as connection:
        found = [connection.exchange([base.get("/x", "*/*")], whole=True) for _ in range(3)]
    assert [(answer.status, answer.body) for answer in found] == [(304, b""), (304, b""), (200, b"ok")]


def test_the_first_byte_of_a_body_is_told_before_the_last() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    base = Base("127.0.0.1", listener.getsockname()[1], "")
    told = threading.Event()
    before: list[bool] = []

    def run() -> None:
        link, _ = listener.accept()
        with link:
            link.recv(65536)
            link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            before.append(told.wait(0.1))
            link.sendall(b"a")
            before.append(told.wait(10))
            link.sendall(b"b")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with listener, Connection(base) as connection:
        answer = connection.exchange([base.get("/", "*/*")], whole=True, begun=told.set)
        thread.join()
    assert answer.body == b"ab"
    assert before == [False, True]


def test_requests_may_have_one_more_header() -> None:
    base = Base("h", 80, "/root")
    assert base.get("/x", "a/b") == b"GET /root/x HTTP/1.1\r\nHost: h:80\r\nAccept: a/b\r\n\r\n"
    assert base.get("/x", "a/b", "Range: bytes=0-1").endswith(b"Accept: a/b\r\nRange: bytes=0-1\r\n\r\n")


def test_an_interim_answer_is_skipped(serve: Serve) -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert ask(serve([answer])) == (200, b"", 0)


def test_only_the_beginning_is_kept_unless_asked(serve: Serve) -> None:
    body = bytes(range(256)) * 4096
    base = serve([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)])
    assert ask(base, whole=False) == (200, body[:SAMPLE_BYTES], len(body))


def test_a_closed_connection_is_opened_again(serve: Serve) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    base = serve([answer + b"aa", answer + b"bb"], [answer + b"cc"])
    with Connection(base) as connection:
        found = []
        for _ in range(3):
            found.append(connection.exchange([base.get("/x", "*/*")], whole=True).body)
            threading.Event().wait(0.05)  # the server closes after its last answer
    assert found == [b"aa", b"bb", b"cc"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (2 * SAMPLE_BYTES),
    ],
)
def test_a_broken_answer_is_an_error(serve: Serve, answer: bytes) -> None:
    with pytest.raises(WireError):
        ask(serve([answer]))


def test_requests_in_many_buffers_arrive_in_order() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    base = Base("127.0.0.1", listener.getsockname()[1], "")
    pieces = [b"%06d" % number for number in range(5000)] + [b"y" * 3_000_000, b"end"]
    received = bytearray()

    def run() -> None:
        link, _ = listener.accept()
        with link:
            while not received.endswith(b"end"):
                received.extend(link.recv(1 << 20))
            link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    head = base.post("/studies", "text/plain", "*/*", sum(map(len, pieces)))
    with listener, Connection(base) as connection:
        assert connection.exchange([head, *pieces]).status == 200
        thread.join()
    assert bytes(received) == head + b"".join(pieces)


def test_base_urls() -> None:
    base = Base.parse("http://localhost:8080/v2/")
    assert (base.host, base.port, base.root) == ("localhost", 8080, "/v2")
    assert Base.parse("http://example.org").port == 80
    for url in ("https://localhost/", "localhost:80", "http://localhost/?a=b"):
        with pytest.raises(ValueError, match="base URL"):
            Base.parse(url)
