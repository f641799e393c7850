"""What the acceptance tests say to a server about extended query tags."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

Json = dict[str, Any]
SECONDS = 60
PRIVATE_CREATOR = "HOUNSFIELD TEST"


def entry(path: str, level: str = "Instance", vr: str | None = None, creator: str | None = None) -> Json:
    """An entry to be added."""
    found = {"path": path, "level": level, "vr": vr, "privateCreator": creator}
    return {name: value for name, value in found.items() if value is not None}


def add(client: httpx.Client, *entries: Mapping[str, Any], version: str = "v2") -> httpx.Response:
    """Ask for tags."""
    return client.post(f"/{version}/extendedquerytags", json=list(entries))


def ended(client: httpx.Client, href: str) -> Json:
    """The operation, once it has ended."""
    deadline = time.monotonic() + SECONDS
    while True:
        response = client.get(href)
        if response.status_code == 200:
            return dict(response.json())
        assert response.status_code == 202, response.text
        assert response.headers["location"].endswith(href.partition("/operations")[2])
        assert time.monotonic() < deadline, response.text
        time.sleep(0.05)


def added(client: httpx.Client, *entries: Mapping[str, Any]) -> Json:
    """Add tags and wait until they are ready; returns the operation."""
    response = add(client, *entries)
    assert response.status_code == 202, response.text
    operation = ended(client, response.json()["href"])
    assert operation["status"] == "succeeded"
    return operation


def get(client: httpx.Client, path: str) -> Json:
    """The tag."""
    response = client.get(f"/v2/extendedquerytags/{path}")
    assert response.status_code == 200, response.text
    return dict(response.json())


def errors(client: httpx.Client, path: str, **parameters: int) -> list[Json]:
    """Its errors."""
    response = client.get(f"/v2/extendedquerytags/{path}/errors", params=parameters)
    assert response.status_code == 200, response.text
    return list(response.json())


def enable(client: httpx.Client, path: str, status: str = "Enabled") -> Json:
    """Set its query status."""
    response = client.patch(f"/v2/extendedquerytags/{path}", json={"queryStatus": status})
    assert response.status_code == 200, response.text
    return dict(response.json())


def delete(client: httpx.Client, path: str) -> None:
    """Delete the tag."""
    response = client.delete(f"/v2/extendedquerytags/{path}")
    assert (response.status_code, response.content) == (204, b""), response.text


def delete_all(client: httpx.Client) -> None:
    """Leave none."""
    for tag in client.get("/v2/extendedquerytags", params={"limit": 200}).json():
        delete(client, tag["path"])


@contextlib.contextmanager
def tags(client: httpx.Client, *entries: Mapping[str, Any]) -> Iterator[None]:
    """Tags that are there and ready, for the time of a test."""
    added(client, *entries)
    try:
        yield
    finally:
        delete_all(client)
