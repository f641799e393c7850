"""Request heads."""

import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from hounsfield.serving import head
from hounsfield.serving.head import RefusedHead, RequestHead, end_of_head

END = re.compile(rb"\r?\n\r?\n")


@given(st.text("a\r\n", max_size=20).map(str.encode), st.integers(0, 5))
def test_the_end_of_a_head_is_an_empty_line(received: bytes, start: int) -> None:
    """However its lines end, and whatever was looked at before."""
    found = END.search(received, start)
    assert end_of_head(bytearray(received), start) == (-1 if found is None else found.end())


LINES = st.one_of(
    st.builds(
        "{} {} HTTP/{}{}".format,
        st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "get", "NONE"]),
        st.text(st.characters(max_codepoint=255), max_size=12).map(lambda text: f"/{text}")
        | st.sampled_from(["*", ""]),
        st.sampled_from(["1.1", "1.0", "2.0", "1.12"]),
        st.sampled_from(["\r\n", "\n", "\r\n ", "\r\n\r\n"]),
    ),
    st.text(max_size=30),
).map(lambda text: text.encode("latin-1", "replace"))
FIELDS = [
    b"Host: a:8080\r\n",
    b"host: b\r\n",
    b"Content-Length: 12\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: x\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: Upgrade\r\n",
    b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"Accept: */*\r\n",
    b"X: \xe4\r\n",
    b" folded\r\n",
    b"no colon\r\n",
    b"Bare: line\n",
]
BLOCKS = st.lists(st.sampled_from(FIELDS), max_size=6).map(lambda fields: b"Host: me\r\n" + b"".join(fields) + b"\r\n")


def made_of(request: bytes) -> Any:
    """All that is known of a request, or why it is refused."""
    try:
        found = RequestHead(request)
    except RefusedHead as refusal:
        return refusal.status, refusal.text
    return found.scope, found.length, found.expects_continue, found.keep_alive, found.upgrades, found.old_client


@given(LINES, LINES, BLOCKS)
@example(b"GET / HTTP/1.1\r\n", b"POST /a?b#c HTTP/1.1\r\n", b"Host: a\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n", b"CONNECT /a HTTP/1.1\r\n", b"Host: a\r\n\r\n")
def test_headers_that_come_again_mean_the_same(first: bytes, second: bytes, block: bytes) -> None:
    head._met.clear()
    alone = made_of(second + block)
    for line in (first, b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n"):
        made_of(line + block)
        assert made_of(second + block) == alone


def test_every_character_of_a_target_is_taken_as_it_was_the_first_time() -> None:
    for code in range(256):
        request = b"GET /a" + bytes([code]) + b"b HTTP/1.1\r\nHost: a\r\n\r\n"
        head._met.clear()
        alone = made_of(request)
        made_of(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert made_of(request) == alone, code


def test_what_one_request_does_to_its_headers_is_nothing_to_the_next() -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    made = RequestHead(request), RequestHead(request)
    made[0].scope["headers"].append((b"x", b"y"))
    assert made[1].scope["headers"] == RequestHead(request).scope["headers"] == [(b"host", b"a")]


def test_headers_kept_are_bounded() -> None:
    head._met.clear()
    for number in range(1000):
        RequestHead(b"GET / HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % number)
    RequestHead(b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 5000))
    assert len(head._met) <= 256
    assert all(len(block) <= 4096 for block in head._met)


def test_no_token_is_kept() -> None:
    head._met.clear()
    for name in (b"Authorization: Bearer", b"authorization: Basic", b"Cookie:", b"Proxy-Authorization: Basic"):
        RequestHead(b"GET / HTTP/1.1\r\nHost: a\r\n%b secret\r\n\r\n" % name)
    assert not head._met
