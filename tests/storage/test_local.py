"""Local files: durable in the right order, nothing left after a failure, races with deletions."""

import asyncio
import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from hounsfield.errors import InternalError, StoreUnavailable
from hounsfield.storage import local
from hounsfield.storage.local import LocalStore
from hounsfield.storage.spool import Spool, Upload
from tests import disk
from tests.disk import Disk


async def received(spool: Spool, data: bytes) -> Upload:
    upload = spool.receive()
    await upload.write(data)
    await upload.finish()
    return upload


def everything_below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


@pytest.fixture
def files(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "files")
    yield store
    asyncio.run(store.close())


class Recorder:
    """Writes down the system calls that matter for durability, with the path they concern."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.calls: list[tuple[str, str]] = []
        self._root = root
        for name in ("write", "fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._on_descriptor(name, getattr(os, name)))
        for name in ("mkdir", "rename"):
            monkeypatch.setattr(os, name, self._on_name(name, getattr(os, name)))

    def _on_descriptor(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(number: int, *arguments: object) -> object:
            path = Path(os.readlink(f"/proc/self/fd/{number}"))
            result = real(number, *arguments)
            self.calls.append((name, self._describe(path)))
            return result

        return call

    def _on_name(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **keywords: object) -> object:
            result = real(*arguments, **keywords)
            self.calls.append((name, self._describe(Path(str(arguments[-1 if name == "rename" else 0])))))
            return result

        return call

    def _describe(self, path: Path) -> str:
        if path.name.startswith(".tmp-"):
            return "temporary"
        return "root" if path == self._root else path.name


def test_everything_is_synced_before_the_put_returns(
    files: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch, tmp_path / "files")
    files.put_sync("study/series/object", b"x")
    assert recorder.calls == [
        ("mkdir", "study"),
        ("mkdir", "series"),
        ("write", "temporary"),
        ("rename", "object"),
        ("fsync", "object"),
        ("fsync", "series"),
        ("fsync", "root"),
        ("fsync", "study"),
    ]
    recorder.calls.clear()
    files.put_sync("study/series/second", b"x")
    assert recorder.calls == [
        ("write", "temporary"),
        ("rename", "second"),
        ("fsync", "second"),
        ("fsync", "series"),
    ]


def test_a_batch_is_synced_at_its_end(files: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch, tmp_path / "files")
    with files.batch() as put:
        for name in ("study/one/first", "study/one/second", "study/two/third"):
            put(name, [name.encode(), b" and more"])
        assert not [call for call, _ in recorder.calls if call == "fsync"]
        recorder.calls.clear()
    synced = ["first", "second", "third", "one", "root", "study", "two", "root", "study"]
    assert recorder.calls == [("fsync", name) for name in synced]
    assert (tmp_path / "files/study/two/third").read_bytes() == b"study/two/third and more"


def test_an_error_in_a_batch_leaves_what_came_before_it(
    files: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "", "/a/path")

    with pytest.raises(StoreUnavailable) as caught, files.batch() as put:
        put("study/first", b"1")
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", fail)
            put("study/second", b"2")
    assert "/a/path" not in caught.value.message
    assert everything_below(tmp_path / "files") == ["study", "study/first"]
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(StoreUnavailable), files.batch() as put:
            put("study/second", b"2")


async def test_only_names_are_synced_after_it_is_said_that_the_object_is_written(
    files: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch, tmp_path / "files")
    before: list[tuple[str, str]] = []
    await files.put("study/series/object", b"x", lambda: before.extend(recorder.calls))
    assert before[-1] == ("fsync", "object")
    assert recorder.calls[len(before) :] == [("fsync", "series"), ("fsync", "root"), ("fsync", "study")]


async def test_what_is_said_to_be_written_stays(
    files: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    def written() -> None:
        said.append(True)
        monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StoreUnavailable):
        await files.put("study/object", b"x", written)
    assert said == [True]
    assert (tmp_path / "files/study/object").read_bytes() == b"x"
    with pytest.raises(StoreUnavailable):
        await files.put("study/another", b"x", written)
    assert said == [True]
    assert everything_below(tmp_path / "files") == ["study", "study/object"]


async def test_where_names_do_not_follow_their_content_they_are_synced_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "NAMES_FOLLOW_CONTENT", frozenset())
    store = LocalStore(tmp_path / "files")
    recorder = Recorder(monkeypatch, tmp_path / "files")
    before: list[tuple[str, str]] = []
    await store.put("study/series/object", b"x", lambda: before.extend(recorder.calls))
    assert before[-4:] == [("fsync", "object"), ("fsync", "series"), ("fsync", "root"), ("fsync", "study")]
    assert recorder.calls == before
    await store.close()


def test_the_type_of_a_file_system() -> None:
    assert local.file_system_of(Path("/proc")) == "proc"


def test_directories_of_others_are_synced_too(
    files: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have made them a moment ago."""
    (tmp_path / "files" / "study" / "series").mkdir(parents=True)
    recorder = Recorder(monkeypatch, tmp_path / "files")
    files.put_sync("study/series/object", b"x")
    assert [call for call in recorder.calls if call[0] == "fsync"] == [
        ("fsync", "object"),
        ("fsync", "series"),
        ("fsync", "root"),
        ("fsync", "study"),
    ]


def test_the_root_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch, tmp_path)
    LocalStore(tmp_path / "a" / "b")
    synced = [name for call, name in recorder.calls if call == "fsync"]
    assert synced[:3] == ["a", "root", tmp_path.parent.name]


async def test_an_upload_in_a_file_is_moved_not_copied(files: LocalStore, spool: Spool, tmp_path: Path) -> None:
    upload = await received(spool, b"x" * 5000)
    assert upload.path is not None
    inode = upload.path.stat().st_ino
    await files.put("a/b", upload)
    assert (tmp_path / "files/a/b").stat().st_ino == inode
    upload.discard()
    spool.close()
    assert (tmp_path / "files/a/b").read_bytes() == b"x" * 5000
    assert everything_below(tmp_path / "spool") == []


async def test_a_moved_upload_is_synced_before_it_gets_its_name_and_after(
    files: LocalStore, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await received(spool, b"x" * 5000)
    recorder = Recorder(monkeypatch, tmp_path / "files")
    before: list[tuple[str, str]] = []
    await files.put("study/object", upload, lambda: before.extend(recorder.calls))
    moved = [("mkdir", "study"), ("fdatasync", "temporary"), ("rename", "object"), ("fsync", "object")]
    assert before == moved
    assert recorder.calls == [*moved, ("fsync", "study"), ("fsync", "root")]
    upload.discard()


async def test_an_upload_on_another_file_system_is_copied(
    files: LocalStore, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await received(spool, b"x" * 3_000_000)
    rename = os.rename

    def across(source: object, target: object, **keywords: int) -> None:
        if source == upload.path:
            raise OSError(errno.EXDEV, "")
        rename(str(source), str(target), **keywords)

    monkeypatch.setattr(os, "rename", across)
    await files.put("a/b", upload)
    upload.discard()
    assert (tmp_path / "files/a/b").read_bytes() == b"x" * 3_000_000
    assert everything_below(tmp_path / "spool") == []


@pytest.mark.parametrize("size", [10, 5000], ids=["in memory", "in a file"])
async def test_a_discarded_upload_cannot_be_put(files: LocalStore, spool: Spool, tmp_path: Path, size: int) -> None:
    """A cancelled request discards its upload while a thread may still be about to store it."""
    upload = await received(spool, b"x" * size)
    upload.discard()
    with pytest.raises(InternalError):
        await files.put("a/b", upload)
    assert not (tmp_path / "files/a/b").exists()


@pytest.mark.parametrize("size", [10, 5000], ids=["in memory", "in a file"])
async def test_files_are_not_for_everybody(files: LocalStore, spool: Spool, tmp_path: Path, size: int) -> None:
    await files.put("a/b", await received(spool, b"x" * size))
    assert stat.S_IMODE((tmp_path / "files/a/b").stat().st_mode) & 0o007 == 0
    assert stat.S_IMODE((tmp_path / "files/a").stat().st_mode) & 0o007 == 0


async def test_emptied_directories_go(files: LocalStore, tmp_path: Path) -> None:
    for key in ("p/s/e/1", "p/s/e/2", "p/t/e/1"):
        await files.put(key, b"")
    await files.delete_many(["p/s/e/1"])
    assert everything_below(tmp_path / "files") == ["p", "p/s", "p/s/e", "p/s/e/2", "p/t", "p/t/e", "p/t/e/1"]
    await files.delete_many(["p/s/e/2"])
    assert everything_below(tmp_path / "files") == ["p", "p/t", "p/t/e", "p/t/e/1"]
    await files.delete_many(["p/t/e/1"])
    assert everything_below(tmp_path / "files") == []
    await files.put("p/t/e/1", b"again")
    assert await files.get_many(["p/t/e/1"]) == [b"again"]


async def test_deletions_are_synced(files: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await files.put("a/b/1", b"")
    await files.put("a/c/1", b"")
    recorder = Recorder(monkeypatch, tmp_path / "files")
    await files.delete_many(["a/b/1"])
    assert recorder.calls == [("fsync", "a")]


async def test_a_deletion_is_never_lost_on_another_directory(files: LocalStore, tmp_path: Path) -> None:
    """As when the volume is mounted elsewhere, or an empty folder shows where it was."""
    await files.put("study/series/object", b"x")
    (tmp_path / "files").rename(tmp_path / "moved")
    (tmp_path / "files").mkdir()
    await files.delete_many(["study/series/object"])
    assert everything_below(tmp_path / "moved") == []


def test_puts_race_with_deletions_that_remove_the_directory(tmp_path: Path) -> None:
    """Two stores, as in two processes: one empties the directory again and again while the other fills it."""
    stores = [LocalStore(tmp_path / "files"), LocalStore(tmp_path / "files")]
    wrong = threading.Event()

    def put_and_delete(worker: int) -> None:
        for number in range(25):
            if wrong.is_set():
                return
            key = f"study/series/{worker}-{number}"
            try:
                stores[worker % 2].put_sync(key, key.encode())
                assert (tmp_path / "files" / key).read_bytes() == key.encode()
                asyncio.run(stores[(worker + 1) % 2].delete_many([key]))
            except BaseException:
                wrong.set()
                raise

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put_and_delete, range(4)))
    assert everything_below(tmp_path / "files") == []
    for store in stores:
        asyncio.run(store.close())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["open", "mkdir", "write", "rename", "fsync"])
def test_nothing_is_left_of_a_failed_put(
    files: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    files.put_sync("other/object", b"x")

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), "/a/path")

    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail)
        with pytest.raises(StoreUnavailable) as caught:
            files.put_sync("study/series/object", b"x")
    assert "/a/path" not in caught.value.message
    assert everything_below(tmp_path / "files") == ["other", "other/object"]
    files.put_sync("study/series/object", b"x")
    assert (tmp_path / "files/study/series/object").read_bytes() == b"x"


def test_a_failed_sync_above_undoes_the_put(files: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    real = os.fsync

    def third_fails(number: int) -> None:
        syncs.append(number)
        if len(syncs) == 3:
            raise OSError(errno.EIO, "")
        real(number)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", third_fails)
        with pytest.raises(StoreUnavailable):
            files.put_sync("study/series/object", b"x")
    assert everything_below(tmp_path / "files") == []


def test_short_writes_are_continued(files: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda number, data: real(number, bytes(data[:7])))
    files.put_sync("a", bytes(range(100)))
    assert (tmp_path / "files/a").read_bytes() == bytes(range(100))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of 1 MiB."""
    with disk.small_disk(tmp_path / "disk", "1m") as mounted:
        yield mounted


async def test_a_full_disk(small_disk: Disk) -> None:
    store = LocalStore(small_disk.directory / "files")
    spool = Spool(small_disk.directory / "spool", memory_limit=1000)
    await store.put("a/first", b"x" * 600_000)
    with pytest.raises(StoreUnavailable, match="full"):
        await store.put("a/second", b"x" * 600_000)
    with pytest.raises(StoreUnavailable, match="full"):
        await store.put("b/c/second", [b"x" * 100_000] * 6)
    upload = spool.receive()
    with pytest.raises(StoreUnavailable, match="full"):
        for _ in range(20):
            await upload.write(b"x" * 600_000)
    upload.discard()
    spool.close()
    assert everything_below(small_disk.directory) == ["files", "files/a", "files/a/first", "spool"]
    await store.put("b/c/second", b"x" * 300_000)
    assert await store.get_many(["a/first"]) == [b"x" * 600_000]
    await store.close()


async def test_a_read_only_disk(small_disk: Disk) -> None:
    store = LocalStore(small_disk.directory / "files")
    await store.put("a/first", b"x")
    small_disk.turn("ro")
    for key in ("a/second", "b/second"):
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store.put(key, b"x")
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.delete_many(["a/first"])
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.check()
    with pytest.raises(StoreUnavailable, match="read-only"):
        Spool(small_disk.directory / "spool")
    assert await store.get_many(["a/first"]) == [b"x"]
    await store.close()


async def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable):
        LocalStore(tmp_path / "file" / "files")


async def test_leftover_temporaries_are_swept(files: LocalStore, tmp_path: Path) -> None:
    await files.put("a/b/object", b"x")
    root = tmp_path / "files"
    (root / "dead/series").mkdir(parents=True)
    for name in ("a/b/.tmp-old", "dead/series/.tmp-old", ".tmp-old", "a/b/.tmp-new"):
        (root / name).write_bytes(b"half")
        if name.endswith("old"):
            os.utime(root / name, (time.time() - 7200,) * 2)
    assert [found.key async for found in files.list()] == ["a/b/object"]
    assert await files.sweep_temporary(timedelta(hours=1)) == 3
    assert everything_below(root) == ["a", "a/b", "a/b/.tmp-new", "a/b/object"]


def test_more_directories_than_are_remembered(files: LocalStore) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(300):
        files.put_sync(f"study{number}/series/object", b"x")
    assert len(os.listdir("/proc/self/fd")) - before <= 130
    files.put_sync("study0/series/second", b"x")


PUT_FOREVER = """
import sys, threading
from pathlib import Path
from hounsfield.storage.local import LocalStore

store = LocalStore(Path(sys.argv[1]))
lock = threading.Lock()

def work(worker):
    number = 0
    while True:
        key = f"{sys.argv[2]}/{number // 20}/{worker}-{number}"
        store.put_sync(key, key.encode() * 3000)
        with lock:
            print(key, flush=True)
        number += 1

for worker in range(4):
    threading.Thread(target=work, args=(worker,), daemon=True).start()
threading.Event().wait()
"""


def test_kill_9_loses_no_acknowledged_object_and_shows_no_half(tmp_path: Path) -> None:
    root = tmp_path / "files"
    acknowledged: set[str] = set()
    for round_number in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", PUT_FOREVER, str(root), f"round{round_number}"], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        acknowledged.add(child.stdout.readline().strip())
        time.sleep(0.02 + round_number * 0.011)
        child.kill()
        acknowledged.update(line.strip() for line in child.stdout if line.endswith("\n"))
        child.stdout.close()
        child.wait()
    assert len(acknowledged) > 100
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    visible = {name for name in found if "/.tmp-" not in name}
    assert acknowledged <= visible
    for name in visible:
        assert (root / name).read_bytes() == name.encode() * 3000
    store = LocalStore(root)
    assert asyncio.run(store.sweep_temporary(timedelta(0))) == len(found - visible)
    asyncio.run(store.close())
