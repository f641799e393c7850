"""Routes by themselves, for tests that do without the whole application."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from hounsfield.web.access import ANYBODY


def application(routes: Sequence[BaseRoute]) -> ASGIApp:
    """An application of these routes in which everybody may do everything."""
    inner = Starlette(routes=list(routes))

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, "hounsfield.caller": ANYBODY}, receive, send)

    return run
