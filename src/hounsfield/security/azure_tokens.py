"""Tokens of Azure's identities: managed, workload, or in the environment, as DefaultAzureCredential looks for them.

dicom-cast.md §7.2, ManagedIdentityCredential. Azure's library waits and blocks, so it works in a thread of its own.
"""

import asyncio
import contextlib
import re
import threading
import time
from typing import Any

from hounsfield.security.access_tokens import AccessToken, NoIdentity, TokenUnavailable
from hounsfield.security.credentials import Credential

TIMEOUT_SECONDS = 60.0
"""The library tries several identities, and each several times."""

_REFUSED = re.compile(r"AADSTS[0-9]{4,7}")
_ADVICE = (
    "Give this process a managed identity (ClientId names one that is user-assigned), or AZURE_CLIENT_ID, "
    "AZURE_TENANT_ID and AZURE_CLIENT_SECRET."
)


class AzureIdentity:
    """Asks for a token for ``credential.resource``."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential
        self._succeeded = False

    async def request(self) -> AccessToken:
        """A new token. Raises TokenUnavailable, NoIdentity.

        Who never got one has no identity; who had one is told to wait, unless Microsoft Entra ID itself refuses.
        """
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                token, end = await self._in_thread()
        except TimeoutError as error:
            raise TokenUnavailable("Azure gives no token: its identity endpoint does not answer in time.") from error
        except Exception as error:
            # Its text says what was tried, but nobody knows what else is in it.
            found = _REFUSED.search(str(error))
            if self._succeeded and found is None:
                raise TokenUnavailable(f"Azure gives no token any more ({type(error).__name__}).") from error
            reason = found[0] if found else type(error).__name__
            wanted = f"{self._credential.resource} ({self._credential.section})"
            raise NoIdentity(f"Azure gives no token for {wanted}: {reason}. {_ADVICE}") from error
        self._succeeded = True
        return AccessToken(token, end - time.time())

    async def _in_thread(self) -> tuple[str, float]:
        """Not one of the event loop's threads, which hold up the end of the process until they are done."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[str, float]] = loop.create_future()

        def settle(result: tuple[str, float] | None, error: Exception | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            elif result is not None:
                done.set_result(result)

        def work() -> None:
            result, failure = None, None
            try:
                result = self._ask()
            except Exception as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, result, failure)

        threading.Thread(target=work, name="azure-identity", daemon=True).start()
        return await done

    def _ask(self) -> tuple[str, float]:
        # A third of a second to load, which only those pay who sign in so.
        from azure.identity import DefaultAzureCredential

        asked = self._credential
        options: dict[str, Any] = {}
        if asked.client_id:
            options["managed_identity_client_id"] = asked.client_id
        if asked.tenant_id:
            options["additionally_allowed_tenants"] = [asked.tenant_id]
        # A managed identity is asked for a resource, everything else for a scope; the library takes the ending off.
        scope = asked.resource if asked.resource.endswith("/.default") else f"{asked.resource}/.default"
        # A new one each time: an old one would hand out the token again that a server has refused.
        with DefaultAzureCredential(**options) as credential:
            token = credential.get_token(scope, tenant_id=asked.tenant_id or None)
        return token.token, float(token.expires_on)
