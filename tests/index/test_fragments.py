"""Metadata fragments: joined without being parsed."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.index.fragments import pack, unpack


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_what_is_packed_comes_back_joined_by_commas(texts: list[bytes]) -> None:
    assert unpack(pack(text) for text in texts) == b",".join(texts)


def test_long_texts_far_apart_in_the_window() -> None:
    texts = [bytes([number]) * 70_000 + b"tail" for number in range(5)]
    assert unpack(map(pack, texts)) == b",".join(texts)


def test_fragments_become_small() -> None:
    text = b'{"00080018":{"vr":"UI","Value":["1.2.3"]},' * 50
    assert len(pack(text)) < len(text) / 5


def test_damage_is_noticed() -> None:
    with pytest.raises(zlib.error):
        unpack([b"\xff" * 20])
