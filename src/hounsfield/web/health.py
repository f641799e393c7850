"""GET /health/check: one entry per dependency (server.md §5)."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hounsfield.errors import HounsfieldError

logger = logging.getLogger(__name__)

CACHE_SECONDS = 1.0
"""Results are reused this long, so that probing is cheap."""
CHECK_SECONDS = 5.0
"""How long a dependency is waited for."""
AGAIN_SECONDS = 1.0
"""And how long if it was not well the last time, so that a dead one does not hold up every probe."""

HEALTHY, DEGRADED, UNHEALTHY = _ORDER = ("Healthy", "Degraded", "Unhealthy")


@dataclass(frozen=True, slots=True)
class Health:
    """What one check found: HEALTHY, DEGRADED or UNHEALTHY, a sentence and figures."""

    status: str
    description: str
    data: Mapping[str, Any] = field(default_factory=dict)


Check = Callable[[], Awaitable[Health]]


def answers(check: Callable[[], Awaitable[None]], description: str) -> Check:
    """A check that is healthy when ``check`` returns."""

    async def run() -> Health:
        await check()
        return Health(HEALTHY, description)

    return run


class HealthChecks:
    """Runs the named checks side by side and keeps the results for about a second.

    A check that raises, or does not end in time, is unhealthy; of those in ``dispensable`` it is degraded, as the
    server does its work without them. No check is ended by force, and none runs twice at the same time: what hangs
    may hold a connection or a thread, and more of it would not make it better.
    """

    def __init__(self, checks: Mapping[str, Check], dispensable: Collection[str] = ()) -> None:
        self._checks = checks
        self._dispensable = dispensable
        self._taken = float("-inf")
        self._found: dict[str, Health] = {}
        self._running: dict[str, asyncio.Task[Health]] = {}
        self._lock = asyncio.Lock()

    async def results(self) -> dict[str, Health]:
        """The newest result of every check."""
        async with self._lock:
            if time.monotonic() - self._taken >= CACHE_SECONDS:
                found = await asyncio.gather(*(self._run(name) for name in self._checks))
                self._found = dict(zip(self._checks, found, strict=True))
                self._taken = time.monotonic()
            return self._found

    async def _run(self, name: str) -> Health:
        before = self._found.get(name)
        was_well = before is None or before.status == HEALTHY
        found = await self._outcome(name, CHECK_SECONDS if was_well else AGAIN_SECONDS)
        if was_well and found.status != HEALTHY:
            logger.error("Health check %s: %s. %s", name, found.status, found.description)
        elif not was_well and found.status == HEALTHY:
            logger.warning("Health check %s: healthy again.", name)
        return found

    async def _outcome(self, name: str, seconds: float) -> Health:
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.ensure_future(self._attempt(name))
            task.add_done_callback(lambda _: self._running.pop(name))
            await asyncio.wait([task], timeout=seconds)
        if task.done():
            return task.result()
        return self._failed(name, "It does not answer.")

    async def _attempt(self, name: str) -> Health:
        try:
            return await self._checks[name]()
        except HounsfieldError as error:
            # Our sentences name neither patients nor secrets.
            return self._failed(name, error.message)
        except Exception as error:
            return self._failed(name, f"The check failed: {type(error).__name__}.")

    def _failed(self, name: str, description: str) -> Health:
        return Health(DEGRADED if name in self._dispensable else UNHEALTHY, description)


def health_route(checks: HealthChecks) -> Route:
    """The route, anonymous and without a version."""

    async def handle(request: Request) -> Response:
        found = await checks.results()
        overall = max((health.status for health in found.values()), key=_ORDER.index, default=HEALTHY)
        details = [
            {"name": name, "status": health.status, "description": health.description, "data": dict(health.data)}
            for name, health in found.items()
        ]
        body = msgspec.json.encode({"overallStatus": overall, "details": details})
        return Response(body, status_code=503 if overall == UNHEALTHY else 200, media_type="application/json")

    return Route("/health/check", handle, methods=["GET"], name="health")
