"""Requests that store metadata and bulk data apart (PS3.18 §10.5.2), cut from files with pydicom."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

OCTETS = "application/octet-stream"
BULK = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}
MEDIA_TYPES = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
Json = dict[str, Any]


@dataclass
class Bulk:
    """A bulk data part."""

    location: str
    content: bytes
    content_type: str = OCTETS
    headers: Mapping[str, str] = field(default_factory=dict)


def body(metadata: Any, parts: Iterable[Bulk] = (), boundary: str = "frontier") -> tuple[bytes, dict[str, str]]:
    """The body of a request and its headers; ``metadata`` as bytes are sent as they are."""
    text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    pieces = [f"--{boundary}\r\nContent-Type: application/dicom+json\r\n\r\n".encode() + text + b"\r\n"]
    for part in parts:
        named = {"Content-Type": part.content_type, "Content-Location": part.location, **part.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
        pieces.append(f"--{boundary}\r\n{lines}\r\n".encode() + part.content + b"\r\n")
    headers = {"content-type": f'multipart/related; type="application/dicom+json"; boundary={boundary}'}
    return b"".join([*pieces, f"--{boundary}--\r\n".encode()]), {**headers, "accept": "application/dicom+json"}


def uids(study: str) -> Json:
    """The attributes every instance must have; ``study`` makes the instance."""
    named = {
        "00080016": "1.2.840.10008.5.1.4.1.1.7",
        "00080018": f"{study}.1.1",
        "0020000D": study,
        "0020000E": f"{study}.1",
    }
    metadata: Json = {key: {"vr": "UI", "Value": [uid]} for key, uid in named.items()}
    return metadata | {"00100020": {"vr": "LO", "Value": ["P-1"]}}


def add_bulk(metadata: Json, ds: Dataset, path: str = "bulk") -> list[Bulk]:
    """Refer in ``metadata``, which has none, to the bulk values of ``ds`` at every depth; the parts that hold them."""
    parts: list[Bulk] = []
    for element in ds:
        key = f"{element.tag:08X}"
        here = f"{path}/{key}"
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                parts += add_bulk(metadata[key]["Value"][number], item, f"{here}/{number}")
        elif element.VR in BULK and element.tag.group != 2:
            metadata[key] = {"vr": str(element.VR)}
            if not element.value:
                continue
            metadata[key]["BulkDataURI"] = here
            syntax = ds.file_meta.TransferSyntaxUID if key == "7FE00010" and path == "bulk" else None
            if syntax is None or not syntax.is_encapsulated:
                parts.append(Bulk(here, element.value))
                continue
            count = int(ds.get("NumberOfFrames") or 1)
            frames = list(generate_frames(element.value, number_of_frames=count))
            media_type = f"{MEDIA_TYPES[syntax]}; transfer-syntax={syntax}"
            names = [here] if count == 1 else [f"{here}/frames/{number}" for number in range(1, count + 1)]
            parts += [Bulk(name, frame, media_type) for name, frame in zip(names, frames, strict=True)]
    return parts
