"""Health checks of what works behind the API: the operation worker and the FHIR server (server.md §5)."""

import time

from hounsfield.database.engine import Database
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.target import FhirError
from hounsfield.operations import worker
from hounsfield.web.health import DEGRADED, HEALTHY, Check, Health

STARTING_SECONDS = 20.0
"""How long a worker that is started with this server may take to show up."""
FHIR_SECONDS = 10.0
"""How long the state of a FHIR server is kept: its answer can be megabytes, and every API process asks."""


def worker_check(database: Database, *, started_here: bool) -> Check:
    """Whether some process does the background work; without one DICOM goes on, so ``Degraded`` at worst.

    ``started_here``: this server has a worker of its own, which needs a moment to come up.
    """
    begun = time.monotonic()

    async def check() -> Health:
        if await worker.is_alive(database):
            return Health(HEALTHY, "A worker is at work.")
        if started_here and time.monotonic() - begun < STARTING_SECONDS:
            return Health(HEALTHY, "The worker is starting.")
        return Health(DEGRADED, "No worker is alive: operations wait, and files of deleted instances stay.")

    return check


def fhir_check(target: HttpFhirTarget, *, signs_in: bool) -> Check:
    """Whether the FHIR server cast writes to answers; DICOM goes on without it, so ``Degraded`` at worst.

    ``signs_in``: cast has credentials for it. The check has none, so that not every API process fetches tokens; whether
    they are good is what the check of cast tells.
    """
    kept = Health(HEALTHY, "")
    asked = float("-inf")

    async def check() -> Health:
        nonlocal kept, asked
        if time.monotonic() - asked >= FHIR_SECONDS:
            kept = await _state(target, signs_in)
            asked = time.monotonic()
        return kept

    return check


async def _state(target: HttpFhirTarget, signs_in: bool) -> Health:
    try:
        status = await target.status()
    except FhirError:
        return Health(DEGRADED, "The FHIR server does not answer.")
    if status in (401, 403) and signs_in:
        return Health(HEALTHY, "The FHIR server answers; it wants a token.")
    if status in (401, 403):
        return Health(DEGRADED, "The FHIR server refuses our credentials.", {"status": status})
    if status >= 400:
        return Health(DEGRADED, "The FHIR server answers with an error.", {"status": status})
    return Health(HEALTHY, "The FHIR server answers.")
