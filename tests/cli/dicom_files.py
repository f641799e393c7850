"""Small DICOM files for the tests of the client commands."""

import io
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian


def instance(
    number: int = 1,
    *,
    study: str = "1.2.3",
    series: str = "1.2.3.4",
    pixels: int = 2000,
    syntax: str = ExplicitVRLittleEndian,
) -> bytes:
    """A Part 10 file with SOP Instance UID ``{series}.{number}``."""
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{series}.{number}"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.StudyDate = "20240131"
    dataset.PatientName = "Doe^John"
    dataset.PatientID = f"P{study}"
    dataset.Modality = "CT"
    dataset.StudyDescription = "Thorax"
    dataset.InstanceNumber = number
    dataset.PixelData = (b"\r\n--" * (pixels // 4 + 1))[: pixels + pixels % 2]
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    file = io.BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def folder_of(folder: Path, count: int, **options: int | str) -> list[Path]:
    """Writes that many instances of one series into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.dcm" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        path.write_bytes(instance(number, **options))  # type: ignore[arg-type]
    return paths
