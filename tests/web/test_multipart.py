import itertools
import re
import time
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.web.multipart import (
    MAX_PADDING,
    End,
    MalformedMultipart,
    MultipartReader,
    PartData,
    PartEnd,
    PartStart,
)

Part = tuple[Mapping[str, str], bytes]


Kind = type[bytes] | type[bytearray]


def read(body: bytes, cuts: list[int] | None = None, kind: Kind = bytes, **limits: int) -> list[Part]:
    """The parts of a body with boundary ``b``, fed in pieces cut at the given positions; checks the event order."""
    reader = MultipartReader(b"b", **limits)
    parts: list[Part] = []
    pieces: list[bytes] = []
    headers: Mapping[str, str] | None = None
    ended = False
    edges = [0, *sorted(cuts or []), len(body)]
    for start, stop in itertools.pairwise(edges):
        for event in reader.feed(kind(body[start:stop])):
            assert not ended
            if isinstance(event, PartStart):
                assert headers is None
                headers = event.headers
            elif isinstance(event, PartData):
                assert headers is not None
                assert len(event.data) > 0
                pieces.append(bytes(event.data))
            elif isinstance(event, PartEnd):
                assert headers is not None
                parts.append((headers, b"".join(pieces)))
                headers, pieces = None, []
            else:
                assert isinstance(event, End)
                assert headers is None
                ended = True
    reader.finish()
    assert ended
    return parts


def oracle(body: bytes) -> list[Part]:
    """The same by one regular expression over the whole body, for bodies whose parts have no or simple headers."""
    delimiter = re.compile(rb"(\r\n--b)(?:(--)|[ \t]{0,%d}(?=\r\n))" % MAX_PADDING)
    body = b"\r\n" + body
    found = delimiter.search(body)
    if found is None:
        raise MalformedMultipart("no boundary")
    parts: list[Part] = []
    while not found[2]:
        start = found.end()  # at the CRLF
        head, blank, _ = body[start:].partition(b"\r\n\r\n")
        following = delimiter.match(body, start)
        if following:
            found = following
            continue
        if not blank:
            raise MalformedMultipart("headers")
        headers: dict[str, str] = {}
        for line in re.sub(rb"\r\n[ \t]+", b" ", head[2:]).split(b"\r\n") if head else []:
            match = re.fullmatch(rb"([a-zA-Z]+): ?(\w*)", line)
            if match is None:
                raise MalformedMultipart("header")
            headers[match[1].decode().lower()] = match[2].decode()
        at = start + len(head) + 2
        following = delimiter.match(body, at)
        if following:
            if headers:
                parts.append((headers, b""))
            found = following
            continue
        following = delimiter.search(body, at + 2)
        if following is None:
            raise MalformedMultipart("end")
        parts.append((headers, body[at + 2 : following.start()]))
        found = following
    return parts


FRAGMENTS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"-",
    b"--",
    b"b",
    b" ",
    b"\r\n--b",
    b"\r\n--b\r\n\r\n",
    b"\r\n--b--",
    b"--b\r\n",
    b"A: x",
    b"\0",
    b"y" * 9,
]


@given(st.lists(st.integers(0, 9_000).map(bytes) | st.sampled_from(FRAGMENTS), max_size=8), st.data())
def test_large_pieces_of_either_kind_are_read_alike(fragments: list[bytes], data: st.DataObject) -> None:
    body = b"".join([b"--b\r\n\r\n", *fragments, b"\r\n--b--"])
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=3))
    try:
        expected = read(body)
    except MalformedMultipart as problem:
        with pytest.raises(MalformedMultipart, match=re.escape(problem.message)):
            read(body, None, bytearray)
        return
    for some in (None, cuts):
        assert read(body, some, bytearray) == expected


@settings(max_examples=600)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=24).map(b"".join), st.data())
def test_any_bytes_any_cuts_as_the_oracle_says(body: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    try:
        expected = oracle(body)
    except MalformedMultipart:
        for some in (None, cuts, list(range(len(body)))):
            with pytest.raises(MalformedMultipart):
                read(body, some)
        return
    for some in (None, cuts, list(range(len(body)))):
        assert read(body, some) == expected


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.from_regex(rb"[a-z]{1,5}", fullmatch=True), st.from_regex(rb"[a-z0-9]{0,9}", fullmatch=True)
            ),
            st.lists(
                st.sampled_from([b"\r\n--", b"\r", b"\n", b"-", b"payload", b"\r\n--c", b"\r\n--b!"]), max_size=9
            ).map(b"".join),
        ),
        max_size=5,
    ),
    st.binary(max_size=20).filter(lambda b: b"b" not in b),
    st.data(),
)
def test_what_was_written_is_read(
    parts: list[tuple[dict[bytes, bytes], bytes]], around: bytes, data: st.DataObject
) -> None:
    body = around + b"\r\n" if around else b""
    for headers, content in parts:
        body += b"--b\r\n" + b"".join(b"%b: %b\r\n" % item for item in headers.items()) + b"\r\n" + content + b"\r\n"
    body += b"--b--\r\n" + around
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    expected = [({k.decode(): v.decode() for k, v in headers.items()}, content) for headers, content in parts]
    assert read(body, cuts) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"--b--", []),
        (b"--b\r\n\r\n--b--", []),
        (b"--b\r\n--b--", []),
        (b"preamble\r\n--b--\r\nepilogue", []),
        (b"--b\r\n\r\n\r\n--b--", [({}, b"")]),
        (b"--b\r\nA: 1\r\n\r\n--b--", [({"a": "1"}, b"")]),
        (b"--b\r\nA: 1\r\n\r\n\r\n--b--", [({"a": "1"}, b"")]),
        (b"--b\r\nA: 1\r\n\r\nx\r\n--b--", [({"a": "1"}, b"x")]),
        (b"\r\n--b \t \r\n\r\nx\r\n--b\t\r\n\r\ny\r\n--b--", [({}, b"x"), ({}, b"y")]),
        (b"--b\r\n\r\nx\r\n--bb\r\n--b-\r\n--b \r\r\n--b--", [({}, b"x\r\n--bb\r\n--b-\r\n--b \r")]),
        (b"--b\r\nA :\t1 \r\nb:2\r\na: 3\r\n\r\n--b--", [({"a": "1, 3", "b": "2"}, b"")]),
        (b"--b\r\nA: one\r\n\ttwo\r\n  three\r\n\r\n--b--", [({"a": "one two three"}, b"")]),
        (b"--bpreamble\r\n--b\r\n\r\nx\r\n--b--", [({}, b"x")]),
    ],
)
def test_forms(body: bytes, expected: list[Part]) -> None:
    assert read(body) == expected
    assert read(body, list(range(len(body)))) == expected


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "does not contain its boundary"),
        (b"no boundary at all", "does not contain its boundary"),
        (b"x--b--", "does not contain its boundary"),
        (b"--b", "does not contain its boundary"),
        (b"--b\r\n", "inside the headers"),
        (b"--b\r\nA: 1\r\n", "inside the headers"),
        (b"--b\r\nA: 1\r\n\r\nda", "without its closing"),
        (b"--b\r\nA: 1\r\n\r\ndata\r\n--b", "without its closing"),
        (b"--b\r\nA: 1\r\n\r\ndata\r\n--b-", "without its closing"),
        (b"--b\r\nA\r\n\r\ndata\r\n--b--", "malformed"),
        (b"--b\r\n: 1\r\n\r\ndata\r\n--b--", "malformed"),
        (b"--b\r\nA B: 1\r\n\r\ndata\r\n--b--", "malformed"),
        (b"--b\r\nA: 1\nB: 2\r\n\r\ndata\r\n--b--", "malformed"),
        (b"--b\r\nA: 1\0\r\n\r\ndata\r\n--b--", "malformed"),
        (b"--b\r\nA: 1\r\n--b--", "inside the headers"),
    ],
)
def test_refusals(body: bytes, problem: str) -> None:
    for cuts in ([], list(range(len(body)))):
        with pytest.raises(MalformedMultipart, match=problem):
            read(body, cuts)


def test_header_limit_counts_the_block_of_one_part() -> None:
    fits = b"--b\r\nA: 123456\r\n\r\nx" + b"\r\n--b\r\nA: 123456\r\n\r\ny" + b"\r\n--b--"
    for cuts in ([], list(range(len(fits)))):
        assert read(fits, cuts, max_header_bytes=9) == [({"a": "123456"}, b"x"), ({"a": "123456"}, b"y")]
        with pytest.raises(MalformedMultipart, match="exceed 8 bytes"):
            read(fits, cuts, max_header_bytes=8)


def test_endless_headers_are_refused_before_they_end() -> None:
    reader = MultipartReader(b"b", max_header_bytes=1000)
    reader.feed(b"--b\r\n")
    with pytest.raises(MalformedMultipart):
        for _ in range(1100):
            reader.feed(b"x")


def test_part_limit() -> None:
    body = b"--b\r\n\r\nx\r\n" * 3 + b"--b--"
    assert len(read(body, max_parts=3)) == 3
    with pytest.raises(MalformedMultipart, match="too many parts"):
        read(body, max_parts=2)
    with pytest.raises(MalformedMultipart, match="too many parts"):
        read(b"--b\r\n" * 4 + b"--b--", max_parts=3)


def test_padding_is_bounded() -> None:
    fits = b"--b\r\n\r\nx\r\n--b" + b" " * MAX_PADDING + b"\r\n\r\ny\r\n--b--"
    too_long = b"--b\r\n\r\nx\r\n--b" + b" " * (MAX_PADDING + 1) + b"\r\n--b--"
    for cuts in ([], list(range(60, 200))):
        assert [content for _, content in read(fits, cuts)] == [b"x", b"y"]
        assert len(read(too_long, cuts)) == 1


def test_data_is_not_copied() -> None:
    reader = MultipartReader(b"b")
    reader.feed(b"--b\r\nA: 1\r\n\r\nx")
    chunk = b"y" * 100_000
    (event,) = reader.feed(chunk)
    assert isinstance(event, PartData)
    assert event.data.obj is chunk
    assert event.data.nbytes == 100_000


def test_little_is_held_between_chunks() -> None:
    reader = MultipartReader(b"b" * 70)
    reader.feed(b"--" + b"b" * 70 + b"\r\n\r\n")
    for chunk in (b"\r" * 100_000, b"\r\n--" * 25_000, (b"\r\n--" + b"b" * 69) * 1000, b" " * 100_000):
        events = reader.feed(chunk)
        emitted = sum(len(event.data) for event in events if isinstance(event, PartData))
        assert emitted >= len(chunk) - 2 * (74 + MAX_PADDING + 2)


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("filling", [b"\r", b"\r\n", b"\r\n--", b"\r\n--bx", b"\r\n--b x", b"-", b"\0"])
def test_hostile_data_takes_linear_time(filling: bytes, kind: Kind) -> None:
    reader = MultipartReader(b"b")
    reader.feed(b"--b\r\n\r\n")
    chunk = kind((filling * 262_144)[:262_144])
    started = time.process_time()
    for _ in range(16):
        reader.feed(chunk)
    assert time.process_time() - started < 4  # 4 MB; about 0.3 s for a false boundary every few bytes
