"""Deterministic DICOM instances at the speed of a memory copy.

pydicom writes one header a kind; every instance after that is the same header with the values that make it unique
(identifiers, patient, dates, position) put into their places at equal length. So a load generator can send thousands
of different, valid instances a second and still leave the processor to the server.

The same seed gives the same bytes. Headers have about a hundred attributes, sequences and private blocks among them,
as clinical CT headers have; pixel data is noise below the stored bits where nothing is decoded, else a phantom.
"""

import io
import json
import random
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from typing import Any, NamedTuple

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit

from benchmarks import phantom

PIXEL_VARIANTS = 4
UNDEFINED_LENGTH = 0xFFFFFFFF
VARIANT_BYTES = 8 * 1024 * 1024
"""Larger pixel data have one variant only: every client of the load generator holds them."""
ITEM_HEADER_BYTES = 8
Metadata = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """What an instance looks like: its class and the shape of its pixels."""

    number: int
    modality: str
    sop_class: str
    rows: int
    columns: int
    bits: int
    frames: int = 1
    attributes: int | None = None
    """How many attributes an instance has besides its pixel data; None: all there are."""
    picture: bool = False
    """Whether the pixels show something (``phantom.py``)."""
    encapsulated: bool = False
    """Whether frames are fragments of what looks like JPEG from outside, found only by reading one after the other."""

    @property
    def frame_bytes(self) -> int:
        """Length of one frame in bytes."""
        return self.rows * self.columns * (2 if self.bits > 8 else 1)

    @property
    def transfer_syntax(self) -> UID:
        """Of the files."""
        return JPEGBaseline8Bit if self.encapsulated else ExplicitVRLittleEndian


CT = Kind(1, "CT", "1.2.840.10008.5.1.4.1.1.2", 512, 512, 12)
SMALL = Kind(2, "CT", "1.2.840.10008.5.1.4.1.1.2", 64, 38, 12)
CINE = Kind(3, "XA", "1.2.840.10008.5.1.4.1.1.12.1", 512, 512, 8, frames=100)
LARGE = Kind(5, "DX", "1.2.840.10008.5.1.4.1.1.1.1", 4096, 3840, 14)
DEEP = Kind(4, "XA", "1.2.840.10008.5.1.4.1.1.12.1", 64, 64, 8, frames=10_000)
PICTURE = Kind(6, "CT", "1.2.840.10008.5.1.4.1.1.2", 512, 512, 12, picture=True)
PLAIN = Kind(7, "CT", "1.2.840.10008.5.1.4.1.1.2", 64, 38, 12, attributes=79)
FRAGMENTED = Kind(8, "XA", "1.2.840.10008.5.1.4.1.1.12.1", 64, 64, 8, frames=10_000, encapsulated=True)


class Series:
    """One series: its identifiers, and its instances by number.

    Every value follows from the numbers given: seed < 10^12, study < 10^8, series < 1000, instance < 10^7.
    """

    def __init__(self, kind: Kind, seed: int, study: int, number: int = 1) -> None:
        self.kind = kind
        self._place = (kind.number, seed, study, number)
        template = _template(kind)
        shared = _series_values(*self._place)
        self.study = shared["study"].decode()
        self.uid = shared["series"].decode()
        self.patient_id = shared["patient_id"].decode()
        self.study_date = shared["study_date"].decode()
        self._head = template.head.part(shared)
        self._metadata = template.metadata.part(shared)
        self._pixels = template.pixels

    @property
    def path(self) -> str:
        """Path below a DICOMweb base URL."""
        return f"/studies/{self.study}/series/{self.uid}"

    def instance(self, number: int) -> "Instance":
        """Instance ``number`` (from 0) of the series."""
        values = _instance_values(*self._place, number)
        head = self._head.fill(values)
        return Instance(self, number, values["sop"].decode(), head, self._pixels[number % len(self._pixels)])

    def metadata_text(self, number: int) -> bytes:
        """DICOM JSON of instance ``number`` as pydicom would write it, bulk data left out; UTF-8."""
        return self._metadata.fill(_instance_values(*self._place, number))


class Instance(NamedTuple):
    """One Part 10 file and the identifiers it is found by."""

    series: Series
    number: int
    sop: str
    head: bytes
    pixels: bytes

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return len(self.head) + len(self.pixels)

    @property
    def path(self) -> str:
        """Path below a DICOMweb base URL."""
        return f"{self.series.path}/instances/{self.sop}"

    def file(self) -> bytes:
        """The whole file."""
        return self.head + self.pixels

    def frame(self, number: int) -> bytes:
        """Frame ``number`` (from 1)."""
        start = self.frame_start(number) - len(self.head)
        return self.pixels[start : start + self.series.kind.frame_bytes]

    def frame_start(self, number: int) -> int:
        """Where frame ``number`` (from 1) begins in the file."""
        before = ITEM_HEADER_BYTES if self.series.kind.encapsulated else 0
        # An empty offset table comes first.
        return len(self.head) + before + (number - 1) * (before + self.series.kind.frame_bytes) + before

    def metadata(self) -> Metadata:
        """DICOM JSON as pydicom would write it, bulk data left out."""
        found: Metadata = json.loads(self.series.metadata_text(self.number))
        return found


@dataclass(frozen=True)
class Collection:
    """Studies of one series each, all of the same shape, that every server gets before a measurement."""

    kind: Kind
    seed: int
    first_study: int
    studies: int
    instances: int

    def series(self, study: int = 0) -> Series:
        """The series of the ``study``-th study (from 0)."""
        return _series(self.kind, self.seed, self.first_study + study)

    def instance(self, number: int) -> Instance:
        """Instance ``number`` (from 0) of the first study, made once: it is asked for again and again."""
        return _instance(self.kind, self.seed, self.first_study, number)

    def __iter__(self) -> Iterator[Instance]:
        for study in range(self.studies):
            series = self.series(study)
            for number in range(self.instances):
                yield series.instance(number)

    def __len__(self) -> int:
        return self.studies * self.instances


@lru_cache(maxsize=64)
def _series(kind: Kind, seed: int, study: int) -> Series:
    return Series(kind, seed, study)


@lru_cache(maxsize=1024)
def _instance(kind: Kind, seed: int, study: int, number: int) -> Instance:
    return _series(kind, seed, study).instance(number)


class _Blanks:
    """Text with places for values, cut once and joined often."""

    def __init__(self, pieces: list[bytes], names: list[str]) -> None:
        self._pieces, self._names = pieces, names

    @classmethod
    def cut(cls, text: bytes, markers: Mapping[str, bytes]) -> "_Blanks":
        """Every occurrence of a marker in ``text`` becomes a place for the value of its name."""
        places = [(at, at + len(marker), name) for name, marker in markers.items() for at in _occurrences(text, marker)]
        pieces, names, end = [], [], 0
        for start, stop, name in sorted(places):
            if start < end:
                raise ValueError(f"the marker of {name} overlaps another")
            pieces.append(text[end:start])
            names.append(name)
            end = stop
        return cls([*pieces, text[end:]], names)

    def part(self, values: Mapping[str, bytes]) -> "_Blanks":
        """The same with ``values`` filled in and the other places left open."""
        pieces, names = [self._pieces[0]], []
        for name, piece in zip(self._names, self._pieces[1:], strict=True):
            if name in values:
                pieces[-1] += values[name] + piece
            else:
                names.append(name)
                pieces.append(piece)
        return _Blanks(pieces, names)

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        """The text with every place filled."""
        parts = [self._pieces[0]]
        for name, piece in zip(self._names, self._pieces[1:], strict=True):
            parts += values[name], piece
        return b"".join(parts)


def _occurrences(text: bytes, marker: bytes) -> Iterator[int]:
    at = text.find(marker)
    while at >= 0:
        yield at
        at = text.find(marker, at + len(marker))


@dataclass(frozen=True)
class _Template:
    head: _Blanks
    metadata: _Blanks
    pixels: tuple[bytes, ...]


_MARKED = (987_654_321_987, 98_765_432, 987)  # seed, study and series of the header that templates are cut from
_MARKED_INSTANCE = 7_654_321


def _uid(level: int, kind: int, seed: int, study: int, series: int, instance: int) -> bytes:
    """A UID of 38 characters under the UUID root (PS3.5 B.2)."""
    return b"2.25.1%d%012d%08d%03d%d%07d" % (kind, seed, study, series, level, instance)


def _series_values(kind: int, seed: int, study: int, series: int) -> dict[str, bytes]:
    """Values shared by a series; each has the same length whatever the numbers."""
    marked = (seed, study, series) == _MARKED
    return {
        "study": _uid(1, kind, seed, study, 0, 0),
        "frame_of_reference": _uid(2, kind, seed, study, 0, 0),
        "series": _uid(3, kind, seed, study, series, 0),
        "patient_id": b"BENCH%d-%012d-%08d" % (kind, seed, study),
        "patient_name": b"Bench%08d^Test^A" % study,
        "accession": b"A%d%03d%08d" % (kind, seed % 1000, study),
        "study_date": b"19990919" if marked else _date(study),
    }


def _instance_values(kind: int, seed: int, study: int, series: int, instance: int) -> dict[str, bytes]:
    """Values of one instance, equal in length as well."""
    marked = instance == _MARKED_INSTANCE
    second = instance // 4 % 3600
    return {
        "sop": _uid(4, kind, seed, study, series, instance),
        "instance_number": b"%d" % (100_000 + instance % 899_999),
        "position": b"9876.5" if marked else b"%.1f" % (1000 + instance % 8000 / 2),
        "content_time": b"11%02d%02d.%03d" % (second // 60, second % 60, instance % 4 * 250 + 5),
    }


def _date(study: int) -> bytes:
    """Study dates spread over ten years of 12 × 28 days."""
    day = study * 37 % 3360
    return b"%d%02d%02d" % (2015 + day // 336, 1 + day % 336 // 28, 1 + day % 28)


@cache
def _template(kind: Kind) -> _Template:
    place = (kind.number, *_MARKED)
    markers = _series_values(*place) | _instance_values(*place, _MARKED_INSTANCE)
    dataset = _header(kind, {name: value.decode() for name, value in markers.items()})
    file = io.BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    length = kind.frame_bytes * kind.frames
    stated = UNDEFINED_LENGTH if kind.encapsulated else length
    element = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW" if kind.bits > 8 else b"OB", 0, stated)
    shown = {tag: value for tag, value in dataset.to_json_dict().items() if value["vr"] not in ("OB", "OW", "UN")}
    variants = PIXEL_VARIANTS if kind.frames == 1 and length <= VARIANT_BYTES else 1
    return _Template(
        _Blanks.cut(file.getvalue() + element, markers),
        _Blanks.cut(json.dumps(shown, separators=(",", ":"), ensure_ascii=False).encode(), markers),
        tuple(_pixels(kind, length, variant) for variant in range(variants)),
    )


def _pixels(kind: Kind, length: int, variant: int) -> bytes:
    if kind.picture:
        return phantom.pixels(kind.rows, kind.columns, variant)
    rng = random.Random(f"{kind.number}/{variant}")  # noise, not secrets
    if kind.encapsulated:
        return _fragments(rng, kind)
    if kind.bits <= 8:
        return rng.randbytes(length)
    samples = bytearray(length)
    samples[0::2] = rng.randbytes(length // 2)
    top = bytes(value & (1 << kind.bits - 8) - 1 for value in range(256))
    samples[1::2] = rng.randbytes(length // 2).translate(top)
    return bytes(samples)


def _fragments(rng: random.Random, kind: Kind) -> bytes:
    """An item a frame behind an empty offset table (PS3.5 A.4); each begins and ends as JPEG does."""
    content = kind.frame_bytes - 4
    item = struct.pack("<HHL", 0xFFFE, 0xE000, kind.frame_bytes)
    pieces = [struct.pack("<HHL", 0xFFFE, 0xE000, 0)]
    for _ in range(kind.frames):
        # No byte of the coded data looks like a marker.
        pieces += item, b"\xff\xd8", rng.randbytes(content).replace(b"\xff", b"\x7f"), b"\xff\xd9"
    return b"".join([*pieces, struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)])


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _header(kind: Kind, values: Mapping[str, str]) -> Dataset:
    """Everything but the pixel data."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = kind.transfer_syntax
    dataset.file_meta.MediaStorageSOPClassUID = UID(kind.sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(values["sop"])
    dataset.file_meta.ImplementationClassUID = UID("2.25.183478926347816349872")
    dataset.file_meta.ImplementationVersionName = "BENCH_1"
    elements = _identity(values) | _image(kind, values) | _study(kind, values) | _requests() | _acquisition(kind)
    for keyword, value in islice(elements.items(), kind.attributes):
        setattr(dataset, keyword, value)
    if kind.attributes is None:
        _private(dataset)
    return dataset


def _identity(values: Mapping[str, str]) -> dict[str, Any]:
    return {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": values["patient_name"],
        "PatientID": values["patient_id"],
        "IssuerOfPatientID": "HOSPITAL",
        "PatientBirthDate": "19610412",
        "PatientSex": "F",
        "PatientAge": "061Y",
        "PatientSize": "1.68",
        "PatientWeight": "71",
        "EthnicGroup": "",
        "AdditionalPatientHistory": "Cough for two weeks, no fever, former smoker.",
        "PatientComments": "",
        "StudyInstanceUID": values["study"],
        "SeriesInstanceUID": values["series"],
        "SOPInstanceUID": values["sop"],
        "FrameOfReferenceUID": values["frame_of_reference"],
        "PositionReferenceIndicator": "",
    }


def _study(kind: Kind, values: Mapping[str, str]) -> dict[str, Any]:
    day = values["study_date"]
    reference = Dataset()
    reference.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    reference.ReferencedSOPInstanceUID = "2.25.77163543872634298734"
    return {
        "SOPClassUID": kind.sop_class,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "InstanceCreationDate": day,
        "InstanceCreationTime": values["content_time"],
        "StudyDate": day,
        "SeriesDate": day,
        "AcquisitionDate": day,
        "ContentDate": day,
        "StudyTime": "101112.131415",
        "SeriesTime": "101512.500000",
        "AcquisitionTime": "101513.250000",
        "ContentTime": values["content_time"],
        "AccessionNumber": values["accession"],
        "Modality": kind.modality,
        "Manufacturer": "ACME Medical",
        "InstitutionName": "General Hospital",
        "InstitutionAddress": "1 Main Street, Springfield",
        "ReferringPhysicianName": "Müller^Jürgen^^Dr",
        "StationName": "CT01",
        "StudyDescription": "CT THORAX ROUTINE",
        "SeriesDescription": "Thorax 1.5 B30f",
        "InstitutionalDepartmentName": "Radiology",
        "PerformingPhysicianName": "Garcia^Ana",
        "NameOfPhysiciansReadingStudy": "Smith^Jane^A",
        "OperatorsName": "Tech^One",
        "ManufacturerModelName": "Scanner 9000",
        "ReferencedStudySequence": [reference],
        "StudyID": "1",
        "SeriesNumber": "2",
        "AcquisitionNumber": "1",
        "InstanceNumber": values["instance_number"],
        "BodyPartExamined": "CHEST",
        "DeviceSerialNumber": "70001",
        "SoftwareVersions": ["syngo 2012B", "VA44A"],
        "ProtocolName": "Thorax^Routine (Adult)",
        "DateOfLastCalibration": "20240101",
        "TimeOfLastCalibration": "061500.000000",
    }


def _requests() -> dict[str, Any]:
    request = Dataset()
    request.RequestedProcedureDescription = "CT thorax"
    request.ScheduledProcedureStepDescription = "CT thorax"
    request.ScheduledProcedureStepID = "SPS1"
    request.RequestedProcedureID = "RP1"
    request.ScheduledProtocolCodeSequence = [_code("CTCHEST", "99ACME", "CT Chest routine")]
    return {
        "ProcedureCodeSequence": [_code("24627-2", "LN", "CT Chest")],
        "RequestingPhysician": "Müller^Jürgen^^Dr",
        "RequestingService": "Pulmonology",
        "RequestedProcedureDescription": "CT thorax",
        "PerformedProcedureStepStartDate": "20240102",
        "PerformedProcedureStepStartTime": "101112.131415",
        "PerformedProcedureStepID": "PPS1",
        "PerformedProcedureStepDescription": "Thorax routine",
        "RequestAttributesSequence": [request],
        "AnatomicRegionSequence": [_code("T-D3000", "SRT", "Chest")],
    }


def _image(kind: Kind, values: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": kind.rows,
        "Columns": kind.columns,
        "BitsAllocated": 16 if kind.bits > 8 else 8,
        "BitsStored": kind.bits,
        "HighBit": kind.bits - 1,
        "PixelRepresentation": 0,
        "WindowCenter": ["40", "-600"],
        "WindowWidth": ["400", "1500"],
        "WindowCenterWidthExplanation": ["SOFT", "LUNG"],
        "ImageComments": "",
    }
    if kind.frames > 1:
        found |= {"NumberOfFrames": str(kind.frames), "FrameTime": "33.3", "FrameIncrementPointer": 0x00181063}
        return found
    return found | {
        "ImagePositionPatient": ["-190", "-190", values["position"]],
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
        "SliceLocation": values["position"],
        "PatientPosition": "HFS",
        "PixelSpacing": ["0.742188", "0.742188"],
        "SliceThickness": "1.5",
        "SpacingBetweenSlices": "1.5",
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "RescaleType": "HU",
    }


def _acquisition(kind: Kind) -> dict[str, Any]:
    common: dict[str, Any] = {"KVP": "120", "ExposureTime": "500", "XRayTubeCurrent": "240", "Exposure": "90"}
    if kind.modality != "CT":
        return common | {"PositionerMotion": "STATIC", "RadiationSetting": "GR", "PixelIntensityRelationship": "LIN"}
    return common | {
        "ScanOptions": "FAST",
        "DataCollectionDiameter": "500",
        "ReconstructionDiameter": "380",
        "DistanceSourceToDetector": "1085.6",
        "DistanceSourceToPatient": "595",
        "GantryDetectorTilt": "0",
        "TableHeight": "148",
        "RotationDirection": "CW",
        "FilterType": "FLAT",
        "GeneratorPower": "36",
        "FocalSpots": "1.2",
        "ConvolutionKernel": ["B31f", "1"],
        "RevolutionTime": 0.5,
        "SingleCollimationWidth": 0.6,
        "TotalCollimationWidth": 38.4,
        "TableSpeed": 46.08,
        "TableFeedPerRotation": 23.04,
        "SpiralPitchFactor": 0.6,
        "CTDIvol": 5.91,
        "ExposureModulationType": "XYZ_EC",
        "DataCollectionCenterPatient": [0.0, -150.0, 0.0],
        "ReconstructionTargetCenterPatient": [0.0, -150.0, 0.0],
        "CTDIPhantomTypeCodeSequence": [_code("113691", "DCM", "IEC Body Dosimetry Phantom")],
    }


def _private(dataset: Dataset) -> None:
    block = dataset.private_block(0x0019, "ACME SCANNER HEADER 1", create=True)
    block.add_new(0x10, "IS", "3")
    block.add_new(0x11, "DS", "595.0")
    block.add_new(0x12, "FD", 0.6)
    block.add_new(0x13, "LO", "Spiral")
    block.add_new(0x14, "LT", "kernel=B31f;filter=none;" * 8)
    block.add_new(0x15, "OB", bytes(range(256)))
