"""From what a request says of its destination to the destination, in API processes and workers alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hounsfield.errors import SettingsError
from hounsfield.operations.export.azure_container import AzureContainer, AzureDestination
from hounsfield.operations.export.destinations import Destination, DestinationRefused
from hounsfield.operations.export.folder import FolderDestination, allowed_folder
from hounsfield.operations.export.request import ExportRequest
from hounsfield.security.access_tokens import AccessTokens, TokenRefused, TokenUnavailable
from hounsfield.security.azure_tokens import AzureIdentity
from hounsfield.security.credentials import MANAGED_IDENTITY, Credential

STORAGE = "https://storage.azure.com"
"""What a token for Blob Storage is asked for."""


class DestinationType(StrEnum):
    """Kinds of destinations. The last two are ours."""

    AZURE_BLOB = "azureBlob"
    S3 = "s3"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Sinks:
    """``Export:Sinks``: what an administrator lets exports go to."""

    allow_sas: bool = True
    allow_public: bool = True
    s3: bool = False
    s3_environment: bool = False
    """Whether an export without credentials may use those of this server."""
    folders: Sequence[Path] = ()


class Opener:
    """Opens destinations. One for a process: it keeps the token of the managed identity."""

    def __init__(self, sinks: Sinks) -> None:
        self.sinks = sinks
        self._tokens: AccessTokens | None = None

    def open(self, request: ExportRequest, operation_id: str, secret: Mapping[str, str]) -> Destination:
        """The folder of an operation at its destination. Raises DestinationRefused."""
        given = request.destination
        match DestinationType(given["type"]):
            case DestinationType.AZURE_BLOB:
                container = AzureContainer(
                    given["url"], given["account"], sas=secret.get("sas", ""), key=secret.get("key", "")
                )
                return AzureDestination(container, operation_id, self._token if given["managedIdentity"] else None)
            case DestinationType.S3:
                return self._bucket(given, operation_id, secret)
            case DestinationType.FOLDER:
                # Looked up again: what is allowed may be other than when it was asked for.
                return FolderDestination(allowed_folder(given["path"], self.sinks.folders), operation_id)

    def _bucket(self, given: Mapping[str, str], operation_id: str, secret: Mapping[str, str]) -> Destination:
        if not self.sinks.s3:
            raise DestinationRefused("Export to S3 is off. An administrator can allow it with Export:Sinks:S3:Enabled.")
        if not secret and not self.sinks.s3_environment:
            raise DestinationRefused(
                "accessKeyId and secretAccessKey are required. An administrator can let exports use the server's own "
                "credentials with Export:Sinks:S3:AllowServerCredentials."
            )
        # Half a second to load, which only those pay who export there.
        from hounsfield.operations.export.bucket import BucketDestination

        options = {name: given[name] for name in ("endpoint", "region") if given.get(name)} | dict(secret)
        folder = f"{given['prefix']}/{operation_id}" if given.get("prefix") else operation_id
        allow_http = given.get("endpoint", "").startswith("http://")
        return BucketDestination(given["bucket"], folder, options, allow_http=allow_http)

    async def _token(self) -> str:
        """Raises DestinationRefused."""
        if self._tokens is None:
            credential = Credential(MANAGED_IDENTITY, "Export:Sinks:AzureBlob", resource=STORAGE)
            self._tokens = AccessTokens(AzureIdentity(credential).request)
        try:
            return await self._tokens.current()
        except (TokenRefused, TokenUnavailable, SettingsError):
            raise DestinationRefused(
                "No identity has been configured: this server gets no token for Azure Blob Storage. Give its processes "
                "a managed identity, or AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET."
            ) from None
