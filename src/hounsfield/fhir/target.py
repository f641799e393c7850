"""What cast asks of a FHIR server, whether it is the embedded store or one behind HTTP."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Resource = dict[str, Any]
"""One FHIR resource as parsed JSON."""


class FhirError(Exception):
    """A FHIR server refused, or its answer cannot be used.

    ``status`` is the HTTP status where there was an answer; ``retry_after`` the seconds it asked us to wait.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class FhirUnreachable(FhirError):
    """No connection, or no answer in time."""


class FhirTokenUnavailable(FhirUnreachable):
    """Nobody gives us a token for the server now. The message is for people and holds no patient data."""


class FhirTokenRefused(FhirError):
    """We are not given a token until somebody changes something. The message says what, for people as well."""


@dataclass(frozen=True, slots=True)
class Match:
    """One entry of a search answer: the resource and its search mode (``match``, ``include``, ``outcome``)."""

    resource: Resource
    mode: str


class FhirTarget(Protocol):
    """A FHIR server cast can write to. Every method raises FhirError."""

    @property
    def endpoint(self) -> str:
        """The base URL, for people to read."""

    async def capabilities(self) -> Resource:
        """The CapabilityStatement (``GET metadata``)."""

    async def search(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> list[Match]:
        """All entries of all pages. Parameter values are already FHIR-escaped, not yet percent-encoded."""

    def pages(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> AsyncIterator[list[Match]]:
        """The same page by page, for searches that may find very many. Raises FhirError while it is read."""

    async def transaction(self, bundle: Resource) -> Resource:
        """POST a transaction bundle and return the answer, which may be any JSON object."""

    async def close(self) -> None:
        """Release connections."""
