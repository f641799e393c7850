"""Accept-Encoding (RFC 9110 §12.5.3)."""

import zlib

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.web.content_coding import COMPUTED, SMALLEST, STORED, choose, compressed_stream, whole


@pytest.mark.parametrize(
    ("header", "stored", "computed"),
    [
        ("", None, None),
        ("identity", None, None),
        ("br", None, None),
        ("deflate, br", None, None),
        ("gzip", "gzip", "gzip"),
        ("GZip", "gzip", "gzip"),
        ("x-gzip", "gzip", "gzip"),
        ("zstd", "zstd", "zstd"),
        ("gzip, deflate, br, zstd", "gzip", "zstd"),
        ("*", "gzip", "zstd"),
        ("*;q=0.5, gzip;q=0", "zstd", "zstd"),
        ("gzip;q=0", None, None),
        ("*;q=0", None, None),
        ("gzip;q=0.5, zstd;q=0.9", "zstd", "zstd"),
        ("gzip ; q=1.0 , zstd;Q=0.999", "gzip", "gzip"),
        ("identity, gzip;q=0.5", None, None),
        ("identity;q=0.5, gzip;q=0.5", "gzip", "zstd-no"),
        ("gzip;q=2, zstd;q=x", None, None),
        ("gzip;q=0.1, gzip;q=0.9, identity;q=0.5", None, None),
        (",, ,gzip", "gzip", "gzip"),
    ],
)
def test_what_is_chosen(header: str, stored: str | None, computed: str | None) -> None:
    assert choose([header], STORED) == stored
    assert choose([header], COMPUTED) == ("gzip" if computed == "zstd-no" else computed)
    assert choose(header.split(","), STORED) == stored


def test_without_the_header_nothing_is_compressed() -> None:
    assert choose([], STORED) is None
    assert whole([], bytes(10_000)) == (bytes(10_000), {"Vary": "Accept-Encoding"})


@given(st.lists(st.text(max_size=30), max_size=4))
def test_anything_can_be_read(headers: list[str]) -> None:
    assert choose(headers, STORED) in ("gzip", "zstd", None)


def decoded(body: bytes, coding: str) -> bytes:
    return zstd.decompress(body) if coding == "zstd" else zlib.decompress(body, 31)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_bodies(coding: str) -> None:
    body, headers = whole([coding], bytes(SMALLEST))
    assert headers == {"Vary": "Accept-Encoding", "Content-Encoding": coding}
    assert decoded(body, coding) == bytes(SMALLEST)
    assert whole([coding], bytes(SMALLEST - 1)) == (bytes(SMALLEST - 1), {"Vary": "Accept-Encoding"})


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_streams(coding: str) -> None:
    pieces = [b"a", b"", bytes(300_000), b"z" * 5]

    async def made(count: int):  # type: ignore[no-untyped-def]
        for piece in pieces[:count]:
            yield piece

    for count in range(1, 5):
        body = b"".join([piece async for piece in compressed_stream(made(count), coding)])  # type: ignore[arg-type]
        assert decoded(body, coding) == b"".join(pieces[:count])
    assert [piece async for piece in compressed_stream(made(0), coding)] == []  # type: ignore[arg-type]
