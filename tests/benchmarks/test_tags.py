import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks import lookups, tags
from benchmarks.load import WrongAnswer
from benchmarks.population import Population
from benchmarks.servers import Server
from benchmarks.tags import Reindex
from benchmarks.wire import Base

PEOPLE = Population(1, 20, 200)


class Fake(ThreadingHTTPServer):
    """Stores everything, and is done with a tag after it was asked four times."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.per_cent = [0, 25, 50, 75]
        self.final = "succeeded"
        self.found = PEOPLE.all[0].instances
        self.added: object = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Fake

    def answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/extendedquerytags":
            self.server.added = json.loads(body)
            self.answer(202, {"id": "abc", "href": ""})
            return
        # SOPInstanceUID of the only instance: the element, its length, its value.
        at = body.index(b"\x08\x00\x18\x00UI") + 6
        length = int.from_bytes(body[at : at + 2], "little")
        uid = body[at + 2 : at + 2 + length].rstrip(b"\0").decode()
        self.answer(200, {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}}]}})

    def do_GET(self) -> None:
        if self.path == "/operations/abc":
            if self.server.per_cent:
                self.answer(202, {"status": "running", "percentComplete": self.server.per_cent.pop(0)})
            else:
                self.answer(200, {"status": self.server.final, "percentComplete": 100})
        else:
            self.answer(200, [{lookups.INSTANCE: {}}] * self.server.found)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setattr(tags, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(tags, "STORED", 1_000)
    with Fake() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def measured(fake: Fake) -> Reindex:
    return tags.measure(Server("fake", Base("127.0.0.1", fake.server_address[1], ""), list, ""), PEOPLE, 0.05)


def test_stores_go_on_beside_the_tag(fake: Fake) -> None:
    found = measured(fake)
    assert fake.added == [tags.TAG]
    assert [percent for _, percent in found.progress] == [0, 25, 50, 75]
    assert found.alone
    assert found.beside
    assert found.seconds > 0.08
    assert "**2,000 a second**; the operation told 2" in tags.tell(
        Reindex(200, 0.1, [0.01], [0.02], [(0, 0), (1, 9)], 0.1)
    )
    assert "| ÷ | **2.00** | **2.00** |" in tags.tell(Reindex(200, 0.1, [0.01], [0.02], [], 0.0))


def test_progress_must_not_go_back(fake: Fake) -> None:
    fake.per_cent = [0, 50, 25]
    with pytest.raises(WrongAnswer, match="went back"):
        measured(fake)


def test_a_tag_that_fails_or_finds_too_little_is_told(fake: Fake) -> None:
    fake.found -= 1
    with pytest.raises(WrongAnswer, match="the tag finds"):
        measured(fake)
    fake.final = "failed"
    with pytest.raises(WrongAnswer, match="is failed"):
        measured(fake)
