"""Tokens from an OAuth 2.0 token endpoint (RFC 6749 §4.3, §4.4, §5; RFC 7523 §2.2; dicom-cast.md §7.2)."""

import asyncio
import math
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import msgspec

from hounsfield.security.access_tokens import AccessToken, TokenRefused, TokenUnavailable
from hounsfield.security.credentials import CLIENT, CLIENT_CERTIFICATE, USER_PASSWORD, Credential
from hounsfield.security.retry_after import retry_after

TIMEOUT_SECONDS = 10.0
"""For the whole of a request: whatever wants a token waits for it."""
MAX_ANSWER_BYTES = 1024 * 1024
"""A token has some KB, tens of KB if it lists groups."""
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_TRANSIENT = (408, 425, 429)
_TRANSIENT_ERRORS = ("temporarily_unavailable", "server_error")
_ERROR = re.compile(r"[A-Za-z0-9_.-]{1,50}")
_ENTRA = re.compile(r"AADSTS[0-9]{4,7}")
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""RFC 6750 §2.1: what fits into the header, and nothing else."""

_ADVICE = {
    "invalid_grant": "the user's name or password is wrong, or the user must sign in in person",
    "unauthorized_client": "the client is not known there or not allowed this kind of sign-in",
    "unsupported_grant_type": "this kind of sign-in is not offered there",
    "invalid_scope": "it does not know Scope",
    "invalid_target": "it does not know Resource",
    "invalid_resource": "it does not know Resource",
    "AADSTS700016": "the tenant in TokenUri does not know ClientId",
    "AADSTS7000215": "ClientSecret is wrong; it must be the secret's value, not its ID",
    "AADSTS7000222": "ClientSecret has expired",
    "AADSTS90002": "there is no such tenant; see TokenUri",
    "AADSTS900023": "there is no such tenant; see TokenUri",
    "AADSTS500011": "the tenant does not know Resource or Scope",
    "AADSTS1002012": "Scope must end with /.default",
    "AADSTS50034": "the tenant does not know Username",
    "AADSTS50126": "Username or Password is wrong",
    "AADSTS50076": "the user must sign in in person (second factor)",
    "AADSTS50079": "the user must sign in in person (second factor)",
    "AADSTS50053": "the user's account is locked",
    "AADSTS50055": "Password has expired",
}
"""What to look at, by RFC 6749 §5.2's codes and by those of Microsoft Entra ID, which tell more."""


class TokenEndpoint:
    """Asks ``credential``'s token endpoint. Redirects are not followed: the secret is for this address alone.

    ``transport`` replaces the network.
    """

    def __init__(self, credential: Credential, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._credential = credential
        parts = urlsplit(credential.token_uri)
        self._name = f"The token endpoint {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._transport = transport
        # Once: reading the certificates of all authorities would hold up everything else for a moment.
        self._trust = httpx.create_ssl_context()

    async def request(self) -> AccessToken:
        """A new token. Raises TokenUnavailable, TokenRefused."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response, body = await self._post()
        except (httpx.TransportError, TimeoutError) as error:
            raise TokenUnavailable(f"{self._name} does not answer ({type(error).__name__}).") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TokenRefused(f"{self._name} cannot be asked ({type(error).__name__}).") from error
        try:
            answer = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            answer = None
        if response.status_code != httpx.codes.OK:
            raise self._failure(response, answer if isinstance(answer, dict) else {})
        if not isinstance(answer, dict):
            raise TokenRefused(f"{self._name} answers with something that is no token. {self._check('TokenUri')}")
        return self._token(answer, time.monotonic() - began)

    async def _post(self) -> tuple[httpx.Response, bytes]:
        headers = {"Accept": "application/json"}
        body = bytearray()
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_SECONDS, verify=self._trust, transport=self._transport) as client,
            client.stream("POST", self._credential.token_uri, data=self._form(), headers=headers) as response,
        ):
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise TokenRefused(f"{self._name} answers with more than {MAX_ANSWER_BYTES} bytes.")
        return response, bytes(body)

    def _form(self) -> dict[str, str]:
        asked = self._credential
        form = {"client_id": asked.client_id, "client_secret": asked.client_secret}
        if asked.kind == CLIENT_CERTIFICATE:
            assert asked.certificate is not None
            form["client_assertion_type"] = ASSERTION_TYPE
            form["client_assertion"] = asked.certificate.assertion(asked.client_id, asked.token_uri)
        if asked.kind == USER_PASSWORD:
            form |= {"grant_type": "password", "username": asked.username, "password": asked.password}
        else:
            form["grant_type"] = "client_credentials"
        form |= {"scope": asked.scope, "resource": asked.resource}
        # An empty one is not the same as none: some providers refuse it.
        return {name: value for name, value in form.items() if value}

    def _failure(self, response: httpx.Response, answer: Mapping[str, Any]) -> TokenUnavailable | TokenRefused:
        """What an answer other than 200 means. Its description is not repeated: nobody knows what is in it."""
        status = response.status_code
        error = answer.get("error")
        code = error if isinstance(error, str) and _ERROR.fullmatch(error) else ""
        said = f"{self._name} answers with status {status}"
        if status in _TRANSIENT or status >= 500 or code in _TRANSIENT_ERRORS:
            return TokenUnavailable(f"{said}.", retry_after=retry_after(response.headers.get("Retry-After")))
        if response.is_redirect:
            return TokenRefused(f"{said} and leads elsewhere, which is not followed. {self._check('TokenUri')}")
        if not code:
            return TokenRefused(f"{said}. {self._check('TokenUri')}")
        found = _ENTRA.search(str(answer.get("error_description", "")))
        entra = found[0] if found else ""
        advice = _ADVICE.get(entra) or _ADVICE.get(code)
        if advice is None and code == "invalid_client":
            advice = f"ClientId or {self._secret()} is wrong"
        codes = f"{code}, {entra}" if entra else code
        said = f"{said} ({codes})"
        if advice is None:
            return TokenRefused(f"{said}. See {self._credential.section}.")
        return TokenRefused(f"{said}: {advice}. See {self._credential.section}.")

    def _token(self, answer: Mapping[str, Any], took: float) -> AccessToken:
        value = answer.get("access_token")
        if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
            raise TokenRefused(f"{self._name} answers without an access token. {self._check('TokenUri')}")
        if str(answer.get("token_type", "Bearer")).lower() != "bearer":
            raise TokenRefused(f"{self._name} gives tokens of another type than Bearer, which are not understood.")
        return AccessToken(value, lifetime(answer, value, took))

    def _secret(self) -> str:
        return {CLIENT: "ClientSecret", CLIENT_CERTIFICATE: "Certificate"}.get(self._credential.kind, "ClientSecret")

    def _check(self, key: str) -> str:
        return f"See {self._credential.section}:{key}."


def lifetime(answer: Mapping[str, Any], token: str, took: float) -> float | None:
    """Seconds a token lives, counted from before it was asked for, ``took`` seconds ago.

    ``expires_in`` (RFC 6749 §5.1), else ``expires_on`` (Azure, seconds since 1970), else the token's own ``exp``; None
    if nothing says. Numbers may be written as text.
    """
    seconds = _number(answer.get("expires_in"))
    if seconds is not None:
        return seconds
    end = _number(answer.get("expires_on"))
    if end is None:
        try:
            end = _number(jwt.decode(token, options={"verify_signature": False}).get("exp"))
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
    return None if end is None else end - time.time() + took


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
