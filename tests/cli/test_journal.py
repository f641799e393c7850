import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hounsfield.cli.journal import Journal, JournalUnusable, default_path
from hounsfield.cli.sources import Source


def source(label: str, size: int = 1, stamp: str = "1") -> Source:
    return Source(label, size, stamp, lambda: Path(label).open("rb"), on_disk=True)


def test_knows_what_was_acknowledged_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.sqlite"
    with Journal(path, "http://a/v2") as journal:
        journal.acknowledge([source("x"), source("bad\udcff name")])
    assert path.stat().st_mode & 0o077 == 0, "file names are nobody else's business"
    with Journal(path, "http://a/v2") as journal, Journal(path, "http://b/v2") as other:
        assert journal.knows(source("x"))
        assert journal.knows(source("bad\udcff name"))
        assert not journal.knows(source("x", size=2))
        assert not journal.knows(source("x", stamp="2"))
        assert not journal.knows(source("y"))
        assert not other.knows(source("x"))
        other.acknowledge([source("x")])
        journal.forget()
        assert not journal.knows(source("x"))
        assert other.knows(source("x"))


def test_two_uploads_may_begin_at_the_same_time(tmp_path: Path) -> None:
    for number in range(100):
        ready = threading.Barrier(4)

        def begin(path: Path = tmp_path / f"{number}", ready: threading.Barrier = ready) -> bool:
            ready.wait()
            with Journal(path, "http://a/v2") as journal:
                journal.acknowledge([source("x")])
                return journal.knows(source("x"))

        with ThreadPoolExecutor(4) as threads:
            assert [future.result() for future in [threads.submit(begin) for _ in range(4)]] == [True] * 4


def test_two_uploads_may_write_at_the_same_time(tmp_path: Path) -> None:
    def write(name: str) -> None:
        with Journal(tmp_path / "j", "http://a/v2") as journal:
            for number in range(50):
                journal.acknowledge([source(f"{name}{number}")])

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Journal(tmp_path / "j", "http://a/v2") as journal:
        assert all(journal.knows(source(f"{name}{number}")) for name in "ab" for number in range(50))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to look at" * 50)
    with pytest.raises(JournalUnusable, match="--journal"):
        Journal(tmp_path / "text", "http://a/v2")
    with pytest.raises(JournalUnusable, match="--journal"):
        Journal(tmp_path / "text" / "below a file", "http://a/v2")


def test_default_is_in_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "hounsfield" / "uploads.sqlite"
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".local" / "state" / "hounsfield" / "uploads.sqlite"
