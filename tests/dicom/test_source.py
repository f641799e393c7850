"""Byte sources: the same bytes whatever the source, and no more of them than asked."""

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.dicom import source as source_module
from hounsfield.dicom.source import BytesSource, FileSource, InflatedSource, UnreadableInstance


def deflated(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


def test_file_by_path_and_by_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with FileSource(path) as by_path:
        assert (by_path.size, by_path.read_at(3, 4), by_path.read_at(8, 100)) == (10, b"3456", b"89")
        assert by_path.read_at(10, 5) == by_path.read_at(11, 5) == b""
    with pytest.raises(OSError, match="descriptor"):
        by_path.read_at(0, 1)
    descriptor = os.open(path, os.O_RDONLY)
    borrowed = FileSource(descriptor, 5)
    assert (borrowed.size, borrowed.read_at(3, 4)) == (5, b"34")
    borrowed.close()
    assert os.read(descriptor, 2) == b"01"  # neither closed nor moved
    os.close(descriptor)


@given(st.integers(0, 400_000), st.lists(st.tuples(st.integers(0, 420_000), st.integers(0, 100_000)), max_size=6))
def test_inflated_ranges(size: int, ranges: list[tuple[int, int]]) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    source = InflatedSource(BytesSource(b"before" + deflated(data) + b"\0"), 6)
    assert source.size == size
    for offset, length in ranges:
        assert source.read_at(offset, length) == data[offset : offset + length]


@pytest.mark.parametrize("size", [0, 1, source_module.INFLATED_PREFIX, source_module.INFLATED_PREFIX + 1])
def test_inflated_prefix_edges(size: int) -> None:
    source = InflatedSource(BytesSource(deflated(bytes(size))), 0)
    assert source.size == size
    assert source.read_at(0, size + 10) == bytes(size)
    assert source.read_at(max(size - 1, 0), 1) == bytes(min(size, 1))


def test_broken_streams() -> None:
    whole = deflated(os.urandom(100_000))
    for broken in (whole[:-1], whole[: len(whole) // 2], b"", b"\xff" * 100):
        with pytest.raises(UnreadableInstance):
            InflatedSource(BytesSource(broken), 0)


def test_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "INFLATED_LIMIT", 1000)
    assert InflatedSource(BytesSource(deflated(bytes(1000))), 0).size == 1000
    with pytest.raises(UnreadableInstance):
        InflatedSource(BytesSource(deflated(bytes(1001))), 0)
