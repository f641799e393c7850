"""Where the server listens."""

import pytest

from hounsfield.cli.listening import address, resolved
from hounsfield.errors import SettingsError


@pytest.mark.parametrize(
    ("host", "port", "urls", "expected"),
    [
        (None, None, "", ("127.0.0.1", 8080)),
        ("h", None, "", ("h", 8080)),
        (None, 1, "", ("127.0.0.1", 1)),
        (None, None, "http://+:8080", ("0.0.0.0", 8080)),
        (None, None, "http://*", ("0.0.0.0", 80)),
        (None, None, "http://0.0.0.0:5000/", ("0.0.0.0", 5000)),
        (None, None, "https://+:443; HTTP://localhost:5001", ("localhost", 5001)),
        (None, None, "http://[::1]:8081;http://x:1", ("::1", 8081)),
        ("h", None, "http://+:9", ("h", 9)),
        (None, 7, "http://+:9", ("0.0.0.0", 7)),
        ("h", 7, "nonsense", ("h", 7)),
    ],
)
def test_address(host: str | None, port: int | None, urls: str, expected: tuple[str, int]) -> None:
    assert address(host, port, urls) == expected


@pytest.mark.parametrize("urls", ["https://+:443", "localhost:80", "http://", "http://h:99999", "http://h/x", ";"])
def test_urls_nobody_can_listen_on(urls: str) -> None:
    with pytest.raises(SettingsError, match="ASPNETCORE_URLS"):
        address(None, None, urls)


def test_names_become_addresses() -> None:
    assert resolved("localhost") == "127.0.0.1"
    assert resolved("0.0.0.0") == "0.0.0.0"
    assert resolved("::1") == "::1"
    with pytest.raises(SettingsError, match="no such place"):
        resolved("no such place")
