"""What the proxy in front says about the request it passes on (``ASPNETCORE_FORWARDEDHEADERS_ENABLED``)."""

from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send


class Forwarded:
    """ASGI layer that takes the scheme and the client's address from ``X-Forwarded-Proto`` and ``X-Forwarded-For``.

    Of several entries the last one counts, which the proxy itself wrote; those before it may be anybody's. What is no
    scheme or no address is passed over.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        found: Scope = {}
        scheme = _last(headers, "x-forwarded-proto").lower()
        if scheme in ("http", "https"):
            found["scheme"] = scheme
        address = _address(_last(headers, "x-forwarded-for"))
        if address is not None:
            found["client"] = (address, 0)
        await self._app({**scope, **found} if found else scope, receive, send)


def _last(headers: Headers, name: str) -> str:
    return ",".join(headers.getlist(name)).rpartition(",")[2].strip()


def _address(text: str) -> str | None:
    """The IP address of an entry, which may have a port; None where it has none."""
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    else:
        host = text.partition(":")[0] if text.count(":") == 1 else text
    try:
        return str(ip_address(host))
    except ValueError:
        return None
