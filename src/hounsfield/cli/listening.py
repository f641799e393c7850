"""Where the server listens: ``--host`` and ``--port``, else the reference's ``ASPNETCORE_URLS``, else this machine."""

import socket
from urllib.parse import urlsplit

from hounsfield.errors import SettingsError

HOST, PORT = "127.0.0.1", 8080
_EVERYWHERE = "0.0.0.0"  # noqa: S104


def address(host: str | None, port: int | None, urls: str) -> tuple[str, int]:
    """Host and port; ``urls`` are ``http://host:port`` separated by semicolons, of which the first with http counts.

    ``+`` and ``*`` are every address. Raises SettingsError for urls nobody can listen on.
    """
    found = _first(urls) if urls and (host is None or port is None) else (HOST, PORT)
    return host or found[0], port or found[1]


def resolved(host: str) -> str:
    """The IP address of ``host``, which is one or a name; of several an IPv4 one. Raises SettingsError."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SettingsError(f"The address to listen on, {host}, is not known here: {error.strerror}.") from error
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


def _first(urls: str) -> tuple[str, int]:
    written = [url.strip() for url in urls.split(";") if url.strip()]
    plain = [url for url in written if url.lower().startswith("http://")]
    if not plain:
        raise SettingsError(
            "ASPNETCORE_URLS names no http address, as in http://127.0.0.1:8080; "
            "https is for a proxy before this server."
        )
    # "+" and "*" are no host names, and urlsplit would take them for some.
    parts = urlsplit(plain[0].replace("//+", "//*", 1))
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if not port or not parts.hostname or parts.path not in ("", "/"):
        raise SettingsError("ASPNETCORE_URLS must read http://host:port, as in http://127.0.0.1:8080.")
    return _EVERYWHERE if parts.hostname == "*" else parts.hostname, port
