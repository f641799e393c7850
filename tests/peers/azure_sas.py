"""Containers of Azurite for exports, and shared access signatures for them (REST: Create a service SAS, 2020-12-06)."""

import base64
import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import httpx

from tests.peers.azurite import ACCOUNT, KEY, AzuriteServer

VERSION = "2020-12-06"


class Container:
    """A container and what the account's owner may do with it."""

    def __init__(self, server: AzuriteServer, name: str) -> None:
        self.name = name
        self.url = f"{server.endpoint}/{ACCOUNT}/{name}"

    def create(self) -> "Container":
        self._asked("PUT", "", {"restype": "container"}).raise_for_status()
        return self

    def delete(self) -> None:
        self._asked("DELETE", "", {"restype": "container"}).raise_for_status()

    def sas(self, permissions: str, minutes: int = 60) -> str:
        """A query string that permits ``permissions`` (r, a, c, w, d, l) to its blobs."""
        end = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
        fields = [permissions, "", end, f"/blob/{ACCOUNT}/{self.name}", "", "", "", VERSION, "c", *[""] * 7]
        query = {"sv": VERSION, "sr": "c", "sp": permissions, "se": end, "sig": _sign("\n".join(fields))}
        return urlencode(query)

    def names(self, prefix: str = "") -> list[str]:
        answer = self._asked("GET", "", {"restype": "container", "comp": "list", "prefix": prefix})
        answer.raise_for_status()
        return sorted(str(each.text) for each in ElementTree.fromstring(answer.content).iter("Name"))

    def read(self, name: str) -> bytes:
        answer = self._asked("GET", f"/{name}", {})
        answer.raise_for_status()
        return answer.content

    def blobs(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        for name in self.names(prefix):
            yield name, self.read(name)

    def _asked(self, method: str, path: str, query: dict[str, str]) -> httpx.Response:
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        url = httpx.URL(self.url + quote(path), params=query)
        resource = f"/{ACCOUNT}{url.path}" + "".join(f"\n{key}:{query[key]}" for key in sorted(query))
        canonical = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        signature = _sign(method + "\n" * 12 + canonical + resource)
        headers["authorization"] = f"SharedKey {ACCOUNT}:{signature}"
        return httpx.request(method, url, headers=headers, timeout=30, verify=False)


def _sign(text: str) -> str:
    return base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
