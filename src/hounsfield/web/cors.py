"""Cross-origin requests of browsers (server.md §11, Fetch standard §3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY = "*"
"""Alone in a list, it stands for everything."""


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """What pages of other origins may do. ``max_age`` is how many seconds a browser may remember a preflight."""

    origins: Sequence[str]
    methods: Sequence[str] = ()
    headers: Sequence[str] = ()
    max_age: int | None = None
    allow_credentials: bool = False

    def is_allowed(self, origin: str) -> bool:
        """Whether pages of ``origin`` may read our answers."""
        return list(self.origins) == [ANY] or origin in self.origins


class Cors:
    """ASGI layer that adds the headers and answers preflights before anything else, a token check included."""

    def __init__(self, app: ASGIApp, policy: CorsPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        added = self._answer_headers(origin)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        asked = headers.get("access-control-request-method")
        if scope["method"] == "OPTIONS" and origin is not None and asked is not None:
            if self._policy.is_allowed(origin):
                added += self._preflight_headers(asked, headers.get("access-control-request-headers"))
            await Response(status_code=204)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)

    def _answer_headers(self, origin: str | None) -> list[tuple[bytes, bytes]]:
        policy = self._policy
        if list(policy.origins) == [ANY]:
            return [] if origin is None else [(b"access-control-allow-origin", b"*")]
        # On every answer: a cache must not give one without the header to a page that needs it.
        found = [(b"vary", b"Origin")]
        if origin is None or not policy.is_allowed(origin):
            return found
        found.append((b"access-control-allow-origin", origin.encode("latin-1")))
        if policy.allow_credentials:
            found.append((b"access-control-allow-credentials", b"true"))
        return found

    def _preflight_headers(self, method: str, headers: str | None) -> list[tuple[bytes, bytes]]:
        policy = self._policy
        found = []
        methods = method if list(policy.methods) == [ANY] else ",".join(policy.methods)
        if methods:
            found.append((b"access-control-allow-methods", methods.encode("latin-1")))
        named = headers if list(policy.headers) == [ANY] else ",".join(policy.headers)
        if named:
            found.append((b"access-control-allow-headers", named.encode("latin-1")))
        if policy.max_age is not None:
            found.append((b"access-control-max-age", str(policy.max_age).encode()))
        return found
