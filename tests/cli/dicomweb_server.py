"""A small DICOMweb server over real sockets, written against the standard only, that can be told to misbehave."""

import io
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydicom import dcmread

Key = tuple[str, str, str]
Interference = Callable[["Handler"], bool]


class DicomWebServer(ThreadingHTTPServer):
    """Keeps instances in memory under (study, series, instance)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.instances: dict[Key, bytes] = {}
        self.rejected: dict[str, int] = {}
        self.warned: set[str] = set()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.interfere: Interference = lambda handler: False
        self.page = 200
        self.modern = False
        """Whether searches have cursors and counts; both are refused otherwise."""
        self.documents: dict[str, tuple[int, Any]] = {}
        self.lock = threading.Lock()
        self.connections: set[Any] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.root}/v2"

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self.connections.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            connection.close()

    def counted(self, method: str, path: str = "") -> int:
        return sum(one == method and path in target for one, target, _ in self.requests)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: DicomWebServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        with self.server.lock:
            self.server.requests.append((self.command, self.path, dict(self.headers)))
        if self.server.interfere(self):
            return
        path = urllib.parse.urlsplit(self.path).path
        if path in self.server.documents:
            status, content = self.server.documents[path]
            self.answer(status, b"" if content is None else json.dumps(content).encode(), "application/json")
        elif self.command == "POST" and path == "/v2/studies":
            self._store(self.rfile.read(int(self.headers["Content-Length"])))
        elif self.command == "GET" and path.startswith("/v2/"):
            *levels, last = path.removeprefix("/v2/").split("/")
            if last in ("studies", "series", "instances"):
                self._search(levels, last)
            else:
                self._retrieve([*levels, last][1::2])
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes, content_type: str = "text/plain", **headers: str) -> bool:
        """Sends the whole answer; always true, so that an interference can end with it."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        return True

    def parts(self, body: bytes) -> Iterator[bytes]:
        boundary = self.headers["Content-Type"].rpartition("boundary=")[2].strip('"').encode()
        for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            assert head.strip().lower() == b"content-type: application/dicom"
            yield content

    def _store(self, body: bytes) -> None:
        stored: list[Any] = []
        failed: list[Any] = []
        for content in self.parts(body):
            try:
                dataset = dcmread(io.BytesIO(content), stop_before_pixels=True)
                key = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
            except Exception:
                failed.append({"00081197": {"vr": "US", "Value": [43264]}})
                continue
            item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [key[2]]}}
            with self.server.lock:
                reason = self.server.rejected.get(key[2]) or (45070 if key in self.server.instances else None)
                if reason:
                    comment = {"00000902": {"vr": "LO", "Value": ["DICOM100: (0010,0020) - missing"]}}
                    item["00081197"] = {"vr": "US", "Value": [reason]}
                    item["00741048"] = {"vr": "SQ", "Value": [comment]}
                    failed.append(item)
                    continue
                self.server.instances[key] = content
            if key[2] in self.server.warned:
                item["00081196"] = {"vr": "US", "Value": [45063]}
            stored.append(item)
        answer = {}
        if failed:
            answer["00081198"] = {"vr": "SQ", "Value": failed}
        if stored:
            answer["00081199"] = {"vr": "SQ", "Value": stored}
        status = 409 if not stored else 202 if failed else 200
        self.answer(status, json.dumps(answer).encode(), "application/dicom+json")

    def _selected(self, uids: list[str]) -> list[Key]:
        return [key for key in self.server.instances if list(key[: len(uids)]) == uids]

    def _search(self, levels: list[str], wanted: str) -> None:
        asked = urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True)
        known = ["limit", "offset", "fuzzymatching"] + (["cursor", "count"] if self.server.modern else [])
        special = {name: value for name, value in asked if name in known}
        filters = [(name, value) for name, value in asked if name not in (*special, "includefield")]
        if any(value == "<" for _, value in filters):
            self.answer(400, b"The query parameter 'Refused' is invalid.\x1b[31m")
            return
        if any(name in ("cursor", "count") for name, _ in filters):
            self.answer(400, b"The query parameter 'cursor' is invalid.")
            return
        depth = {"studies": 1, "series": 2, "instances": 3}[wanted]
        found: dict[tuple[str, ...], Any] = {}
        for key in self._selected(levels[1::2]):
            dataset = dcmread(io.BytesIO(self.server.instances[key]), stop_before_pixels=True)
            if all(str(dataset[name].value) == value for name, value in filters):
                match = dataset.to_json_dict()
                match["00081030"]["Value"] = ["Thorax \x1b[31mred"]  # what a hostile modality may have sent
                found.setdefault(key[:depth], match)
        limit = min(int(special.get("limit", 100)), self.server.page)
        cursor = special.get("cursor", "first")
        offset = int(special.get("offset", 0) if cursor == "first" else cursor)
        page = list(found.values())[offset : offset + limit]
        headers = {"X-Total-Count": str(len(found))} if "count" in special else {}
        if "cursor" in special and offset + limit < len(found):
            # Of somebody it is behind.
            headers["Link"] = f'<http://inside.example/studies?limit={limit}&cursor={offset + limit}>; rel="next"'
        if not page:
            self.answer(204, b"", **headers)
        else:
            self.answer(200, json.dumps(page).encode(), "application/dicom+json", **headers)

    def _retrieve(self, uids: list[str]) -> None:
        selected = self._selected(uids)
        if not selected:
            self.answer(404, b"The specified study cannot be found.")
        else:
            self.send_multipart([self.server.instances[key] for key in selected])

    def send_multipart(self, contents: list[bytes], cut_after: int | None = None) -> None:
        """Sends the parts chunked; breaks the connection after ``cut_after`` bytes of the body."""
        parts = b"".join(
            b"--xyz\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n" for content in contents
        )
        body = parts + b"--xyz--\r\n"
        self.send_response(200)
        self.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary="xyz"')
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(body), 10_000):
            piece = body[start : min(start + 10_000, len(body) if cut_after is None else cut_after)]
            if piece:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if cut_after is not None and start + 10_000 >= cut_after:
                self.close_connection = True
                self.connection.shutdown(2)
                return
        self.wfile.write(b"0\r\n\r\n")
