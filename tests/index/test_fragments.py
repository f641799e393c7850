"""Metadata fragments: joined without being parsed, or even inflated."""

import gzip
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.index.fragments import GzipArray, pack, text_size, unpack

TEXTS = st.lists(st.binary(max_size=300), max_size=20)


def pack_as_before(text: bytes) -> bytes:
    """A fragment of version 0.1, which had neither checksum nor length."""
    deflate = zlib.compressobj(3, zlib.DEFLATED, -15)
    return deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)


@given(TEXTS.filter(len), st.randoms())
def test_what_is_packed_comes_back_joined_by_commas(texts: list[bytes], random: Random) -> None:
    fragments = [random.choice((pack, pack_as_before))(text) for text in texts]
    assert unpack(fragments) == b",".join(texts)
    assert list(map(text_size, fragments)) == list(map(len, texts))


@given(TEXTS, st.integers(1, 7), st.randoms())
def test_a_gzip_file_of_an_array(texts: list[bytes], page: int, random: Random) -> None:
    fragments = [random.choice((pack, pack_as_before))(text) for text in texts]
    array = GzipArray()
    file = b"".join(array.add(fragments[start : start + page]) for start in range(0, len(texts), page)) + array.end()
    assert gzip.decompress(file) == b"[" + b",".join(texts) + b"]"


def test_long_texts_far_apart_in_the_window() -> None:
    texts = [bytes([number]) * 70_000 + b"tail" for number in range(5)]
    assert unpack(map(pack, texts)) == b",".join(texts)
    array = GzipArray()
    assert gzip.decompress(array.add(list(map(pack, texts))) + array.end()) == b"[" + b",".join(texts) + b"]"


def test_fragments_become_small() -> None:
    text = b'{"00080018":{"vr":"UI","Value":["1.2.3"]},' * 50
    assert len(pack(text)) < len(text) / 5


def test_damage_is_noticed() -> None:
    with pytest.raises(Exception, match="deflate"):
        unpack([b"\xff" * 20])
