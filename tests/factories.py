"""DICOM files made for tests, and what is sent with them."""

import io
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit

_numbers = itertools.count(100_000)
"""All of one length: what one request stores is filed in the order of its UIDs, as text."""
CT = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def uid() -> str:
    """A UID not given out before in this process."""
    return f"1.2.826.0.1.3680043.10.999.{next(_numbers)}"


@disable_value_validation()
def dataset(**attributes: Any) -> Dataset:
    """A small CT instance: one 8 × 8 16-bit frame; keywords replace attributes, valid or not; None removes one."""
    ds = Dataset()
    ds.SOPClassUID = CT
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(), uid(), uid()
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "PAT-1", "Doe^John", "19700102", "M"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20240131", "101112", "ACC-1"
    ds.StudyDescription, ds.ReferringPhysicianName, ds.StudyID = "Chest", "Ref^Anna", "1"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "CT", 1, 1
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 16, 12, 11
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.PixelData = np.arange(64, dtype="<u2").tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


@disable_value_validation()
def part10(ds: Dataset, transfer_syntax: str = ExplicitVRLittleEndian, *, preamble: bytes = b"\0" * 128) -> bytes:
    """The dataset as a DICOM file."""
    syntax = UID(transfer_syntax)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = _uid_or(ds.get("SOPClassUID"), CT)
    ds.file_meta.MediaStorageSOPInstanceUID = _uid_or(ds.get("SOPInstanceUID"), "1.2.3")
    buffer = io.BytesIO()
    dcmwrite(
        buffer, ds, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian
    )
    return preamble + buffer.getvalue()[128:]


def _uid_or(value: Any, default: str) -> UID:
    return UID(value if isinstance(value, str) and value else default)


def instance(transfer_syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """:func:`dataset` as a file."""
    return part10(dataset(**attributes), transfer_syntax)


def encapsulated(
    frames: Sequence[bytes], *, offset_table: bool = True, syntax: str = JPEGBaseline8Bit, **attributes: Any
) -> bytes:
    """An instance whose frames are ``frames``, one fragment each, marked as JPEG baseline."""
    ds = dataset(NumberOfFrames=len(frames), BitsAllocated=8, BitsStored=8, HighBit=7, **attributes)
    ds.PixelData = encapsulate(list(frames), has_bot=offset_table)
    ds["PixelData"].is_undefined_length = True
    return part10(ds, syntax)


def multipart(
    files: Iterable[bytes], *, boundary: str = "frontier", part_type: str = "application/dicom"
) -> tuple[bytes, dict[str, str]]:
    """A STOW-RS body and its headers."""
    head = f"--{boundary}\r\nContent-Type: {part_type}\r\n\r\n".encode()
    body = b"".join(head + file + b"\r\n" for file in files) + f"--{boundary}--\r\n".encode()
    return body, {"content-type": f'multipart/related; type="application/dicom"; boundary={boundary}'}
