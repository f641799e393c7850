"""The destination of an export as a request gives it: what may be known of it, and what is secret (operations.md §3).

Texts about Azure are the reference's. Nothing given is repeated in them.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from hounsfield.errors import BadRequest, SettingsError
from hounsfield.operations.export.azure_container import signature_in
from hounsfield.operations.export.folder import allowed_folder
from hounsfield.operations.export.opening import DestinationType, Sinks
from hounsfield.storage.azure import parse_connection_string

_CONTAINER = re.compile(r"\$root|\$web|[a-z0-9](?:-?[a-z0-9]){2,62}")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}")
_PREFIX = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~=@+-]+(?:/(?=.)|\Z))*")
_EMULATORS = ("usedevelopmentstorage=true", "accountname=devstoreaccount1")

Place = tuple[dict[str, Any], dict[str, str]]
"""What everybody may know, and what is secret."""


def destination_of(kind: DestinationType, settings: Mapping[str, Any], sinks: Sinks) -> Place:
    """``settings`` have their names in lower case. Raises BadRequest."""
    match kind:
        case DestinationType.AZURE_BLOB:
            return _azure(settings, sinks)
        case DestinationType.S3:
            return _bucket(settings)
        case DestinationType.FOLDER:
            path = _text(settings, "path")
            return {"type": kind.value, "path": str(allowed_folder(path, sinks.folders))}, {}


def _azure(settings: Mapping[str, Any], sinks: Sinks) -> Place:
    uri = _text(settings, "blobContainerUri")
    connection = _text(settings, "connectionString")
    container = _text(settings, "blobContainerName")
    identity = settings.get("usemanagedidentity")
    if identity is None:
        identity = False
    if not isinstance(identity, bool):
        raise BadRequest("The field 'useManagedIdentity' is invalid: true or false is required.")
    if settings.get("blobcontaineruri") is not None:
        return _by_uri(uri, connection, container, sinks, identity=identity)
    return _by_connection(connection, container, sinks, identity=identity)


def _by_connection(connection: str, container: str, sinks: Sinks, *, identity: bool) -> Place:
    if not connection or not container:
        raise BadRequest("Please specify both ConnectionString and BlobContainerName.")
    known = re.sub(r"\s*([;=])\s*", r"\1", connection).lower()
    if "accountkey=" in known and not any(emulator in known for emulator in _EMULATORS):
        raise BadRequest("Account key authentication is not supported.")
    signed = "sharedaccesssignature=" in known
    if signed and not sinks.allow_sas:
        raise BadRequest("Shared Access Signatures (SAS) are not supported.")
    if not signed and not sinks.allow_public:
        raise BadRequest("Public access to Azure Blob Storage containers is not supported.")
    if identity:
        raise BadRequest("Managed identity cannot be used with a ConnectionString.")
    try:
        account = parse_connection_string(connection)
        _require_address(account.endpoint)
    except SettingsError as error:
        raise BadRequest(error.message) from None
    if _CONTAINER.fullmatch(container) is None:
        raise BadRequest("The field 'blobContainerName' is invalid: it is not the name of a container.")
    secret = {"sas": account.sas} if account.sas else {"key": account.key} if account.key else {}
    return _container(f"{account.endpoint}/{container}", account.name, identity=False), secret


def _by_uri(uri: str, connection: str, container: str, sinks: Sinks, *, identity: bool) -> Place:
    _require_address(uri)
    parts = urlsplit(uri)
    path = parts.path.rstrip("/")
    above, _, name = path.rpartition("/")
    if _CONTAINER.fullmatch(name) is None:
        raise BadRequest("The field 'blobContainerUri' is invalid: it is not the address of a container.")
    if connection or container:
        raise BadRequest("ConnectionString and BlobContainerName cannot be specified along with BlobContainerUri.")
    signed = signature_in(parts.query)
    if identity and signed:
        raise BadRequest(
            "UseManagedIdentity cannot be specified if the BlobContainerUri container query string parameters."
        )
    if signed and not sinks.allow_sas:
        raise BadRequest("Shared Access Signatures (SAS) are not supported.")
    if not signed and not identity and not sinks.allow_public:
        raise BadRequest("Public access to Azure Blob Storage containers is not supported.")
    # The emulator's addresses have the account as first folder.
    account = above.strip("/") or (parts.hostname or "").partition(".")[0]
    public = _container(f"{parts.scheme}://{parts.netloc}{path}", account, identity=identity)
    return public, {"sas": parts.query} if signed else {}


def _container(url: str, account: str, *, identity: bool) -> dict[str, Any]:
    return {"type": DestinationType.AZURE_BLOB.value, "url": url, "account": account, "managedIdentity": identity}


def _bucket(settings: Mapping[str, Any]) -> Place:
    bucket, prefix = _text(settings, "bucket"), _text(settings, "prefix").strip("/")
    if _BUCKET.fullmatch(bucket) is None:
        raise BadRequest("The field 'bucket' is invalid: it is not the name of a bucket.")
    if _PREFIX.fullmatch(prefix) is None:
        raise BadRequest("The field 'prefix' is invalid: folders of letters, digits and ._~=@+- are required.")
    endpoint = _text(settings, "endpoint")
    if endpoint:
        _require_address(endpoint)
    given = {name: _text(settings, name) for name in ("accessKeyId", "secretAccessKey", "sessionToken")}
    if bool(given["accessKeyId"]) != bool(given["secretAccessKey"]):
        raise BadRequest("Please specify both accessKeyId and secretAccessKey.")
    names = {"accessKeyId": "access_key_id", "secretAccessKey": "secret_access_key", "sessionToken": "session_token"}
    public = {"type": DestinationType.S3.value, "bucket": bucket, "prefix": prefix, "endpoint": endpoint}
    return public | {"region": _text(settings, "region") or "us-east-1"}, {
        names[name]: value for name, value in given.items() if value
    }


def _require_address(url: str) -> None:
    """Raises BadRequest unless ``url`` is absolute, names a host, and no user."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        usable = usable and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise BadRequest("The address of the destination is invalid: an absolute http or https URL is required.")


def _text(settings: Mapping[str, Any], name: str) -> str:
    """A setting without the blanks around it, empty where it is not given. Raises BadRequest."""
    value = settings.get(name.lower())
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise BadRequest(f"The field '{name}' is invalid: a text is required.")
    return value.strip()
