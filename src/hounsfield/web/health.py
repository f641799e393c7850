"""GET /health/check: one entry per dependency (server.md §5)."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

logger = logging.getLogger(__name__)

CACHE_SECONDS = 1.0
"""Results are reused this long, so that probing is cheap."""
CHECK_SECONDS = 10.0
"""A dependency that takes longer counts as unhealthy."""


@dataclass(frozen=True, slots=True)
class Health:
    """What one check found: ``Healthy``, ``Degraded`` or ``Unhealthy``, a sentence and figures."""

    status: str
    description: str
    data: Mapping[str, Any] = field(default_factory=dict)


Check = Callable[[], Awaitable[Health]]

_ORDER = ("Healthy", "Degraded", "Unhealthy")


def answers(check: Callable[[], Awaitable[None]], description: str) -> Check:
    """A check that is healthy when ``check`` returns and unhealthy when it raises."""

    async def run() -> Health:
        await check()
        return Health("Healthy", description)

    return run


class HealthChecks:
    """Runs the named checks side by side and caches the result for about a second."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._taken = float("-inf")
        self._found: dict[str, Health] = {}
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
        try:
            return await asyncio.wait_for(self._checks[name](), CHECK_SECONDS)
        except Exception as error:
            logger.error("Health check %s failed: %s", name, type(error).__name__)
            return Health("Unhealthy", f"The check failed: {type(error).__name__}.")


def health_route(checks: HealthChecks) -> Route:
    """The route, anonymous and without a version."""

    async def handle(request: Request) -> Response:
        found = await checks.results()
        overall = max((health.status for health in found.values()), key=_ORDER.index, default="Healthy")
        details = [
            {"name": name, "status": health.status, "description": health.description, "data": dict(health.data)}
            for name, health in found.items()
        ]
        body = msgspec.json.encode({"overallStatus": overall, "details": details})
        return Response(body, status_code=503 if overall == "Unhealthy" else 200, media_type="application/json")

    return Route("/health/check", handle, methods=["GET"], name="health")
