"""The OHIF viewer at ``/viewer`` (server.md §7): its files, its page, and its configuration for this server.

Served without a token, as the files are the same for everybody; what the viewer then asks the API for needs one.
"""

import hashlib
import re
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hounsfield.web.file_response import LocalFileResponse
from hounsfield.web.viewer.files import CONTENT_TYPES, PACKED, InstalledViewer, ViewerFiles
from hounsfield.web.viewer.page import SignIn, configuration, content_security_policy, page

__all__ = ["SignIn", "viewer_routes"]

MISSING = (
    "The viewer is switched on, but its files are not installed here. "
    "`hounsfield viewer install` fetches them, on every machine of this server; "
    "with Viewer:Directory set: `hounsfield viewer install --to DIRECTORY`."
)
FOREVER = "public, max-age=31536000, immutable"
ASK_FIRST = "no-cache"
"""Kept by browsers and caches, but not used without asking whether it has changed."""

_REVISION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+-[0-9a-f]{12}/")


def viewer_routes(directory: Path, *, partitioned: bool, sign_in: SignIn | None) -> list[Route]:
    """``/viewer`` with everything below it, and ``/``, which leads there.

    ``directory`` is where the files are or will be, ``partitioned``: data partitions are on, ``sign_in``: None where
    the API asks for no token, or nobody has said how to get one.
    """
    viewer = _Viewer(InstalledViewer(directory), partitioned=partitioned, sign_in=sign_in)

    async def home(request: Request) -> Response:
        return RedirectResponse("/viewer/", status_code=302)

    return [
        Route("/", home, methods=["GET"], name="home"),
        Route("/viewer", viewer, methods=["GET"], name="viewer"),
        Route("/viewer/{below:path}", viewer, methods=["GET"], name="viewer files"),
    ]


class _Viewer:
    def __init__(self, installed: InstalledViewer, *, partitioned: bool, sign_in: SignIn | None) -> None:
        self._installed = installed
        self._partitioned = partitioned
        self._sign_in = sign_in
        policy = content_security_policy(sign_in)
        # A worker's policy comes with its script, so the files get it as well.
        self._headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        await self._answer(request.path_params.get("below", ""), request)(scope, receive, send)

    def _answer(self, below: str, request: Request) -> ASGIApp:
        files = self._installed.current()
        if files is None:
            return PlainTextResponse(MISSING, status_code=404, headers={"Cache-Control": "no-store"})
        revision, _, name = below.partition("/")
        if revision == files.revision and name in files.files:
            return self._file(files, name, request.headers)
        if _REVISION.match(below):
            # Also for a page of an earlier revision: index.html in place of a script would only confuse it.
            return Response(status_code=404)
        if below == "app-config.js":
            content = configuration(files, partitioned=self._partitioned, sign_in=self._sign_in)
            return self._made(content, CONTENT_TYPES[".js"], request.headers)
        return self._made(page(files), "text/html; charset=utf-8", request.headers)

    def _file(self, files: ViewerFiles, name: str, headers: Headers) -> ASGIApp:
        found, path = files.files[name], self._installed.directory / name
        content_type = CONTENT_TYPES[path.suffix]
        size, more = found.size, {**self._headers, "Cache-Control": FOREVER}
        if found.packed:
            more["Vary"] = "Accept-Encoding"
            if accepts_gzip(headers.get("accept-encoding", "")):
                more["Content-Encoding"] = "gzip"
                path, size = path.with_name(path.name + PACKED), found.packed
        return _with_headers(LocalFileResponse(path, size, content_type), more)

    def _made(self, content: bytes, content_type: str, headers: Headers) -> Response:
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        more = {**self._headers, "Cache-Control": ASK_FIRST, "ETag": tag}
        if tag in headers.get("if-none-match", ""):
            return Response(status_code=304, headers=more)
        return Response(content, headers={**more, "Content-Type": content_type})


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header takes gzip (RFC 9110 §12.5.3)."""
    weights: dict[str, float] = {}
    for entry in header.lower().split(","):
        coding, _, parameter = entry.partition(";")
        name, _, value = parameter.partition("=")
        try:
            weights[coding.strip()] = float(value) if name.strip() == "q" else 1.0
        except ValueError:
            weights[coding.strip()] = 0.0
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def _with_headers(app: ASGIApp, headers: dict[str, str]) -> ASGIApp:
    added = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await app(scope, receive, send_more)

    return run
