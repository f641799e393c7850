"""A FHIR R4 server (Medplum's packages behind medplum/server.mjs), with controls for outages."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.peers.process import node_server

PROGRAM = Path(__file__).parent / "medplum" / "server.mjs"


@dataclass(frozen=True, slots=True)
class FhirServer:
    """A running server. ``url`` is its FHIR base."""

    root: str

    @property
    def url(self) -> str:
        """The FHIR base, without a trailing slash."""
        return f"{self.root}/fhir/R4"

    def fail_next(
        self,
        count: int,
        status: int = 503,
        *,
        match: str = "",
        after: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Let the next ``count`` requests fail with ``status``, 0 for a connection that closes without an answer.

        With ``match``, only those whose ``METHOD /path?query`` contains it; with ``after``, they do their work first.
        """
        self._control(failNext=count, status=status, match=match, after=after, headers=dict(headers or {}))

    def delay(self, seconds: float) -> None:
        """Wait so long before every answer from now on."""
        self._control(delay=round(seconds * 1000))

    def pause(self) -> None:
        """Answer nothing until ``resume``."""
        self._control(paused=True)

    def resume(self) -> None:
        """End of ``pause``."""
        self._control(paused=False)

    def reset(self) -> None:
        """Forget all resources, requests and controls."""
        self._control(reset=True)

    def requests(self) -> list[dict[str, Any]]:
        """Requests answered since the last reset: ``{"request": "GET /fhir/R4/…", "status": 200}``."""
        answered: list[dict[str, Any]] = httpx.get(f"{self.root}/_control").raise_for_status().json()["requests"]
        return answered

    def problems(self, resources: Sequence[Mapping[str, Any]]) -> list[str]:
        """What is wrong with resources, by R4's structure definitions and required codes; nothing is stored."""
        answer = httpx.post(f"{self.root}/_validate", json=resources, timeout=60).raise_for_status().json()
        return [problem for problem in answer if problem is not None]

    def _control(self, **values: object) -> None:
        httpx.post(f"{self.root}/_control", json=values).raise_for_status()


@contextmanager
def fhir_server(directory: Path) -> Iterator[FhirServer]:
    """The server; its resources are in memory."""
    with node_server(PROGRAM, "@medplum/fhir-router/package.json", directory / "fhir.log") as root:
        yield FhirServer(root)
