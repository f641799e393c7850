"""When to try again, and when to give up: budgets that count only while the FHIR server is well (dicom-cast.md §5)."""

import asyncio
from dataclasses import dataclass

from hounsfield.cast.failure import EntryRefused, Faulted, TryAgain, conflict, fhir_refusal
from hounsfield.cast.options import RetryTiming
from hounsfield.fhir.target import FhirError, FhirTarget, FhirTokenRefused, FhirTokenUnavailable, FhirUnreachable

_TRANSIENT = (408, 425)
_REFUSALS = {
    401: "It wants a token that is for it: see Fhir:Authentication.",
    403: "Who we are signed in as (Fhir:Authentication) lacks a permission there.",
}
_CONFLICTS = (409, 412)
_GONE = (404, 410)


def transient_or_faulted(error: FhirError) -> TryAgain | Faulted | None:
    """What a failed request of any kind means if it is not about the request itself; None if it is (D1, D12)."""
    status = error.status
    detail = str(error)
    if isinstance(error, FhirTokenRefused):
        return Faulted("FailToRetrieveTokenException", detail)
    if isinstance(error, FhirTokenUnavailable):
        return TryAgain("RetryableException", detail, public=detail, retry_after=error.retry_after)
    if status in _REFUSALS:
        public = f"The FHIR server refused the credentials with status {status}. {_REFUSALS[status]}"
        return Faulted("FhirClientException", public)
    if status == 429:
        public = "The FHIR server is too busy."
        return TryAgain(
            "ServerTooBusyException",
            f"{public} {detail}",
            public=public,
            retry_after=error.retry_after,
            server_answers=True,
        )
    if isinstance(error, FhirUnreachable) or status in _TRANSIENT or (status is not None and status >= 500):
        answered = "does not answer" if status is None else f"answered with status {status}"
        public = f"The FHIR server {answered}."
        return TryAgain("RetryableException", f"{public} {detail}", public=public, retry_after=error.retry_after)
    return None


def of_search(error: FhirError) -> EntryRefused | TryAgain | Faulted:
    """What a failed search means for the entry that needs it."""
    found = transient_or_faulted(error)
    if found is not None:
        return found
    if error.status is None or error.status < 400:
        return fhir_refusal("InvalidFhirResponseException", "The FHIR server's answer cannot be used.", str(error))
    return fhir_refusal(
        "FhirClientException", f"The FHIR server refused the search with status {error.status}.", str(error)
    )


def of_transaction(error: FhirError, *, deletes: bool) -> EntryRefused | TryAgain | Faulted:
    """What a failed transaction means; with a DELETE in it, something gone is a change by somebody else."""
    found = transient_or_faulted(error)
    if found is not None:
        return found
    if error.status in _CONFLICTS or (deletes and error.status in _GONE):
        return conflict(f"A resource was changed by somebody else (status {error.status}).")
    if error.status is None or error.status < 400:
        return fhir_refusal("InvalidFhirResponseException", "The FHIR server's answer cannot be used.", str(error))
    return fhir_refusal(
        "TransactionFailedException", f"The FHIR server refused the transaction with status {error.status}.", str(error)
    )


class Availability:
    """Whether the FHIR server answers ``GET metadata``; asked by many, answered by few requests."""

    def __init__(self, target: FhirTarget, timing: RetryTiming) -> None:
        self._target = target
        self._fresh = timing.probe / 5
        self._lock = asyncio.Lock()
        self._asked: float | None = None
        self._answer = False

    async def check(self) -> bool:
        """Ask, unless somebody else has just now."""
        async with self._lock:
            clock = asyncio.get_running_loop().time
            if self._asked is None or clock() - self._asked > self._fresh:
                try:
                    await self._target.capabilities()
                    self._answer = True
                except FhirError:
                    self._answer = False
                self._asked = clock()
            return self._answer


@dataclass(slots=True)
class Patience:
    """How much one run has been tried, and the seconds of its budget used up by that."""

    budget: float
    number: int = 0
    used: float = 0.0


async def wait(
    patience: Patience, delay: float, timing: RetryTiming, availability: Availability, *, available: bool
) -> bool:
    """Pause for ``delay`` seconds; shorter if an outage ends meanwhile. False once the budget is used up.

    Time counts only while the server is available, and a budget that ends in an outage does not end (D6).
    """
    clock = asyncio.get_running_loop().time
    end = clock() + delay
    while (rest := end - clock()) > 0:
        if not available:
            await asyncio.sleep(min(rest, timing.probe))
            if await availability.check():
                return True
            continue
        left = patience.budget - patience.used
        if left <= 0:
            available = await availability.check()
            if available:
                return False
            continue
        pause = min(rest, left)
        await asyncio.sleep(pause)
        patience.used += pause
    return True
