"""The sample files: a few in tests/data/dicom, those of the installed pydicom, a larger set where there is one."""

import csv
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

HERE = Path(__file__).parent.parent / "data" / "dicom"
LARGE = Path(os.environ.get("HOUNSFIELD_SAMPLES") or Path(__file__).parents[2] / ".." / "shared" / "data" / "dicom")
WITHOUT_LARGE = "no large sample set: set HOUNSFIELD_SAMPLES to its folder"


@dataclass(frozen=True)
class Sample:
    """One row of a manifest. About ``quirks`` the reference warns by mistake: a warning is neither needed nor wrong."""

    name: str
    path: Path
    outcomes: dict[int, str]
    warning_tags: frozenset[str]
    quirks: frozenset[str]
    frames: int | None


def _path(folder: Path, name: str) -> Path:
    if not name.startswith("pydicom:"):
        return folder / name
    found = get_testdata_file(name.removeprefix("pydicom:"), download=False)
    assert found is not None, name
    return Path(str(found))


def _sample(folder: Path, row: dict[str, str]) -> Sample:
    causes = dict(tag.partition("=")[::2] for tag in row["warning_tags"].split())
    quirks = frozenset(tag for tag, cause in causes.items() if "reference_quirk" in cause)
    frames = int(row["frames"]) if row["frames"].isdigit() else None
    outcomes = {1: row["v1_outcome"], 2: row["v2_outcome"]}
    return Sample(row["file"], _path(folder, row["file"]), outcomes, frozenset(causes) - quirks, quirks, frames)


def manifest(folder: Path) -> list[Sample]:
    """The rows of a folder's manifest; none if there is no such folder."""
    if not (folder / "MANIFEST.tsv").exists():
        return []
    with (folder / "MANIFEST.tsv").open(newline="") as file:
        return [_sample(folder, row) for row in csv.DictReader(file, delimiter="\t")]


SMALL_SET = manifest(HERE)
LARGE_SET = manifest(LARGE)


def pydicom_read(path: Path, **options: bool) -> Dataset:
    """pydicom's reading of a file, its complaints ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path, **options)  # type: ignore[arg-type]
