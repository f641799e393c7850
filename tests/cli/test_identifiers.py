import io
import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.cli.identifiers import Identifiers, read_identifiers
from tests.cli.dicom_files import instance

WANTED = Identifiers("1.2.3", "1.2.3.4", "1.2.3.4.7")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"])
def test_encodings(syntax: str) -> None:
    assert read_identifiers(io.BytesIO(instance(7, syntax=syntax))) == WANTED


def test_without_preamble_and_cut_off() -> None:
    content = instance(7)
    assert read_identifiers(io.BytesIO(content[:-1500])) == WANTED
    meta = 132 + 12 + int.from_bytes(content[140:144], "little")
    assert read_identifiers(io.BytesIO(content[meta:])) == WANTED


def test_deflate_bomb_costs_little() -> None:
    content = instance(7, syntax="1.2.840.10008.1.2.1.99")
    start = 144 + int.from_bytes(content[140:144], "little")
    dataset = zlib.decompress(content[start:], -15)
    squeeze = zlib.compressobj(9, wbits=-15)
    bomb = squeeze.compress(dataset) + b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(200)) + squeeze.flush()
    assert len(bomb) < 300_000
    assert read_identifiers(io.BytesIO(content[:start] + bomb)) == WANTED


@given(st.binary(max_size=400))
def test_never_raises(data: bytes) -> None:
    read_identifiers(io.BytesIO(data))
    read_identifiers(io.BytesIO(bytes(128) + b"DICM" + data))


def test_no_path_can_be_made_of_them() -> None:
    content = instance(7).replace(b"1.2.3.4.7\0", b"../../abc\0")
    assert read_identifiers(io.BytesIO(content)) == Identifiers("1.2.3", "1.2.3.4", "")


def samples() -> Path | None:
    folder = Path(os.environ.get("HOUNSFIELD_SAMPLES") or Path(__file__).parents[3] / "shared" / "data" / "dicom")
    return folder if (folder / "MANIFEST.tsv").exists() else None


@pytest.mark.skipif(samples() is None, reason="no sample files: set HOUNSFIELD_SAMPLES to their folder")
@pytest.mark.filterwarnings("ignore")
def test_every_sample_that_a_server_stores_is_identified() -> None:
    folder = samples()
    assert folder is not None
    lines = (folder / "MANIFEST.tsv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split("\t")
    checked = 0
    for line in lines[1:]:
        row = dict(zip(names, line.split("\t"), strict=False))
        if row["v2_outcome"].startswith("stored"):
            with (folder / row["file"]).open("rb") as file:
                assert all(read_identifiers(file)), row["file"]
            checked += 1
    assert checked > 300
