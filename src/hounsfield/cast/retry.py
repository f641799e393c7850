"""When to try again, and when to give up: budgets that count only while the FHIR server is well (dicom-cast.md §5)."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

from hounsfield.cast.failure import EntryRefused, Faulted, Standstill, Table, TryAgain, conflict, fhir_refusal
from hounsfield.cast.feed import FeedRefused
from hounsfield.cast.options import RetryTiming
from hounsfield.fhir.target import FhirError, FhirTarget, FhirTokenRefused, FhirTokenUnavailable, FhirUnreachable
from hounsfield.security.access_tokens import NoIdentity

_TRANSIENT = (408, 425)
_REFUSALS = {
    401: "It wants a token that is for it: see Fhir:Authentication.",
    403: "Who we are signed in as (Fhir:Authentication) lacks a permission there.",
}
_CONFLICTS = (409, 412)
GONE = (404, 410)


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


def standstill(error: BaseException | None) -> Standstill:
    """What the reference would count an error as that ends casting for now: the first cause that says so."""
    while error is not None:
        if isinstance(error, FhirError) and error.status == HTTPStatus.FORBIDDEN:
            return Standstill.FHIR_FORBIDDEN
        if isinstance(error, FeedRefused) and error.status == HTTPStatus.FORBIDDEN:
            return Standstill.DICOM_FORBIDDEN
        if isinstance(error, NoIdentity):
            return Standstill.NO_IDENTITY
        error = error.__cause__
    return Standstill.OTHER


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


def of_transaction(error: FhirError, *, may_be_gone: bool) -> EntryRefused | TryAgain | Faulted:
    """What a failed transaction means. ``may_be_gone``: if it says so, somebody has deleted what it is about."""
    found = transient_or_faulted(error)
    if found is not None:
        return found
    if error.status in _CONFLICTS or (may_be_gone and error.status in GONE):
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


class Throttle:
    """What the FHIR server says to one request about its load is meant for all: nobody asks before it is over."""

    def __init__(self, timing: RetryTiming) -> None:
        self._longest = timing.longest
        self._end = 0.0

    def slow_down(self, seconds: float) -> None:
        """The server wants to be left alone for so long; the cap of ``Retry-After`` holds (D1)."""
        clock = asyncio.get_running_loop().time
        self._end = max(self._end, clock() + min(seconds, self._longest))

    async def clear(self) -> None:
        """Wait until it may be asked."""
        if (rest := self._end - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(rest)
            await self.clear()


@dataclass(slots=True)
class Patience:
    """How much one run has been tried, and the seconds of its budget used up by that."""

    budget: float
    number: int = 0
    used: float = 0.0


def budget_used_up(patience: Patience, error: TryAgain) -> EntryRefused:
    """What becomes of an entry that failed for as long as the budget allows, last with ``error``."""
    message = f"The operation did not succeed in {patience.number} attempts within the time allowed; last:"
    return EntryRefused(
        Table.TRANSIENT_FAILURE, "TimeoutRejectedException", f"{message} {error.message}", f"{message} {error.public}"
    )


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
