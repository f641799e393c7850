"""The names under which the server may be addressed (``AllowedHosts``, server.md §14)."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ANY = "*"


class AllowedHosts:
    """ASGI layer that refuses requests whose Host header names none of ``names``.

    A name is a host without port, or ``*.example.com`` for every host below it; ``*`` is every host. A page of
    another site can otherwise reach a server on this machine under a name of its own (DNS rebinding). Requests that
    name no host pass, as in the reference: browsers always name one, the probes of load balancers (HTTP/1.0) may not.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app = app
        self._names = [name.lower() for name in names]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.is_allowed(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send)
        else:
            refusal = PlainTextResponse("The Host header names no host of this server.", status_code=400)
            await refusal(scope, receive, send)

    def is_allowed(self, header: str) -> bool:
        """Whether a Host header, with or without port, names one of our hosts."""
        host = host_of(header)
        return not host or any(
            name in (ANY, host) or (name.startswith("*.") and host.endswith(name[1:]) and host != name[1:])
            for name in self._names
        )


def host_of(header: str) -> str:
    """The host of a Host header in lower case, without its port; an IPv6 address keeps its brackets."""
    text = header.strip().lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0]
