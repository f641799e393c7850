"""Signing in at another server by what the settings say (dicom-cast.md §7.2)."""

from hounsfield.security.access_tokens import FAILURE_PAUSE, PASSWORD_PAUSE, AccessTokens, BearerAuth
from hounsfield.security.azure_tokens import AzureIdentity
from hounsfield.security.credentials import MANAGED_IDENTITY, USER_PASSWORD, Credential
from hounsfield.security.token_endpoint import TokenEndpoint


def bearer_auth(credential: Credential | None) -> BearerAuth | None:
    """What signs in the requests to a server; None without credential."""
    if credential is None:
        return None
    source = AzureIdentity(credential) if credential.kind == MANAGED_IDENTITY else TokenEndpoint(credential)
    pause = PASSWORD_PAUSE if credential.kind == USER_PASSWORD else FAILURE_PAUSE
    return BearerAuth(AccessTokens(source.request, refused_pause=pause))
