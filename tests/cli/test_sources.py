import os
import zipfile
from pathlib import Path

import pytest

from hounsfield.cli.sources import Scan, Source, Unreadable, is_dicom, open_source, read_exactly
from tests.cli.dicom_files import folder_of, instance

META = b"\x02\x00\x00\x00UL\x04\x00\x9a\x00\x00\x00"


def labels(scan: Scan) -> list[str]:
    return [source.label for source in scan.sources()]


@pytest.mark.parametrize(
    ("head", "name", "expected"),
    [
        (instance(1)[:1024], "x", True),
        (instance(1)[:1024], "dicomdir", False),
        (bytes(128) + b"DICM" + META + b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10\0", "x.dcm", False),
        (bytes(128) + b"DICM" + META + b"\x02\x00\x02\x00UI\x16\x001.2.840.10008.1.3.100\0", "x.dcm", True),
        (META + bytes(200), "no preamble", True),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(200), "no meta, explicit", True),
        (b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100" + bytes(200), "no meta, implicit", True),
        (b"\x00\x08\x00\x08CS\x00\x0aORIGINAL\\P" + bytes(200), "no meta, big endian", True),
        (META, "too short", False),
        (b"", "empty", False),
        (b"%PDF-1.7" + bytes(1000), "x.pdf", False),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), "x.png", False),
        (bytes(1024), "zeros", False),
        (b"\x08\x00\x05\x00\xff\xff\xff\x7f" + bytes(200), "an implausible length", False),
    ],
)
def test_detection(head: bytes, name: str, expected: bool) -> None:
    assert is_dicom(head, name) is expected


def test_walk_is_ordered_and_counts_the_rest(tmp_path: Path) -> None:
    paths = folder_of(tmp_path / "b", 2) + folder_of(tmp_path / "a" / "z", 1)
    (tmp_path / "a" / "note.txt").write_text("x")
    os.mkfifo(tmp_path / "a" / "pipe")
    os.symlink(tmp_path, tmp_path / "a" / "loop")
    os.symlink(tmp_path / "nowhere", tmp_path / "a" / "dangling")
    scan = Scan([tmp_path])
    assert labels(scan) == [str(path) for path in (paths[2], paths[0], paths[1])]
    assert scan.not_dicom == 2
    assert [Path(problem.label).name for problem in scan.unreadable] == ["dangling"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    scan = Scan([tmp_path])
    assert labels(scan) == []
    assert [Path(problem.label).name for problem in scan.unreadable] == ["closed"]


def test_relative_paths_have_the_same_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = folder_of(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    assert labels(Scan([Path(path.name)])) == labels(Scan([Path()])) == [str(path)]


def test_zip_named_otherwise_is_one_only_when_asked_for(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.bin", "w") as archive:
        archive.writestr("a/1", instance(1))
    assert labels(Scan([tmp_path])) == []
    assert labels(Scan([tmp_path / "export.bin"])) == [f"{tmp_path / 'export.bin'}!a/1"]


def test_stamp_tells_changed_content_and_equal_names_apart(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("same", instance(1))
        archive.writestr("same", instance(2))
    first, second = Scan([tmp_path]).sources()
    assert (first.label, first.size) == (second.label, second.size)
    assert first.stamp != second.stamp
    with first.open() as one, second.open() as two:
        assert one.read() != two.read()


def test_encrypted_member_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("secret", instance(1))
        archive.writestr("open", instance(2))
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    scan = Scan([path])
    assert labels(scan) == [f"{path}!open"]
    (problem,) = scan.unreadable
    assert "encrypted" in problem.message


def test_member_that_is_shorter_than_it_claims(tmp_path: Path) -> None:
    (path,) = folder_of(tmp_path, 1)
    size = path.stat().st_size
    source = Source(str(path), size + 10, "", lambda: path.open("rb"), on_disk=False)
    with open_source(source) as file, pytest.raises(Unreadable, match="ends early"):
        list(read_exactly(source, file, 1000))


def test_file_that_changed_size_is_not_sent(tmp_path: Path) -> None:
    (source,) = Scan(folder_of(tmp_path, 1)).sources()
    Path(source.label).write_bytes(instance(1, pixels=9000))
    with pytest.raises(Unreadable, match="size changed"):
        open_source(source)


def test_file_that_vanished_is_unreadable(tmp_path: Path) -> None:
    (source,) = Scan(folder_of(tmp_path, 1)).sources()
    Path(source.label).unlink()
    with pytest.raises(Unreadable, match="No such file"):
        open_source(source)
