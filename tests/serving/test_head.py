"""Request heads."""

import re

from hypothesis import given
from hypothesis import strategies as st

from hounsfield.serving.head import end_of_head

END = re.compile(rb"\r?\n\r?\n")


@given(st.text("a\r\n", max_size=20).map(str.encode), st.integers(0, 5))
def test_the_end_of_a_head_is_an_empty_line(received: bytes, start: int) -> None:
    """However its lines end, and whatever was looked at before."""
    found = END.search(received, start)
    assert end_of_head(bytearray(received), start) == (-1 if found is None else found.end())
