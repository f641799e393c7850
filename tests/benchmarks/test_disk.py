"""The limit of storing writes what a store would, and leaves no space taken."""

from pathlib import Path

import pytest

from benchmarks.disk import DurableFiles, give_back
from benchmarks.studies import SMALL, Series


def test_files_are_written_and_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DurableFiles, "STUDY_SIZE", 2)
    client = DurableFiles(tmp_path, SMALL, 3)
    for _ in range(5):
        assert client.step() == 1
    client.finish()
    files = sorted(tmp_path.rglob("*.dcm"))
    assert [str(path.relative_to(tmp_path)) for path in files] == [
        f"client-3/{number // 2}/{number}.dcm" for number in range(5)
    ]
    series = Series(SMALL, 0, 3)
    assert [path.read_bytes() for path in files] == [series.instance(number % 2).file() for number in range(5)]
    give_back(tmp_path)
    assert [path.stat().st_size for path in sorted(tmp_path.rglob("*.dcm"))] == [0] * 5


def test_a_row_without_files_has_none_to_give_back(tmp_path: Path) -> None:
    give_back(tmp_path / "none")
