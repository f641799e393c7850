"""What the acceptance tests say to a server about exports."""

import time
from pathlib import Path
from typing import Any

import httpx
from pydicom.dataset import Dataset

from tests.acceptance.query_tags import SECONDS
from tests.peers.azure_sas import Container

Json = dict[str, Any]


def identifier(ds: Dataset, levels: int = 3) -> str:
    """Study, series and instance of ``ds``, or the first of them."""
    return "/".join(str(uid) for uid in (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)[:levels])


def body(destination: Json, *values: str, **more: Any) -> Json:
    """A request to export ``values``."""
    source = {"type": "identifiers", "settings": {"values": list(values)}}
    return {"source": source, "destination": destination, **more}


def blob(container: Container, permissions: str = "cwa") -> Json:
    """A destination in Azure that a shared access signature opens."""
    uri = f"{container.url}?{container.sas(permissions)}"
    return {"type": "azureBlob", "settings": {"blobContainerUri": uri}}


def folder(path: Path) -> Json:
    """A destination on this machine."""
    return {"type": "folder", "settings": {"path": str(path)}}


def export(client: httpx.Client, sent: Json, path: str = "/v2/export") -> Json:
    """Start an export and wait for its end; returns the operation with details."""
    response = client.post(path, json=sent)
    assert response.status_code == 202, response.text
    reference = response.json()
    assert response.headers["location"] == reference["href"]
    return finished(client, reference["href"])


def finished(client: httpx.Client, href: str) -> Json:
    """An operation, with details, once it has ended."""
    deadline = time.monotonic() + SECONDS
    while True:
        operation = client.get(f"{href}?details=true")
        if operation.status_code == 200:
            return dict(operation.json())
        assert operation.status_code == 202, operation.text
        assert time.monotonic() < deadline, operation.text
        time.sleep(0.05)


def files(root: Path) -> dict[str, bytes]:
    """What is below ``root``."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
