"""The limit of a whole request body, without sending two gigabytes (store.md §1)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from hounsfield.errors import BadRequest, PayloadTooLarge
from hounsfield.storage.spool import Spool
from hounsfield.web import spooled_body
from hounsfield.web.store import store_routes
from tests import factories


@pytest.fixture
def spool(tmp_path: Path) -> Any:
    made = Spool(tmp_path / "spool", memory_limit=1000)
    yield made
    assert not list((tmp_path / "spool").iterdir())
    made.close()


async def test_a_body_over_the_limit_is_refused_and_leaves_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooled_body, "MAX_BODY_BYTES", 5000)
    archive = cast(Any, None)  # nothing may get that far
    (route, _) = store_routes(archive, spool, 10_000)
    body, headers = factories.multipart([factories.instance() for _ in range(6)])
    assert len(body) > 5000
    sent = []

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 500):
            sent.append(start)
            yield body[start : start + 500]

    transport = httpx.ASGITransport(route.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://archive") as client:
        with pytest.raises(BadRequest, match="exceeds the limit of 5000 bytes"):
            await client.post("/studies", content=pieces(), headers=headers)
    assert sent


@pytest.mark.parametrize(
    ("content_type", "error", "text"),
    [
        ("multipart/related; boundary=b", BadRequest, "exceeds the limit of 2147483647 bytes"),
        ("application/dicom", PayloadTooLarge, "exceeded the allowed limit of 10000 bytes"),
    ],
)
async def test_a_body_that_is_said_to_be_too_large_is_not_waited_for(
    spool: Spool, content_type: str, error: type[Exception], text: str
) -> None:
    archive = cast(Any, None)  # nothing may get that far
    (route, _) = store_routes(archive, spool, 10_000)

    asked = []

    async def body() -> AsyncIterator[bytes]:
        asked.append(True)
        yield b"x"

    headers = {"content-type": content_type, "content-length": str(3_000_000_000)}
    transport = httpx.ASGITransport(route.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://archive") as client:
        with pytest.raises(error, match=text):
            await client.post("/studies", content=body(), headers=headers)
    assert not asked
