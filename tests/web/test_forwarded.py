"""What a proxy in front says about a request."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.security.audit import Audit, AuditLog, AuditOptions
from hounsfield.web.access import Access, ProtectedRoute
from hounsfield.web.cast_app import CastApplication
from hounsfield.web.forwarded import Forwarded

HERE = ("10.0.0.2", 4711)


async def passed_on(*headers: tuple[str, str]) -> tuple[str, tuple[str, int]]:
    """Scheme and client of a request with these headers."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    given = [(name.encode(), value.encode()) for name, value in headers]
    await Forwarded(app)({"type": "http", "scheme": "http", "client": HERE, "headers": given}, None, None)  # type: ignore[arg-type]
    return seen[0]["scheme"], seen[0]["client"]


@pytest.mark.parametrize(
    ("values", "scheme"),
    [(["https"], "https"), (["HTTPS"], "https"), (["https, http"], "http"), (["http", " https "], "https")]
    + [([value], "http") for value in ("", "ftp", "https,", "https/1.1", "javascript")],
)
async def test_the_scheme(values: list[str], scheme: str) -> None:
    assert await passed_on(*(("x-forwarded-proto", value) for value in values)) == (scheme, HERE)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:1234", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:1234", "2001:db8::7"),
        ("6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("unknown", HERE[0]),
        ("192.0.2.7, ", HERE[0]),
        ("a" * 1000, HERE[0]),
    ],
)
async def test_the_address(value: str, address: str) -> None:
    scheme, client = await passed_on(("x-forwarded-for", value))
    assert (scheme, client[0]) == ("http", address)


@pytest.mark.parametrize("behind_proxy", [True, False])
async def test_a_dicom_cast_that_runs_alone_believes_it_as_well(tmp_path: Path, behind_proxy: bool) -> None:
    async def status(_: Request) -> Response:
        return Response()

    route = ProtectedRoute("/cast/status", status, name="status", audit_action="cast-status")
    with (tmp_path / "audit").open("wb") as log:
        access = Access(Audit(AuditLog(log.fileno()), AuditOptions()))
        application = CastApplication([route], access, behind_proxy=behind_proxy)
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://cast") as client:
            answer = await client.get("/cast/status", headers={"x-forwarded-for": "192.0.2.7"})
    assert answer.status_code == 200
    assert ('"CallerIpAddress":"192.0.2.7"' in (tmp_path / "audit").read_text()) == behind_proxy
