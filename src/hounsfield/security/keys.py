"""The signing keys of an OpenID Connect provider: discovery and JWKS, kept and renewed (server.md §9).

OpenID Connect Discovery 1.0 §4, RFC 7517. Keys come from here only, never from a token.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import msgspec

from hounsfield.errors import SettingsError
from hounsfield.security.urls import require_safe_url

logger = logging.getLogger(__name__)

LIFETIME_SECONDS = 300.0
"""Keys are fetched anew after this time, so that one the provider has withdrawn ends."""
OVERDUE_SECONDS = 2 * LIFETIME_SECONDS
"""Keys this old, because nobody has asked for so long, count only after a fetch, or a failed one."""
PAUSE_SECONDS = 10.0
"""After a fetch there is no other for this time, however many tokens name unknown keys."""
TIMEOUT_SECONDS = 5.0
MAX_DOCUMENT_BYTES = 1024 * 1024
"""A discovery document has about 2 KB, a key 2 KB."""
MAX_KEYS = 100
MIN_RSA_BITS = 2048
"""RFC 7518 §3.3."""

_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
ALGORITHMS = _RSA | frozenset(_CURVES.values())
"""What a token may be signed with: never nothing, never a shared secret."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, its id (None where it has none) and the algorithms that fit it."""

    key_id: str | None
    algorithms: frozenset[str]
    key: Any


class KeysUnavailable(Exception):
    """The provider cannot be asked, or answers with something else."""


class Provider:
    """One OpenID Connect provider. Failures are logged and mean "no such key", never an error of the server.

    ``authority`` is its base URL. Raises SettingsError unless that is https or on this machine.
    """

    def __init__(self, authority: str) -> None:
        require_safe_url(authority, "DicomServer:Security:Authentication:Authority")
        self.authority = authority
        # Once: reading the certificates of all authorities would hold up every request for a moment.
        self._trust = httpx.create_ssl_context()
        self._issuer = ""
        self._keys: Sequence[SigningKey] = ()
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._failing = False
        self._renewal: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self.generation = 0
        """Rises when issuer or keys change: what was verified before may no longer be true."""

    @property
    def issuer(self) -> str:
        """The ``iss`` of its tokens; empty before the first successful fetch."""
        return self._issuer

    async def refresh(self) -> None:
        """Fetch the keys if they are due.

        Known ones are renewed in the background, so that a provider that hangs holds up nobody.
        """
        age = time.monotonic() - self._fetched
        if age < LIFETIME_SECONDS:
            return
        if age >= OVERDUE_SECONDS and (not self._failing or not self._issuer):
            await self._fetch()
        elif self._renewal is None and self._may_ask():
            self._renewal = asyncio.create_task(self._renew())

    async def close(self) -> None:
        """End a renewal that is under way."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def keys(self, key_id: str | None, algorithm: str) -> Sequence[SigningKey]:
        """Keys that may have signed a token with this ``kid`` and ``alg``.

        All that fit the algorithm where the token names none. An unknown id makes us look again.
        """
        found = self._matching(key_id, algorithm)
        if not found:
            await self._fetch()
            found = self._matching(key_id, algorithm)
        return found

    def _matching(self, key_id: str | None, algorithm: str) -> list[SigningKey]:
        return [key for key in self._keys if algorithm in key.algorithms and key_id in (None, key.key_id)]

    def _may_ask(self) -> bool:
        return time.monotonic() - self._tried >= PAUSE_SECONDS

    async def _renew(self) -> None:
        try:
            await self._fetch()
        except Exception:
            logger.exception("Unexpected error while the keys of the identity provider were renewed.")
        finally:
            self._renewal = None

    async def _fetch(self) -> None:
        asked = time.monotonic()
        async with self._lock:
            # Those who waited for the one fetch have its result.
            if self._fetched >= asked or not self._may_ask():
                return
            try:
                issuer, keys = await _discover(self.authority, self._trust)
            except KeysUnavailable as error:
                self._failing = True
                logger.warning("The keys of the identity provider could not be fetched: %s", error)
                return
            finally:
                # A failure can take longer than the pause, which begins at its end.
                self._tried = time.monotonic()
            self._failing = False
            self._fetched = time.monotonic()
            if issuer != self._issuer or not _same(keys, self._keys):
                self._issuer, self._keys = issuer, keys
                self.generation += 1


def _same(one: Sequence[SigningKey], other: Sequence[SigningKey]) -> bool:
    def numbers(keys: Iterable[SigningKey]) -> list[Any]:
        return [(key.key_id, key.algorithms, key.key.public_numbers()) for key in keys]

    return numbers(one) == numbers(other)


async def _discover(authority: str, trust: ssl.SSLContext) -> tuple[str, Sequence[SigningKey]]:
    """Issuer and keys. Raises KeysUnavailable."""
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, verify=trust) as client:
        document = await _document(client, f"{authority.rstrip('/')}/.well-known/openid-configuration")
        issuer, address = document.get("issuer"), document.get("jwks_uri")
        if not isinstance(issuer, str) or not issuer or not isinstance(address, str):
            raise KeysUnavailable("the discovery document has no issuer or no jwks_uri")
        try:
            require_safe_url(address, "jwks_uri")
        except (SettingsError, ValueError) as error:
            raise KeysUnavailable("the jwks_uri of the discovery document is not an https URL") from error
        found = (await _document(client, address)).get("keys")
    if not isinstance(found, list):
        raise KeysUnavailable("the JWKS document has no keys")
    return issuer, signing_keys(found)


async def _document(client: httpx.AsyncClient, url: str) -> Mapping[str, Any]:
    body = bytearray()
    try:
        async with asyncio.timeout(2 * TIMEOUT_SECONDS), client.stream("GET", url) as answer:
            if answer.status_code != 200:
                raise KeysUnavailable(f"it answers {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    raise KeysUnavailable(f"a document is larger than {MAX_DOCUMENT_BYTES} bytes")
        content = msgspec.json.decode(body)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        raise KeysUnavailable(type(error).__name__) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeysUnavailable("a document is not JSON") from error
    if not isinstance(content, dict):
        raise KeysUnavailable("a document is not a JSON object")
    return content


def signing_keys(found: Sequence[Any]) -> list[SigningKey]:
    """The usable ones of a JWKS: RSA of at least MIN_RSA_BITS and NIST curves, meant for signatures (RFC 7517 §4)."""
    keys = []
    for entry in found[:MAX_KEYS]:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        operations = entry.get("key_ops")
        if isinstance(operations, list) and "verify" not in operations:
            continue
        algorithms = _algorithms(entry)
        if not algorithms:
            continue
        try:
            public = {name: value for name, value in entry.items() if name in ("kty", "n", "e", "crv", "x", "y")}
            key = jwt.PyJWK(public, algorithm=min(algorithms)).key
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if entry["kty"] == "RSA" and key.key_size < MIN_RSA_BITS:
            logger.warning("A key of the identity provider is passed over: RSA with less than %d bits.", MIN_RSA_BITS)
            continue
        key_id = entry.get("kid")
        keys.append(SigningKey(key_id if isinstance(key_id, str) else None, algorithms, key))
    return keys


def _algorithms(entry: Mapping[str, Any]) -> frozenset[str]:
    """What a key may be used with: its family, narrowed by its ``alg``."""
    kind, curve = entry.get("kty"), entry.get("crv")
    if kind == "RSA":
        family = _RSA
    elif kind == "EC" and isinstance(curve, str) and curve in _CURVES:
        family = frozenset({_CURVES[curve]})
    else:
        return frozenset()
    declared = entry.get("alg")
    return family if declared is None else family & {str(declared)}
