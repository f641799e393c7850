"""Access tokens we present to others: kept, renewed before they end, replaced when refused (dicom-cast.md §7.2).

Where they come from: token_endpoint.py and azure_tokens.py. That those others present to us are good: tokens.py.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

import httpx

RENEWAL_SECONDS = 300.0
"""A token is renewed so long before its end; one that lives less than twice that, after half its life."""
LONGEST_PAUSE = 60.0
"""Who gives tokens may ask us to wait; after this time it is asked again nevertheless."""
FAILURE_PAUSE = 2.0
"""So long the failure to get a token stands for all who ask, unless another time was asked for."""
PASSWORD_PAUSE = 60.0
"""And so long a refusal of a person's password: asking with a wrong one every few seconds gets accounts locked."""


class TokenUnavailable(Exception):
    """Nobody gives us a token now: no answer, too busy, out of order. The message names no secret."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TokenRefused(Exception):
    """We get no token until somebody changes something; the message says what, and names no secret."""


class NoIdentity(TokenRefused):
    """Azure knows no identity that this process could have."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token as it was given. ``seconds`` is what is left of its life; None if nobody says."""

    value: str = field(repr=False)
    seconds: float | None


@dataclass(frozen=True, slots=True)
class _Held:
    value: str = field(repr=False)
    renewal: float
    end: float


class AccessTokens:
    """The token for one server. All who ask while one is being fetched share that request, and its failure.

    ``request`` gets a new one; it raises TokenUnavailable or TokenRefused, as do the methods. ``refused_pause`` is how
    many seconds a refusal stands. Not shared between event loops.
    """

    def __init__(self, request: Callable[[], Awaitable[AccessToken]], *, refused_pause: float = FAILURE_PAUSE) -> None:
        self._request = request
        self._refused_pause = refused_pause
        self._held: _Held | None = None
        self._renewal: asyncio.Task[str] | None = None
        self._failure: TokenUnavailable | TokenRefused | None = None
        self._pause_end = float("-inf")

    async def current(self) -> str:
        """A token that should be good. From RENEWAL_SECONDS before its end on it is replaced in the background.

        So nobody waits for a slow provider, nor notices an outage that is shorter.
        """
        held, now = self._held, time.monotonic()
        if held is None or now >= held.end:
            return await self._renewed()
        if now >= held.renewal and now >= self._pause_end and self._renewal is None:
            self._begin()
        return held.value

    async def instead_of(self, refused: str) -> str:
        """Another token than ``refused``, which a server did not take; all that are refused at once become one new."""
        if self._held is not None and self._held.value == refused:
            self._held = None
        return await self.current()

    async def close(self) -> None:
        """End a request that is under way."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def _renewed(self) -> str:
        renewal = self._renewal
        if renewal is None:
            if self._failure is not None and time.monotonic() < self._pause_end:
                raise self._failure.with_traceback(None)
            renewal = self._begin()
        # Who gives up waiting does not end it for the others.
        return await asyncio.shield(renewal)

    def _begin(self) -> asyncio.Task[str]:
        self._renewal = asyncio.create_task(self._renew())
        self._renewal.add_done_callback(_seen)
        return self._renewal

    async def _renew(self) -> str:
        began = time.monotonic()
        try:
            token = await self._request()
        except (TokenUnavailable, TokenRefused) as error:
            self._failure, self._pause_end = error, time.monotonic() + self._pause(error)
            raise
        finally:
            self._renewal = None
        self._failure = None
        # Counted from before the request: rather too early than too late.
        life = float("inf") if token.seconds is None else max(token.seconds, 0.0)
        self._held = _Held(token.value, began + max(life - RENEWAL_SECONDS, life / 2), began + life)
        return token.value

    def _pause(self, failure: TokenUnavailable | TokenRefused) -> float:
        if isinstance(failure, TokenRefused):
            return self._refused_pause
        asked = FAILURE_PAUSE if failure.retry_after is None else failure.retry_after
        return min(max(asked, FAILURE_PAUSE), LONGEST_PAUSE)


def _seen(renewal: asyncio.Task[str]) -> None:
    """A failure in the background is kept for those who ask later; asyncio need not complain that nobody waited."""
    if not renewal.cancelled():
        renewal.exception()


class BearerAuth(httpx.Auth):
    """Signs in the requests of an ``httpx.AsyncClient`` (RFC 6750 §2.1); after a 401 once more, with a new token.

    Requests then also raise TokenUnavailable and TokenRefused.
    """

    def __init__(self, tokens: AccessTokens) -> None:
        self._tokens = tokens

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """See httpx.Auth."""
        token = await self._tokens.current()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            token = await self._tokens.instead_of(token)
            request.headers["Authorization"] = f"Bearer {token}"
            yield request

    async def close(self) -> None:
        """End what is under way."""
        await self._tokens.close()
