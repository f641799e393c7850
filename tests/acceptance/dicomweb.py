"""What the acceptance tests say to a server, and how they read its answers. Shares no code with the product."""

import email
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

import httpx
from pydicom.dataset import Dataset

from tests import factories

VERSIONS = ("v1", "v2")
ORIGINAL = "application/dicom; transfer-syntax=*"
WAS = {"msdicom-request-original": "True"}
ORIGINALS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'

Json = dict[str, Any]


def study_path(ds: Dataset, version: str = "v2") -> str:
    """The URL path of the study ``ds`` belongs to."""
    return f"/{version}/studies/{ds.StudyInstanceUID}"


def series_path(ds: Dataset, version: str = "v2") -> str:
    """The URL path of the series ``ds`` belongs to."""
    return f"{study_path(ds, version)}/series/{ds.SeriesInstanceUID}"


def instance_path(ds: Dataset, version: str = "v2") -> str:
    """The URL path of ``ds``."""
    return f"{series_path(ds, version)}/instances/{ds.SOPInstanceUID}"


def post(
    client: httpx.Client, files: Iterable[bytes], path: str = "/v2/studies", accept: str = "application/dicom+json"
) -> httpx.Response:
    """Store ``files`` in one multipart request."""
    body, headers = factories.multipart(files)
    return client.post(path, content=body, headers={**headers, "accept": accept})


def store(client: httpx.Client, *datasets: Dataset, version: str = "v2") -> None:
    """Store ``datasets``, which must all be taken without a warning."""
    response = post(client, [factories.part10(ds) for ds in datasets], f"/{version}/studies")
    assert response.status_code == 200, (response.status_code, response.text)


def patient() -> str:
    """A PatientID no other test uses."""
    return f"P-{factories.uid().rpartition('.')[2]}"


def sibling(ds: Dataset, *, same_series: bool = True, **attributes: Any) -> Dataset:
    """Another instance of the study of ``ds``, of its series too if ``same_series``."""
    uids = {"StudyInstanceUID": ds.StudyInstanceUID}
    if same_series:
        uids["SeriesInstanceUID"] = ds.SeriesInstanceUID
    return factories.dataset(**{**uids, **attributes})


@dataclass(frozen=True)
class Part:
    """One part of a multipart answer; ``length`` is its Content-Length, which is not among ``headers``."""

    headers: Mapping[str, str]
    body: bytes
    length: int | None = None


def parts(response: httpx.Response) -> list[Part]:
    """The parts of a multipart answer, checked for the form retrieve.md §4 gives it."""
    assert response.status_code == 200, (response.status_code, response.text)
    content_type = response.headers["content-type"]
    found = re.fullmatch(r"multipart/related; boundary=([0-9A-Za-z'()+_,./:=?-]{1,70})", content_type)
    assert found, content_type
    delimiter = f"--{found[1]}".encode()
    assert response.content.startswith(delimiter + b"\r\n")
    assert response.content.endswith(b"\r\n" + delimiter + b"--\r\n")
    pieces = (b"\r\n" + response.content).split(b"\r\n" + delimiter)[1:-1]
    read = []
    for piece in pieces:
        assert piece.startswith(b"\r\n")
        head, blank, body = piece[2:].partition(b"\r\n\r\n")
        assert blank
        message: Message = email.message_from_bytes(head)
        headers = {name.lower(): value for name, value in message.items()}
        length = headers.pop("content-length", None)
        assert length is None or int(length) == len(body)
        read.append(Part(headers, body, None if length is None else len(body)))
    return read


def values(dataset: Json, tag: str) -> list[Any]:
    """The values of a DICOM JSON attribute, empty where it has none."""
    found = dataset[tag].get("Value", [])
    assert isinstance(found, list)
    return found


def value(dataset: Json, tag: str) -> Any:
    """The only value of a DICOM JSON attribute."""
    (found,) = values(dataset, tag)
    return found


def failed(response: httpx.Response) -> list[Json]:
    """The items of FailedSOPSequence."""
    body: Json = response.json()
    return values(body, "00081198") if "00081198" in body else []


def referenced(response: httpx.Response) -> list[Json]:
    """The items of ReferencedSOPSequence."""
    body: Json = response.json()
    return values(body, "00081199") if "00081199" in body else []


def comments(item: Json) -> list[str]:
    """The ErrorComments of an item's FailedAttributesSequence."""
    return [value(comment, "00000902") for comment in values(item, "00741048")]


def reason(response: httpx.Response) -> int:
    """The FailureReason of the only instance, which failed."""
    assert not referenced(response)
    (item,) = failed(response)
    found: int = value(item, "00081197")
    return found
