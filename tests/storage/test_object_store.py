"""What every object store promises, over local files, S3 and Azure."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from hounsfield.storage.cloud import WINDOW
from hounsfield.storage.errors import InvalidKey, ObjectMissing, ObjectTruncated
from hounsfield.storage.local import LocalStore
from hounsfield.storage.object_store import PROBE_FOLDER, Buffer, ObjectStore, Splice
from hounsfield.storage.spool import Spool


async def contents(store: ObjectStore, key: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.get(key, offset, length)])


async def keys(store: ObjectStore, prefix: str = "", start_after: str = "") -> list[str]:
    return [found.key async for found in store.list(prefix, start_after)]


@pytest.mark.parametrize(
    "source",
    [b"", b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4], [b"a", bytearray(b"b"), memoryview(b"c")]],
    ids=["empty", "bytes", "bytearray", "memoryview", "pieces"],
)
async def test_what_was_put_can_be_read(store: ObjectStore, source: Buffer) -> None:
    expected = b"abc" if len(source) else b""
    await store.put("a/b/c.dcm", source)
    assert await contents(store, "a/b/c.dcm") == expected
    assert await store.get_many(["a/b/c.dcm"]) == [expected]
    assert await store.size("a/b/c.dcm") == len(expected)


async def test_a_put_replaces_the_whole_object(store: ObjectStore) -> None:
    await store.put("a/b", b"long content")
    await store.put("a/b", b"short")
    assert await contents(store, "a/b") == b"short"


@pytest.mark.parametrize("size", [0, 1000, 1001, 3_000_000], ids=["empty", "in memory", "just in a file", "large"])
async def test_an_upload_can_be_put(store: ObjectStore, spool: Spool, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    upload = spool.receive()
    for start in range(0, size, 700_001):
        await upload.write(data[start : start + 700_001])
    await upload.finish()
    await store.put("a/upload", upload)
    assert upload.read_at(0, size) == data, "still readable after the put"
    upload.discard()
    assert await contents(store, "a/upload") == data


@pytest.mark.parametrize("size", [WINDOW - 1, WINDOW, 2 * WINDOW + 5])
async def test_large_objects_are_read_in_bounded_chunks(store: ObjectStore, size: int) -> None:
    data = b"0123456789abcdef" * (size // 16) + b"x" * (size % 16)
    await store.put("large", data)
    chunks = [chunk async for chunk in store.get("large")]
    assert max(map(len, chunks)) <= WINDOW
    assert b"".join(chunks) == data
    assert await contents(store, "large", 5, size - 7) == data[5:-2]


async def test_parts_of_an_object(store: ObjectStore) -> None:
    await store.put("k", b"0123456789")
    assert await store.get_range("k", 2, 3) == b"234"
    assert await store.get_range("k", 7, 3) == b"789"
    assert await store.get_range("k", 10, 0) == b""
    assert await contents(store, "k", 4) == b"456789"
    assert await contents(store, "k", 4, 2) == b"45"
    assert await contents(store, "k", 4, 0) == b""
    assert await contents(store, "k", 10) == b""


@pytest.mark.parametrize(("offset", "length"), [(8, 3), (10, 1), (11, 1), (0, 11)])
async def test_a_part_behind_the_end_is_an_error(store: ObjectStore, offset: int, length: int) -> None:
    await store.put("k", b"0123456789")
    with pytest.raises(ObjectTruncated):
        await store.get_range("k", offset, length)
    with pytest.raises(ObjectTruncated):
        await contents(store, "k", offset, length)


async def test_an_object_made_of_another(store: ObjectStore) -> None:
    content = bytes(range(256)) * 40_000
    await store.put("splice/source", content)
    pieces: list[bytes | tuple[int, int]] = [b"head", (5, 10), b"", (100, len(content) - 100), b"end"]
    expected = b"head" + content[5:15] + content[100:] + b"end"
    for small in (1, 1 << 30):
        splice = Splice("splice/source", pieces, small=small, window=1 << 20)
        assert splice.size == len(expected)
        await store.put("splice/made", splice)
        assert await store.get_many(["splice/made"]) == [expected]
    for gone in (Splice("splice/none", [(0, 1)]), Splice("splice/source", [(len(content) - 1, 2)])):
        with pytest.raises((ObjectMissing, ObjectTruncated)):
            await store.put("splice/never", gone)
    assert await store.missing(["splice/never"]) == ["splice/never"]


async def test_a_missing_object_is_an_error(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing):
        await contents(store, "a/b")
    with pytest.raises(ObjectMissing):
        await store.get_range("a/b", 0, 1)
    with pytest.raises(ObjectMissing):
        await store.size("a/b")
    with pytest.raises(ObjectMissing):
        await store.get_many(["a/b"])


async def test_missing_objects_are_told(store: ObjectStore) -> None:
    await store.put("a/b", b"1")
    await store.put("c", b"")
    assert await store.missing(["x", "a/b", "a/x", "c"]) == ["x", "a/x"]
    assert await store.missing([]) == []


async def test_many_objects_come_in_the_order_asked_for(store: ObjectStore) -> None:
    for number in range(20):
        await store.put(f"a/{number}", str(number).encode())
    assert await store.get_many(["a/17", "a/3", "a/3", "a/0"]) == [b"17", b"3", b"3", b"0"]


async def test_deleting_does_not_mind_missing_keys(store: ObjectStore) -> None:
    for key in ("a/b/1", "a/b/2", "a/c/1"):
        await store.put(key, b"x")
    await store.delete_many(["nothing", "a/b/1", "a/b/nothing", "a/c/1", "a/c/1"])
    assert await keys(store) == ["a/b/2"]
    await store.delete_many(["a/b/1"])
    await store.delete_many([])
    assert await keys(store) == ["a/b/2"]


async def test_many_objects_can_be_deleted_at_once(store: ObjectStore) -> None:
    names = [f"d/{number}" for number in range(300)]
    await asyncio.gather(*(store.put(name, b"") for name in names))
    await store.delete_many(names)
    assert await keys(store) == []


async def test_a_listing_is_in_the_order_of_the_keys(store: ObjectStore) -> None:
    names = ["a.b/c", "a/b", "a/b.c/d", "a/b/c" + "x", "a0/1", "b"]
    # A file and a folder of one name can only live in a cloud.
    names = [name for name in names if not (isinstance(store, LocalStore) and name == "a/b")]
    for name in names:
        await store.put(name, name.encode())
    assert await keys(store) == sorted(names)
    for position, name in enumerate(sorted(names)):
        assert await keys(store, start_after=name) == sorted(names)[position + 1 :]
    assert await keys(store, start_after="a/b/c") == [name for name in sorted(names) if name > "a/b/c"]


async def test_a_listing_of_a_folder(store: ObjectStore) -> None:
    for name in ("a/1", "a/2/3", "ab/1", "b"):
        await store.put(name, b"")
    assert await keys(store, "a/") == ["a/1", "a/2/3"]
    assert await keys(store, "a/", "a/1") == ["a/2/3"]
    assert await keys(store, "a/2/") == ["a/2/3"]
    assert await keys(store, "none/") == []


async def test_a_listing_tells_size_and_time(store: ObjectStore) -> None:
    await store.put("k", b"12345")
    (found,) = [found async for found in store.list()]
    assert (found.key, found.size) == ("k", 5)
    assert abs(found.modified - time.time()) < 60


BAD_KEYS = ["", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/..", ".", "./a", "a/.", "a\0b", "a/.tmp-1"]


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_keys_cannot_lead_outside(store: ObjectStore, tmp_path: Path, key: str) -> None:
    with pytest.raises(InvalidKey):
        await store.put(key, b"x")
    with pytest.raises(InvalidKey):
        await contents(store, key)
    with pytest.raises(InvalidKey):
        await store.get_range(key, 0, 1)
    with pytest.raises(InvalidKey):
        await store.size(key)
    with pytest.raises(InvalidKey):
        await store.delete_many(["fine", key])
    await store.put("fine", b"x")
    with pytest.raises(InvalidKey):
        list(store.open_each(["fine", key]) or [])


@pytest.mark.parametrize("key", ["...", "a..b/..c", "1.2.3/.x/-", "ü/ø"])
async def test_unusual_keys(store: ObjectStore, key: str) -> None:
    await store.put(key, b"x")
    assert await contents(store, key) == b"x"
    assert await keys(store) == [key]


async def test_concurrent_puts_into_one_folder(store: ObjectStore) -> None:
    names = [f"study/series{number % 3}/{number}" for number in range(48)]
    await asyncio.gather(*(store.put(name, name.encode() * 1000) for name in names))
    assert await store.get_many(names) == [name.encode() * 1000 for name in names]


async def test_which_of_many_are_missing(store: ObjectStore) -> None:
    names = [f"study/series/{number}" for number in range(40)]
    for name in names[::2]:
        await store.put(name, b"x")
    gone = [*names[1::2], *(f"study/nowhere/{number}" for number in range(20)), "study/series"]
    assert await store.missing([*names[::2], *gone]) == gone


async def test_a_reader_may_stop_early(store: ObjectStore) -> None:
    await store.put("large", bytes(3 * WINDOW))
    async for chunk in store.get("large"):
        assert chunk
        break
    await store.put("large", b"")


async def test_check_leaves_nothing(store: ObjectStore) -> None:
    await store.check()
    assert await keys(store, PROBE_FOLDER) == []


async def test_local_path(store: ObjectStore) -> None:
    await store.put("a/b", b"abc")
    path = store.local_path("a/b")
    assert (path is not None) == isinstance(store, LocalStore)
    assert path is None or path.read_bytes() == b"abc"


async def test_what_is_at_hand_is_what_a_range_gives(store: ObjectStore) -> None:
    data = bytes(range(256)) * 4096
    await store.put("study/series/at-hand", data)
    await store.get_range("study/series/at-hand", 0, len(data))
    found = bytearray(500_000)
    there = store.at_hand("study/series/at-hand", 1000, memoryview(found))
    if store.local_path("study/series/at-hand") is None:
        assert not there
    else:
        # Just written and read, so in the page cache; a kernel without RWF_NOWAIT may always say no.
        assert not there or found == data[1000:501_000]
    assert not store.at_hand("study/series/at-hand", len(data) - 10, memoryview(bytearray(20)))
    assert not store.at_hand("study/series/none", 0, memoryview(bytearray(1)))


async def test_part_of_an_object_as_part_of_an_open_file(store: ObjectStore) -> None:
    key = "study/series/abcde"
    await store.put(key, b"abcde")
    if store.local_path(key) is None:
        assert store.open_range(key, 1, 3) is None
        return
    for offset, length in ((0, 5), (1, 3), (4, 1), (5, 0)):
        found = store.open_range(key, offset, length)
        assert found is not None
        assert (found.offset, found.length) == (offset, length)
        assert os.pread(found.file.number, length, offset) == b"abcde"[offset : offset + length]
    for offset, length in ((0, 6), (4, 2), (6, 0)):
        with pytest.raises(ObjectTruncated):
            store.open_range(key, offset, length)
    with pytest.raises(ObjectMissing):
        store.open_range("study/series/none", 0, 1)
    with pytest.raises(InvalidKey):
        store.open_range("../abcde", 0, 1)


async def test_files_are_opened_as_they_are_asked_for(store: ObjectStore) -> None:
    for name in "abc":
        await store.put(f"study/series/{name}", name.encode() * 5)
    opened = store.open_each([f"study/series/{name}" for name in ("c", "a", "none", "b")])
    assert (opened is None) == (store.local_path("study/series/a") is None)
    if opened is None:
        return
    first = next(opened)
    await store.delete_many(["study/series/c"])
    assert os.pread(first.number, 100, 0) == b"ccccc"
    assert os.pread(next(opened).number, 100, 0) == b"aaaaa"
    with pytest.raises(ObjectMissing):
        next(opened)
    assert list(store.open_each([]) or []) == []
