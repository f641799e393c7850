"""Bearer tokens: JSON Web Tokens (RFC 7519) of the configured provider (server.md §9)."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime

import jwt

from hounsfield.security.claims import Claims, InvalidToken
from hounsfield.security.keys import ALGORITHMS, Provider, SigningKey

CLOCK_SKEW_SECONDS = 300
MAX_TOKEN_CHARACTERS = 16 * 1024
"""Tokens with hundreds of groups stay below 8 KB."""
KEPT_TOKENS = 1000
"""Verified tokens that are remembered: a signature costs as much as a small request."""


class TokenVerifier:
    """Decides whether a token is good. ``audiences``: without any, none is."""

    def __init__(self, provider: Provider, audiences: Sequence[str]) -> None:
        self.provider = provider
        self.audiences = list(audiences)
        self._known: OrderedDict[str, tuple[Claims, float]] = OrderedDict()
        self._generation = 0

    async def verify(self, token: str) -> Claims:
        """The claims of a token. Raises InvalidToken."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise InvalidToken("The token is too long")
        await self.provider.refresh()
        if self._generation != self.provider.generation:
            self._known.clear()
            self._generation = self.provider.generation
        claims, until = self._known.get(token, (None, 0.0))
        if claims is not None and time.time() < until:
            return claims
        claims = await self._verify(token)
        if self._generation == self.provider.generation:
            self._known[token] = claims, int(claims["exp"]) + CLOCK_SKEW_SECONDS
            while len(self._known) > KEPT_TOKENS:
                self._known.popitem(last=False)
        return claims

    async def _verify(self, token: str) -> Claims:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise InvalidToken("The token is malformed") from error
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise InvalidToken("The signature algorithm is not allowed")
        keys = await self.provider.keys(key_id, algorithm)
        if not keys:
            raise InvalidToken("The signature key was not found")
        for key in keys:
            try:
                return self._decode(token, key, algorithm)
            except jwt.InvalidSignatureError:
                continue
        raise InvalidToken("The signature is invalid")

    def _decode(self, token: str, key: SigningKey, algorithm: str) -> Claims:
        """The claims where ``key`` signed the token. Raises InvalidToken, jwt.InvalidSignatureError."""
        try:
            return jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self.audiences,
                issuer=self.provider.issuer,
                leeway=CLOCK_SKEW_SECONDS,
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_iat": False,
                    "verify_sub": False,
                    "verify_jti": False,
                },
            )
        except jwt.InvalidSignatureError:
            raise
        except jwt.ExpiredSignatureError as error:
            raise InvalidToken(f"The token expired at '{_time(token, 'exp')}'") from error
        except jwt.ImmatureSignatureError as error:
            raise InvalidToken(f"The token is not valid before '{_time(token, 'nbf')}'") from error
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken(f"The token has no {error.claim}") from error
        except jwt.InvalidAudienceError as error:
            raise InvalidToken("The audience is invalid") from error
        except jwt.InvalidIssuerError as error:
            raise InvalidToken("The issuer is invalid") from error
        # Numbers and nesting that no provider writes end in errors of Python's own.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InvalidToken("The token is malformed") from error


def _time(token: str, claim: str) -> str:
    """A time claim of a token whose signature has been checked."""
    seconds = jwt.decode(token, options={"verify_signature": False}).get(claim)
    try:
        return datetime.fromtimestamp(int(seconds or 0), UTC).strftime("%m/%d/%Y %H:%M:%S")
    except (ValueError, TypeError, OverflowError, OSError):
        return "an unknown time"
