"""Finding the route of a request among those that stand below no version."""

from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from hounsfield.web.access import Access, ProtectedRoute
from hounsfield.web.versions import answer


async def is_answered(routes: Sequence[Route], access: Access, scope: Scope, receive: Receive, send: Send) -> bool:
    """Answer a request that is for one of ``routes``, with 405 where its method is not; False if it is for none."""
    allowed: set[str] = set()
    for route in routes:
        match, child = route.matches(scope)
        if match is Match.FULL:
            application = route.protected(access) if isinstance(route, ProtectedRoute) else route.handle
            await answer(application, {**scope, **child}, receive, send)
            return True
        if match is Match.PARTIAL:
            allowed |= route.methods or set()
    if not allowed:
        return False
    await Response(status_code=405, headers={"Allow": ", ".join(sorted(allowed))})(scope, receive, send)
    return True
