"""Bytes of bulk values: any range, in either byte order, in pieces, from local files and from elsewhere."""

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

from hounsfield.archive import bulk_data
from hounsfield.archive.archive import Archive
from hounsfield.archive.bulk_data import Content, swapped
from hounsfield.errors import InternalError
from hounsfield.index.instances import StoredInstance
from hounsfield.storage.errors import ObjectMissing
from hounsfield.storage.local import LocalStore
from tests import factories


class Remote(LocalStore):
    """A store whose objects are no local files, and that counts how often it is asked."""

    reads = 0

    def local_path(self, key: str) -> Path:
        return cast(Path, None) if self.hidden else super().local_path(key)

    hidden = False

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        self.reads += 1
        self.hidden = False
        try:
            return await super().get_range(key, offset, length)
        finally:
            self.hidden = True


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    store = LocalStore(tmp_path / "dicom")
    yield Archive(cast(Any, None), store, timedelta(0), 0)
    await store.close()


def stored(size: int, syntax: str = ExplicitVRLittleEndian) -> StoredInstance:
    return StoredInstance(1, "1.2", "1.3", "1.4", syntax, "1.2/1.3/1.4_0.dcm", size)


async def read(archive: Archive, content: Content, offset: int, length: int) -> bytes:
    return b"".join([bytes(chunk) async for chunk in bulk_data.chunks(archive, content, offset, length)])


@given(
    data=st.binary(min_size=1, max_size=300),
    cuts=st.lists(st.integers(0, 300), max_size=5),
    word=st.sampled_from([1, 2, 4, 8]),
    first=st.integers(0, 300),
    length=st.integers(0, 300),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_any_range_of_any_pieces(
    archive: Archive, data: bytes, cuts: list[int], word: int, first: int, length: int
) -> None:
    instance = stored(len(data))
    await archive.files.put(instance.file_key, data)
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    pieces = [(start, end - start) for start, end in itertools.pairwise(edges)] if word == 1 else [(0, len(data))]
    content = Content(instance, pieces, len(data), word)
    offset = min(first, len(data))
    length = min(length, len(data) - offset)
    assert await read(archive, content, offset, length) == swapped(data, word)[offset : offset + length]
    assert await read(archive, content, 0, len(data)) == swapped(data, word)


@pytest.mark.parametrize(
    ("word", "turned"), [(1, b"abcdefghij"), (2, b"badcfehgji"), (4, b"dcbahgfeij"), (8, b"hgfedcbaij")]
)
def test_byte_order(word: int, turned: bytes) -> None:
    assert swapped(b"abcdefghij", word) == turned


async def test_chunks_that_end_inside_a_number(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256))
    instance = stored(len(data))
    content = Content(instance, [(0, 256)], 256, 8)

    async def odd(key: str, offset: int, length: int) -> AsyncIterator[bytes]:
        for start in range(offset, offset + length, 5):
            yield data[start : min(start + 5, offset + length)]

    monkeypatch.setattr(archive.files, "get", odd)
    for offset, length in ((0, 256), (3, 11), (7, 249), (8, 8), (255, 1)):
        assert await read(archive, content, offset, length) == swapped(data, 8)[offset : offset + length]


SYNTAXES = [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
async def test_files_that_are_not_local(tmp_path: Path, syntax: str) -> None:
    """The header costs a few requests, however many values there are."""
    ds = factories.dataset(PixelData=bytes(range(250)) * 8000)
    ds.add_new(0x00090010, "LO", "HOUNSFIELD TEST")
    for number in range(200):
        ds.add_new(0x00091000 + number, "OB", bytes([number]) * 500)
    file = factories.part10(ds, syntax)
    store = Remote(tmp_path / "dicom")
    archive = Archive(cast(Any, None), store, timedelta(0), 0)
    instance = stored(len(file), syntax)
    await store.put(instance.file_key, file)
    store.hidden = True
    data = await bulk_data.find(archive, instance)
    assert store.reads < 12
    by_key = {value.key: value for value in data.values}
    assert len(by_key) == 201
    store.hidden = False
    for number in (0, 7, 199):
        content = bulk_data.content(instance, data, by_key[f"000910{number:02X}"])
        assert await _contents(archive, store, content) == bytes([number]) * 500
    await store.close()


async def _contents(archive: Archive, store: Remote, content: Content) -> bytes:
    if content.source is not None:  # inflated again, from the store
        store.hidden = True
    try:
        return await read(archive, content, 0, content.size)
    finally:
        store.hidden = False


async def test_a_damaged_file_is_our_fault_not_the_client_s(archive: Archive) -> None:
    file = factories.instance()
    instance = stored(len(file))
    with pytest.raises(ObjectMissing):
        await bulk_data.find(archive, instance)
    for damaged in (file[:-10], file[:300], b"x" * 500):
        await archive.files.put(instance.file_key, damaged)
        with pytest.raises(InternalError):
            await bulk_data.find(archive, instance)
