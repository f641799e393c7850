"""Zip files written front to back, read by others."""

import io
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.archive.zip_archive import Entry, ZipWriter, zip_length

MOMENT = time.strptime("2024-02-03 04:05:06", "%Y-%m-%d %H:%M:%S")
FILES = st.dictionaries(
    st.from_regex(r"[0-9.]{1,20}/[0-9.]{1,20}\.dcm", fullmatch=True),
    st.tuples(st.binary(max_size=400), st.booleans(), st.booleans()),
    max_size=12,
)


def written(files: dict[str, tuple[bytes, bool, bool]]) -> tuple[bytes, int | None]:
    """The file, and its length as said before. Of each: content, whether it is whole, whether its size is known."""
    writer, pieces = ZipWriter(MOMENT), []
    entries = []
    for name, (content, whole, known) in files.items():
        entry = Entry(name, len(content) if known or whole else None, whole)
        entries.append(entry)
        pieces.append(writer.begin(entry, content))
        for start in range(0, len(content), 100):
            writer.add(content[start : start + 100])
        pieces += content, writer.finish(entry)
    return b"".join([*pieces, writer.end()]), zip_length(entries)


def check(files: dict[str, tuple[bytes, bool, bool]]) -> bytes:
    body, length = written(files)
    if all(whole or known for _, whole, known in files.values()):
        assert length == len(body)
    else:
        assert length is None
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {n: each[0] for n, each in files.items()}
        for entry in archive.infolist():
            assert entry.date_time == (2024, 2, 3, 4, 5, 6)
            assert entry.external_attr >> 16 == 0o100644
    return body


@given(FILES)
def test_zipfile_reads_it(files: dict[str, tuple[bytes, bool, bool]]) -> None:
    check(files)


def test_more_entries_than_two_bytes_count() -> None:
    files = {f"{number}.dcm": (b"", True, True) for number in range(70_000)}
    body, length = written(files)
    assert length == len(body)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert len(archive.namelist()) == 70_000


def test_a_content_of_another_length_is_refused() -> None:
    writer = ZipWriter()
    entry = Entry("a", 5, True)
    writer.begin(entry, b"1234")
    writer.add(b"1234")
    with pytest.raises(ValueError, match="long"):
        writer.finish(entry)


@pytest.mark.slow
def test_more_than_four_gigabytes(tmp_path: Path) -> None:
    """Two entries beyond the limit, the second of them at a position beyond it."""
    piece = bytes(1 << 24)
    count = 257
    entries = [Entry("1.dcm", len(piece) * count, False), Entry("2.dcm", 3, True), Entry("3.dcm", 3, False)]
    writer = ZipWriter(MOMENT)
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        file.write(writer.begin(entries[0]))
        for _ in range(count):
            writer.add(piece)
            file.seek(len(piece), io.SEEK_CUR)
        file.write(writer.finish(entries[0]))
        for entry in entries[1:]:
            file.write(writer.begin(entry, b"abc"))
            writer.add(b"abc")
            file.write(b"abc" + writer.finish(entry))
        file.write(writer.end())
    assert path.stat().st_size == zip_length(entries)
    with zipfile.ZipFile(path) as archive:
        assert [entry.file_size for entry in archive.infolist()] == [len(piece) * count, 3, 3]
        assert archive.read("2.dcm") == archive.read("3.dcm") == b"abc"
        with archive.open("1.dcm") as content:
            assert content.read(100) == bytes(100)
    unzip = subprocess.run(["unzip", "-Z1", str(path)], capture_output=True, text=True, check=False)
    assert unzip.returncode != 0 or unzip.stdout.split() == ["1.dcm", "2.dcm", "3.dcm"]
