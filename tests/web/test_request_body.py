"""Content codings of request bodies: any cut of the bytes decodes the same, nothing grows without bound."""

import asyncio
import contextlib
import gzip
import itertools
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from hounsfield.errors import BadRequest, PayloadTooLarge
from hounsfield.web import request_body as module
from hounsfield.web.request_body import CONTENT_CODINGS, FREE_BYTES, MAX_RATIO, UnsupportedContentCoding, request_body

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
}


def request(chunks: Sequence[bytes], *codings: str) -> Request:
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return messages.pop(0)

    headers = [(b"content-encoding", coding.encode()) for coding in codings]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def read(chunks: Sequence[bytes], *codings: str) -> bytes:
    async def whole() -> bytes:
        pieces = [piece async for piece in request_body(request(chunks, *codings))]
        return b"".join(pieces)

    return asyncio.run(whole())


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


BODIES = st.binary(max_size=300) | st.builds(
    lambda data, times: data * times, st.binary(max_size=40), st.integers(0, 9000)
)


@given(st.sampled_from(sorted(ENCODERS)), BODIES, st.lists(st.integers(0, 1 << 20), max_size=8))
def test_any_cut_decodes_the_same(coding: str, body: bytes, places: list[int]) -> None:
    assert read(cut(ENCODERS[coding](body), places), coding) == body


@given(st.sampled_from(["gzip", "zstd"]), st.lists(BODIES, min_size=1, max_size=4), st.lists(st.integers(0, 1 << 20)))
def test_members_and_frames_follow_each_other(coding: str, bodies: list[bytes], places: list[int]) -> None:
    encoded = b"".join(map(ENCODERS[coding], bodies))
    assert read(cut(encoded, places), coding) == b"".join(bodies)


@given(
    st.sampled_from(sorted(ENCODERS)), BODIES, st.integers(0, 1 << 20), st.lists(st.integers(0, 1 << 20), max_size=4)
)
def test_an_incomplete_body_is_refused(coding: str, body: bytes, end: int, places: list[int]) -> None:
    encoded = ENCODERS[coding](body)
    with pytest.raises(BadRequest, match=r"before its .* data were complete"):
        read(cut(encoded[: end % len(encoded)], places), coding)


@given(st.sampled_from(sorted(ENCODERS)), BODIES, st.binary(min_size=1, max_size=50))
def test_what_follows_must_be_another_member(coding: str, body: bytes, garbage: bytes) -> None:
    with pytest.raises(BadRequest):
        read([ENCODERS[coding](body), garbage], coding)


def test_deflate_is_one_stream() -> None:
    with pytest.raises(BadRequest, match="damaged"):
        read([zlib.compress(b"one") + zlib.compress(b"two")], "deflate")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_byte_at_a_time_gives_all_of_it(coding: str) -> None:
    encoded = zeros(coding, 1 << 20)
    assert read([bytes([byte]) for byte in encoded], coding) == bytes(1 << 20)


@given(st.sampled_from(sorted(ENCODERS)), st.binary(max_size=2000), st.lists(st.integers(0, 1 << 20), max_size=4))
def test_garbage_is_refused_and_nothing_else_happens(coding: str, garbage: bytes, places: list[int]) -> None:
    try:
        read(cut(garbage, places), coding)
    except BadRequest as refusal:
        assert coding.removeprefix("x-") in refusal.message


@given(st.sampled_from(["gzip", "zstd"]), st.integers(0, 1 << 20), st.integers(1, 255))
def test_a_flipped_byte_never_gives_other_data(coding: str, place: int, flip: int) -> None:
    body = bytes(range(256)) * 20
    checked: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
    encoded = bytearray(zstd.compress(body, options=checked) if coding == "zstd" else gzip.compress(body))
    encoded[place % len(encoded)] ^= flip
    with contextlib.suppress(BadRequest):
        assert read([bytes(encoded)], coding) == body


def test_skippable_frames_are_skipped() -> None:
    frame = (0x184D2A53).to_bytes(4, "little") + (100_000).to_bytes(4, "little") + bytes(100_000)
    encoded = frame + zstd.compress(b"one") + frame + zstd.compress(b"two") + frame
    assert read(cut(encoded, range(0, len(encoded), 997)), "zstd") == b"onetwo"


@pytest.mark.parametrize("codings", [(), ("identity",), ("",), ("IDENTITY", "identity"), (" identity , identity",)])
def test_bodies_without_a_coding_stay_as_they_are(codings: tuple[str, ...]) -> None:
    assert read([b"a" * 100_000, b"b"], *codings) == b"a" * 100_000 + b"b"


@pytest.mark.parametrize("codings", [("GZip",), ("identity, gzip",), ("identity", " gzip ")])
def test_codings_are_named_in_any_case_and_beside_identity(codings: tuple[str, ...]) -> None:
    assert read([gzip.compress(b"data")], *codings) == b"data"


@pytest.mark.parametrize("codings", [("br",), ("compress",), ("gzip, gzip",), ("gzip", "zstd"), ("*",), ("gzip;q=1",)])
def test_other_codings_are_refused_with_those_that_are_served(codings: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedContentCoding) as refused:
        request_body(request([], *codings))
    assert refused.value.status == 415
    assert refused.value.headers == {"Accept-Encoding": CONTENT_CODINGS}


def test_a_window_of_more_than_8_mib_is_refused() -> None:
    def framed(window_log: int) -> bytes:
        compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
        return compressor.compress(b"x" * 1000) + compressor.flush()

    assert read([framed(23)], "zstd") == b"x" * 1000
    with pytest.raises(BadRequest, match="8 MiB"):
        read([framed(24)], "zstd")


def zeros(coding: str, size: int) -> bytes:
    if coding == "zstd":
        compressor = zstd.ZstdCompressor()
        return b"".join(compressor.compress(bytes(1 << 20)) for _ in range(size >> 20)) + compressor.flush()
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    return b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(size >> 20)) + squeeze.flush()


async def _size(encoded: bytes, coding: str) -> tuple[int, str]:
    """How much came out until the end or a refusal, and its text."""
    size = 0
    try:
        async for piece in request_body(request([encoded], coding)):
            size += len(piece)
    except PayloadTooLarge as refusal:
        return size, refusal.message
    return size, ""


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_pieces_are_small(coding: str) -> None:
    pieces = [piece async for piece in request_body(request([zeros(coding, 10 << 20)], coding))]
    assert sum(map(len, pieces)) == 10 << 20
    assert max(map(len, pieces)) <= 1 << 16


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_blank_data_pass_while_they_are_few(coding: str) -> None:
    assert await _size(zeros(coding, FREE_BYTES), coding) == (FREE_BYTES, "")
    size, text = await _size(zeros(coding, FREE_BYTES + (1 << 20)), coding)
    assert size <= FREE_BYTES
    assert f"more than {MAX_RATIO} times" in text


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_what_grows_less_than_that_is_limited_by_its_size_alone(coding: str) -> None:
    noise = random.Random(1).randbytes(1 << 20)  # does not shrink
    encoded = ENCODERS[coding](noise) + zeros(coding, FREE_BYTES * 2)
    assert await _size(encoded, coding) == (FREE_BYTES * 2 + len(noise), "")


async def test_bytes_that_decode_to_nothing_end_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BODY_BYTES", 100_000)
    empty = gzip.compress(b"") * 6000
    with pytest.raises(BadRequest, match="exceeds the limit of 100000 bytes"):
        async for _ in request_body(request([empty[:60_000], empty[60_000:]], "gzip")):
            pass


async def test_others_get_their_turn_meanwhile() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    await _size(zeros("zstd", FREE_BYTES), "zstd")
    task.cancel()
    assert turns > FREE_BYTES >> 22
