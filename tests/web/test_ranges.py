"""Range headers (RFC 9110 §14)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from hounsfield.web.ranges import RangeNotSatisfiable, Span, asked_span


def request(method: str = "GET", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "headers": raw})


@pytest.mark.parametrize(
    ("header", "offset", "length"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=10-19", 10, 10),
        ("bytes=10-", 10, 90),
        ("bytes=99-", 99, 1),
        ("bytes=90-1000", 90, 10),
        ("bytes=-1", 99, 1),
        ("bytes=-100", 0, 100),
        ("bytes=-5000", 0, 100),
        ("Bytes= 5-6 ", 5, 2),
        ("bytes=0-9999999999999999999", 0, 100),
    ],
)
def test_one_range(header: str, offset: int, length: int) -> None:
    assert asked_span(request(range=header), 100) == Span(offset, length, 100, True)


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=9999999999999999999-", "bytes=-0"])
def test_a_range_without_bytes(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        asked_span(request(range=header), 100)
    assert refused.value.headers["Content-Range"] == "bytes */100"
    assert "100 bytes" in refused.value.message


def test_nothing_has_no_range() -> None:
    for header in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        with pytest.raises(RangeNotSatisfiable):
            asked_span(request(range=header), 0)


@pytest.mark.parametrize(
    "header",
    ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "items=0-1", "bytes=0-1,5-6", "0-1", "bytes=1.5-2"],
)
def test_what_is_no_single_range_gets_everything(header: str) -> None:
    assert asked_span(request(range=header), 100) == Span(0, 100, 100, False)


def test_other_methods_and_conditions_get_everything() -> None:
    whole = Span(0, 100, 100, False)
    assert asked_span(request("HEAD", range="bytes=0-1"), 100) == whole
    assert asked_span(request(range="bytes=0-1", if_range='"x"'), 100) == whole
    assert asked_span(request(), 100) == whole


@given(st.text("bytes=-0123456789 ,", max_size=30), st.integers(0, 50))
def test_any_header_gives_bytes_that_exist(header: str, size: int) -> None:
    try:
        span = asked_span(request(range=header), size)
    except RangeNotSatisfiable:
        return
    assert span.offset >= 0
    assert span.offset + span.length <= size == span.size
    assert span.partial is (span.status == 206)
