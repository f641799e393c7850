"""Every setting: its key, type, default and a sentence, in one place.

Keys are the reference server's (``DicomServer:Security:Enabled``); ours stand beside them in the same style. Sources,
later wins: JSON file, the one beside it for the environment (``appsettings.Production.json``), environment variables
(``__`` for ``:``), command line. Keys are case-insensitive in all of them, lists are written by index
(``…:Origins:0``), times ``[d.]hh:mm:ss[.f]`` (server.md §14, dicom-cast.md §7.3).
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from hounsfield.errors import SettingsError
from hounsfield.setting_sources import flat, from_directory, from_file, from_variables
from hounsfield.setting_values import Value, parse, printed

ReadVault = Callable[[str, Callable[[str], bool]], Mapping[str, str]]
"""Gives the settings in the vault at an address, but only those whose key is wanted."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    key: str
    type: type
    default: Value
    sentence: str
    minimum: int | None = None
    """Of an integer."""


def _sign_in(server: str, name: str) -> tuple[Setting, ...]:
    """How DICOM Cast signs in at one of its two servers (dicom-cast.md §7.2)."""
    section = f"{server}:Authentication"
    rows = [
        Setting(f"{section}:Enabled", bool, False, f"Sign in at {name}."),
        Setting(f"{section}:AuthenticationType", str, "", "ManagedIdentity, or the name of one of the sections below."),
        Setting(f"{section}:ManagedIdentityCredential:Resource", str, "", "What the token is for, as a URL."),
        Setting(
            f"{section}:ManagedIdentityCredential:ClientId", str, "", "A user-assigned identity; else the system's."
        ),
        Setting(f"{section}:ManagedIdentityCredential:TenantId", str, "", "Tenant, if not the identity's own."),
    ]
    secret = Setting("ClientSecret", str, "", "Its secret.")
    user = (Setting("Username", str, "", "Name of the user."), Setting("Password", str, "", "The user's password."))
    for credential, own in {
        "OAuth2ClientCredential": (secret, *user),
        "OAuth2UserPasswordCredential": (secret, *user),
        "OAuth2ClientCertificateCredential": (
            Setting("Certificate", str, "", "PEM or PKCS #12 file with the certificate and its key, or what is in it."),
        ),
    }.items():
        for row in (
            Setting("TokenUri", str, "", "Address of the token endpoint."),
            Setting("Resource", str, "", "Resource that is asked for, where the provider wants one."),
            Setting("Scope", str, "", "Scopes that are asked for, where the provider wants them."),
            Setting("ClientId", str, "", "Name of the client at the provider."),
            *own,
        ):
            rows.append(replace(row, key=f"{section}:{credential}:{row.key}"))
    return tuple(rows)


TABLE: tuple[Setting, ...] = (
    Setting("Database:Url", str, "", "Index database: sqlite:////path/index.db or postgresql://user:password@host/name."),
    Setting("ObjectStore:Url", str, "", "Where files go: file:///path, s3://bucket/prefix, az://container/prefix, gs://…"),
    Setting("ObjectStore:Endpoint", str, "", "Endpoint of an S3- or Azure-compatible store."),
    Setting("ObjectStore:Region", str, "", "Region of the S3 bucket."),
    Setting("ObjectStore:AccessKeyId", str, "", "Access key (S3) or account name (Azure)."),
    Setting("ObjectStore:SecretAccessKey", str, "", "Secret key (S3) or account key (Azure)."),
    Setting("ObjectStore:AllowHttp", bool, False, "Allow a plain http endpoint."),
    Setting("BlobStore:ConnectionString", str, "", "Azure Blob account; used when ObjectStore:Url is empty."),
    Setting("DicomWeb:DicomStore:ContainerName", str, "dicomwebcontainer", "Container used with BlobStore:ConnectionString."),
    Setting("BlobStore:Retry:MaxRetries", int, None, "How often a request to a cloud's object store is tried again: 4.", 0),
    Setting("BlobStore:Retry:Delay", timedelta, None, "Pause before the first of these: 0.1 s; in all they take 20 s at most."),
    Setting("BlobStore:Retry:Mode", str, "Exponential", "Exponential: each pause is twice as long as the one before. Fixed: all are alike."),
    Setting("BlobStore:Retry:NetworkTimeout", timedelta, None, "How long one request to a cloud's object store may take: 30 s."),
    Setting("BlobStore:TransportOverride:ConnectTimeout", timedelta, None, "How long connecting to it may take: 5 s."),
    Setting("BlobStore:Operations:Upload:MaximumConcurrency", int, None, "Parts of one large file sent to it at a time: 4.", 1),
    Setting("BlobStore:Operations:Download:MaximumConcurrency", int, None, "Objects of one answer asked for at a time: 16.", 1),
    Setting("DicomServer:Features:EnableExternalStore", bool, False, "Keep files in the container of ExternalBlobStore, which somebody else owns."),
    Setting("ExternalBlobStore:BlobContainerUri", str, "", "https address of that container; signing in as the environment says."),
    Setting("ExternalBlobStore:ConnectionString", str, "", "Or the account it is in."),
    Setting("ExternalBlobStore:ContainerName", str, "", "And its name."),
    Setting("ExternalBlobStore:StorageDirectory", str, "DICOM/", "Folder in it where everything goes."),
    Setting("SqlServer:Initialize", bool, True, "Make the schema of an empty database at start."),
    Setting("SqlServer:SchemaOptions:AutomaticUpdatesEnabled", bool, True, "Bring an older schema up to date at start."),
    Setting("DicomServer:Security:Enabled", bool, False, "Ask for a token on every request."),
    Setting("DicomServer:Security:Authentication:Authority", str, "", "Base URL of the OpenID Connect provider whose tokens count."),
    Setting("DicomServer:Security:Authentication:Audience", str, "", "Audience a token must be for."),
    Setting("DicomServer:Security:Authentication:Audiences", list, [], "Audiences, where there are several; Audience then does not count."),
    Setting("DicomServer:Security:Authorization:Enabled", bool, False, "Permit what the roles of the token permit, by roles.json; else a good token permits everything."),
    Setting("DicomServer:Security:Authorization:RolesClaim", str, "roles", "Claim of the token that names its roles."),
    Setting("DicomServer:Security:PrincipalClaims", list, [], "Claims of the token that are copied to the audit log."),
    Setting("DicomServer:Audit:CustomAuditHeaderPrefix", str, "X-MS-AZUREDICOM-AUDIT-", "Request headers that begin so are copied to the audit log."),
    Setting("DicomServer:Features:EnableDataPartitions", bool, False, "Data partitions: /{version}/partitions/{name}/… instead of /{version}/…."),
    Setting("DicomServer:Features:EnableFullDicomItemValidation", bool, False, "Validate every attribute strictly at store."),
    Setting("DicomServer:Features:EnableOhifViewer", bool, False, "The OHIF viewer at /viewer; its files come with `hounsfield viewer install`."),
    Setting("DicomServer:Features:DisableOperations", bool, False, "Refuse what would start a long-running operation."),
    Setting("DicomServer:Features:EnableExport", bool, True, "Export: POST /{version}/export."),
    Setting("Export:Sinks:AzureBlob:AllowSasTokens", bool, True, "Exports may go to containers that a shared access signature opens."),
    Setting("Export:Sinks:AzureBlob:AllowPublicAccess", bool, True, "Exports may go to containers that need no credentials, the emulator's among them."),
    Setting("Export:Sinks:S3:Enabled", bool, False, "Exports may go to S3."),
    Setting("Export:Sinks:S3:AllowServerCredentials", bool, False, "An export to S3 that has no credentials uses those of this server."),
    Setting("Export:Sinks:Folder:AllowedDirectories", list, [], "Exports may go to these folders of the machine, and to those below them."),
    Setting("DicomFunctions:Export:Batching:Size", int, 100, "Identifiers of an export in one batch.", 1),
    Setting("DicomFunctions:Export:Batching:MaxParallelCount", int, 2, "Batches of one export under way at a time.", 1),
    Setting("Operations:EncryptionKey", str, "", "32 random bytes in Base64 that encrypt credentials of operations; a file in the data directory if empty."),
    Setting("DicomServer:Services:ExtendedQueryTag:MaxAllowedCount", int, 128, "Extended query tags there may be.", 1),
    Setting("Viewer:Directory", str, "", "Folder of its files; in the Python environment of the program if empty."),
    Setting("Viewer:ClientId", str, "", "Name of the viewer at the OpenID Connect provider, where it signs people in."),
    Setting("Viewer:Scope", str, "openid", "What it asks the provider for, separated by spaces."),
    Setting("DicomServer:Services:StoreServiceSettings:MaxAllowedDicomFileSize", int, 2147483647, "Bytes per DICOM part.", 1),
    Setting("DicomServer:Services:DeletedInstanceCleanup:DeleteDelay", timedelta, timedelta(days=3), "Wait before the file of a deleted instance is removed."),
    Setting("DicomServer:Services:DeletedInstanceCleanup:MaxRetries", int, 5, "Attempts to remove a file before giving up.", 0),
    Setting("DicomServer:Services:DeletedInstanceCleanup:RetryBackOff", timedelta, timedelta(days=1), "Wait after a failed removal."),
    Setting("DicomServer:Services:DeletedInstanceCleanup:PollingInterval", timedelta, timedelta(minutes=3), "Pause between cleanup rounds."),
    Setting("DicomServer:Services:DeletedInstanceCleanup:BatchSize", int, 10, "Files removed in one batch.", 1),
    Setting("DicomServer:Services:DataPartition:MaxCacheSize", int, 10000, "Names of data partitions kept in memory.", 0),
    Setting("DicomServer:Services:DataPartition:MaxCacheAbsoluteExpirationInMinutes", int, 5, "Minutes a name of a data partition is kept.", 0),
    Setting("DicomServer:Services:Retrieve:MaxDicomFileSize", int, 104857600, "Most that is decoded at once, in bytes: a frame, or a file that is rewritten as a whole.", 0),
    Setting("DicomServer:Services:UpdateServiceSettings:LargeDicomItemsizeInBytes", int, 1048576, "Bulk update of files in a cloud: larger ones are not held in memory.", 1),
    Setting("DicomServer:Services:UpdateServiceSettings:StageBlockSizeInBytes", int, 4194304, "Bytes of such a file that are read and written at a time.", 1),
    Setting("DicomServer:Services:Recompression:Enabled", bool, False, "Compress uncompressed images to HTJ2K, without loss, before they are stored."),
    Setting("DicomServer:Services:Recompression:KeepOriginal", bool, True, "Keep the file as received beside the compressed one."),
    Setting("DicomServer:Services:Recompression:MinimumBytes", int, 65536, "Smaller files are stored as received.", 0),
    Setting("DicomServer:Swagger:Title", str, "Medical Imaging Server for DICOM", "Title of the OpenAPI documents."),
    Setting("DicomServer:Swagger:ServerUri", str, "", "Server address in the OpenAPI documents."),
    Setting("DicomServer:Swagger:License:Name", str, "MIT License", "Licence name in the OpenAPI documents."),
    Setting("DicomServer:Swagger:License:Url", str, "", "Licence address in the OpenAPI documents."),
    Setting("DicomServer:Cors:Origins", list, [], "Origins of web pages that may read answers; * alone for every origin."),
    Setting("DicomServer:Cors:Methods", list, [], "Methods such pages may use; * alone for every method."),
    Setting("DicomServer:Cors:Headers", list, [], "Request headers such pages may send; * alone for every header."),
    Setting("DicomServer:Cors:MaxAge", int, None, "Seconds a browser may remember what such pages may do.", 0),
    Setting("DicomServer:Cors:AllowCredentials", bool, False, "Whether such pages may send cookies and the like."),
    Setting("AllowedHosts", str, "*", "Hosts of this server, separated by semicolons: name, *.example.com, or *."),
    Setting("ASPNETCORE_URLS", str, "", "Where to listen if --host and --port do not say: http://127.0.0.1:8080."),
    Setting("ASPNETCORE_ENVIRONMENT", str, "Production", "Settings are read from a second file as well: appsettings.Production.json."),
    Setting("ASPNETCORE_TEMP", str, "", "Folder for large uploads under way; spool in the data directory if empty."),
    Setting("ASPNETCORE_FORWARDEDHEADERS_ENABLED", bool, False, "Believe X-Forwarded-Proto and X-Forwarded-For, which a proxy in front must set."),
    Setting("HealthCheckPublisher:ExcludedHealthCheckNames", str, "", "Health checks left out, separated by commas."),
    Setting("Logging:LogLevel:Default", str, "Warning", "Trace, Debug, Information, Warning, Error, Critical or None."),
    Setting("Logging:LogLevel:AuditEvent", str, "Information", "Warning, Error, Critical or None switch the audit log off."),
    Setting("KeyVault:Endpoint", str, "", "Azure Key Vault whose secrets are settings: DicomServer--Security--Enabled and so on."),
    Setting("Secrets:Directory", str, "", "Folder with one file a setting, named as in the environment: BlobStore__ConnectionString."),
    Setting("Fhir:Endpoint", str, "", "FHIR R4 server cast writes to; empty means the embedded store at /fhir."),
    Setting("Fhir:Version", str, "R4", "FHIR version of Fhir:Endpoint: R4 or R5; the embedded store is R4."),
    Setting("DicomWeb:Endpoint", str, "", "Public root of this server, written into FHIR; for `hounsfield cast` also what it reads."),
    Setting("DicomWeb:PrivateEndpoint", str, "", "Root `hounsfield cast` reads from, if another than DicomWeb:Endpoint."),
    Setting("DicomCast:Enabled", bool, True, "Keep a FHIR server true to the change feed."),
    Setting("DicomCast:Partitions", list, [], "Data partitions that are cast; empty means the default one."),
    Setting("DicomCast:Features:EnforceValidationOfTagValues", bool, False, "An invalid optional value fails the entry."),
    Setting("DicomCast:Features:GenerateObservations", bool, True, "Observations from dose reports."),
    Setting("DicomCast:Features:ExtendedMapping", bool, False, "Write what the reference leaves out: see docs/integrate.md."),
    Setting("DicomCast:Features:SyncWorkitems", bool, False, "Keep a FHIR Task true to each workitem of the worklist."),
    Setting("DicomCast:Features:IgnoreJsonParsingErrors", bool, False, "Skip change feed entries that are not valid DICOM JSON."),
    Setting("DicomCastWorker:PollInterval", timedelta, None, "Pause between looks at the feed: 1 minute, in serve 5 seconds."),
    Setting("DicomCastWorker:PollIntervalDuringCatchup", timedelta, timedelta(0), "Pause between pages of a backlog."),
    Setting("RetryConfiguration:TotalRetryDuration", timedelta, timedelta(minutes=10), "How long one entry is retried."),
    Setting("TableStore:ConnectionString", str, "", "Azure tables that get a copy of cast's error rows."),
    Setting("TableStore:EndpointUri", str, "", "The same by address, signed in to as DefaultAzureCredential does."),
    Setting("TableStore:ClientId", str, "", "Which user-assigned identity signs in at TableStore:EndpointUri."),
    Setting("TableStore:TableNamePrefix", str, "", "What their names begin with."),
    Setting("Patient:PatientSystemId", str, "", "System of Patient.identifier."),
    Setting("Patient:IsIssuerIdUsed", bool, False, "Take the system from IssuerOfPatientID."),
    *_sign_in("Fhir", "the FHIR server"),
    *_sign_in("DicomWeb", "the DICOM server whose feed `hounsfield cast` reads"),
)  # fmt: skip

_INDEX = "the index is another database"

WITHOUT_EFFECT: Mapping[str, str] = {
    "DicomServer:Features:EnableLatestApiVersion": "no version is to come",
    "DicomServer:Services:Retrieve:MaxDegreeOfParallelism": "metadata are read in one go, not file by file",
    "DicomServer:Services:Retrieve:LazyResponseStreamBufferSize": "answers are streamed as they are read",
    "DicomServer:Services:InstanceMetadataCacheConfiguration:": "the index answers at once, and is never out of date",
    "DicomServer:Services:FramesRangeCacheConfiguration:": "the index answers at once, and is never out of date",
    "DicomServer:Services:DataCleanupConfiguration:": "a repair of the hosted service",
    "DicomServer:Services:ContentLengthBackFillConfiguration:": "a repair of the hosted service",
    "DicomServer:ServerIdentity:": "clouds are signed in to as their own environment variables say",
    "BlobStore:Initialization:": "nothing is waited for at start; the first store makes the container",
    "DicomWeb:MetadataStore:ContainerName": "metadata are in the index",
    "DicomWeb:WorkitemStore:ContainerName": "workitems are in the index",
    "ExternalBlobStore:HealthCheckFilePath": "each check has a file of its own in health/",
    "ExternalBlobStore:HealthCheckFileExpiry": "a check removes its file at once",
    "KeyVault:VaultUri": "credentials of exports are encrypted in the database",
    "DicomFunctions:": "other operations choose the size of their batches themselves",
    "SqlServer:ConnectionString": "the index is in Database:Url",
    "SqlServer:AllowDatabaseCreation": "SQLite makes its file, PostgreSQL wants a database",
    "SqlServer:Retry:": _INDEX,
    "SqlServer:StatementTimeout": _INDEX,
    "SqlServer:CommandTimeout": _INDEX,
    "SqlServer:SchemaOptions:": _INDEX,
    "SqlServer:TerminateWhenSchemaVersionUpdatedTo": _INDEX,
    "SqlServer:AuthenticationType": _INDEX,
    "SqlServer:ManagedIdentityClientId": _INDEX,
    "Logging:IncludeScopes": "there is one log, on standard error",
    "Logging:ApplicationInsights:": "there is one log, on standard error",
    "Logging:Console:": "there is one log, on standard error",
    "Logging:Debug:": "there is one log, on standard error",
    "ApplicationInsights:": "nothing is sent anywhere",
}
"""Keys of the reference that are accepted and change nothing (all below those that end with a colon), and why.

They are passed over without a word, so that its appsettings.json works as it is; ``config show`` lists them.
"""

SECTIONS = frozenset(row.key.split(":")[0].lower() for row in TABLE)
_BY_KEY = {row.key.lower(): row for row in TABLE}

SECRETS = frozenset(
    {
        "objectstore:secretaccesskey",
        "blobstore:connectionstring",
        "externalblobstore:connectionstring",
        "tablestore:connectionstring",
        "operations:encryptionkey",
    }
) | {key for key in _BY_KEY if key.endswith((":clientsecret", ":password", ":certificate"))}
"""Keys whose values are never printed. Of addresses only what is secret in them is left out."""

DEFAULT = "default"
FILE = "file"
ENVIRONMENT_FILE = "environment's file"
ENVIRONMENT = "environment"
MOUNTED_FILE = "mounted file"
KEY_VAULT = "key vault"
COMMAND_LINE = "command line"

LOG_LEVEL = "logging:loglevel:"
"""Below it, besides Default, stand the levels of single categories."""
LOG_LEVELS = ("trace", "debug", "information", "warning", "error", "critical", "none")


class Settings:
    """The effective settings, with typed getters."""

    def __init__(
        self,
        values: Mapping[str, Value],
        origins: Mapping[str, str] | None = None,
        without_effect: Mapping[str, str] | None = None,
    ) -> None:
        self._values = values
        self._origins = origins or {}
        self.without_effect = without_effect or {}
        """Keys that were given but change nothing, and why."""

    def origin(self, key: str) -> str:
        """Where the value of a setting comes from: DEFAULT, FILE, ENVIRONMENT or COMMAND_LINE."""
        return self._origins.get(key.lower(), DEFAULT)

    def value(self, key: str) -> Value:
        """A setting as it is; None where there is neither a value nor a default."""
        return self._values[key.lower()]

    def text(self, key: str) -> str:
        """A string setting, stripped; empty where it is not set."""
        value = self._values[key.lower()]
        return value.strip() if isinstance(value, str) else ""

    def flag(self, key: str) -> bool:
        """A boolean setting."""
        return bool(self._values[key.lower()])

    def number(self, key: str) -> int:
        """An integer setting."""
        value = self._values[key.lower()]
        assert isinstance(value, int)
        return value

    def optional_number(self, key: str) -> int | None:
        """An integer setting that may be left out."""
        value = self._values[key.lower()]
        return value if isinstance(value, int) else None

    def duration(self, key: str, default: timedelta | None = None) -> timedelta:
        """A time setting; ``default`` stands in where the table has none."""
        value = self._values[key.lower()]
        if value is None:
            value = default
        assert isinstance(value, timedelta)
        return value

    def optional_duration(self, key: str) -> timedelta | None:
        """A time setting that may be left out."""
        value = self._values[key.lower()]
        return value if isinstance(value, timedelta) else None

    def strings(self, key: str) -> list[str]:
        """A list setting."""
        value = self._values[key.lower()]
        return list(value) if isinstance(value, list) else []

    def log_levels(self) -> dict[str, str]:
        """Level by category, both in lower case; that of ``default`` is for all others."""
        return {
            key.removeprefix(LOG_LEVEL): str(value).lower()
            for key, value in self._values.items()
            if key.startswith(LOG_LEVEL)
        }

    def to_environment(self) -> str:
        """All values that are not defaults, for a child process (see :func:`from_environment`)."""
        defaults = {row.key.lower(): row.default for row in TABLE}
        changed = {key: value for key, value in self._values.items() if value != defaults.get(key)}
        return msgspec.json.encode({key: printed(value) for key, value in changed.items()}).decode()


def load(
    file: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    read_vault: ReadVault | None = None,
) -> tuple[Settings, list[str]]:
    """Effective settings and warnings about keys nobody knows.

    ``read_vault`` is called where the other sources name a vault. Raises SettingsError for a file that cannot be read
    or a value that does not fit its type; the message names the key, never the value.
    """
    raw: dict[str, Any] = {}
    sources: dict[str, str] = {}

    def take(given: Mapping[str, Any], source: str) -> None:
        for key in given:
            if key in _BY_KEY and _BY_KEY[key].type is list:
                # A list given as a whole replaces the items of earlier sources.
                for item in [other for other in raw if other.startswith(f"{key}:")]:
                    del raw[item]
        raw.update(given)
        sources.update(dict.fromkeys(given, source))

    variables = from_variables(os.environ if environment is None else environment, _BY_KEY, _is_ours)
    given = {key.lower(): value for key, value in (overrides or {}).items()}
    if file is not None:
        take(from_file(file), FILE)
        second = _environment_file(file, {**variables, **given})
        if second.exists():
            take(from_file(second), ENVIRONMENT_FILE)
    take(variables, ENVIRONMENT)
    places = {**raw, **given}
    if directory := places.get("secrets:directory"):
        take(from_directory(Path(directory), _is_ours), MOUNTED_FILE)
        places = {**raw, **given}
    if read_vault is not None and (vault := places.get("keyvault:endpoint")):
        take({key.lower(): value for key, value in read_vault(str(vault), _is_ours).items()}, KEY_VAULT)
    take(given, COMMAND_LINE)
    return _effective(raw, sources)


def _effective(raw: Mapping[str, Any], sources: Mapping[str, str]) -> tuple[Settings, list[str]]:
    values: dict[str, Value] = {row.key.lower(): row.default for row in TABLE}
    origins: dict[str, str] = {}
    lists: dict[str, dict[int, str]] = {}
    idle: dict[str, str] = {}
    warnings = []
    for key, value in raw.items():
        parent, _, index = key.rpartition(":")
        if index.isdigit() and parent in _BY_KEY:
            lists.setdefault(parent, {})[int(index)] = str(value)
            origins[parent] = sources[key]
        elif key in _BY_KEY or key.startswith(LOG_LEVEL):
            values[key] = _level(key, value) if key.startswith(LOG_LEVEL) else _typed(_BY_KEY[key], value)
            origins[key] = sources[key]
        elif (reason := why_without_effect(key)) is not None:
            idle[key] = reason
            origins[key] = sources[key]
        elif key.split(":")[0] in SECTIONS or sources[key] == COMMAND_LINE:
            warnings.append(f"Unknown setting {key}.")
    for key, items in lists.items():
        values[key] = [items[index] for index in sorted(items)]
    if raw.get("sqlserver:connectionstring") and not values["database:url"]:
        warnings.append(
            "SqlServer:ConnectionString is not used, the index is SQLite or PostgreSQL: set Database:Url, "
            "or SQLite in the data directory it is."
        )
    return Settings(values, origins, idle), warnings


def why_without_effect(key: str) -> str | None:
    """Why a key that the reference has changes nothing here; None where it does, or is not known."""
    key = key.lower()
    for known, reason in WITHOUT_EFFECT.items():
        if key == known.lower() or (known.endswith(":") and key.startswith(known.lower())):
            return reason
    return None


def from_environment(text: str) -> Settings:
    """The settings :meth:`Settings.to_environment` printed."""
    # What the other sources gave is in it.
    values = flat(msgspec.json.decode(text))
    return _effective(values, dict.fromkeys(values, COMMAND_LINE))[0]


def _is_ours(key: str) -> bool:
    """Whether the first part of a key is one of those we know."""
    return key.partition(":")[0].lower() in SECTIONS


def _environment_file(file: Path, given: Mapping[str, Any]) -> Path:
    """``appsettings.json`` becomes ``appsettings.Production.json``. Raises SettingsError."""
    name = str(given.get("aspnetcore_environment") or _BY_KEY["aspnetcore_environment"].default)
    if re.fullmatch(r"\w[\w.-]*", name) is None:
        raise SettingsError("The setting ASPNETCORE_ENVIRONMENT must be a word, such as Development.")
    return file.with_name(f"{file.stem}.{name}{file.suffix}")


def _typed(row: Setting, value: Any) -> Value:
    return parse(row.key, row.type, row.minimum, value)


def _level(key: str, value: Any) -> str:
    text = str(value).strip()
    if text.lower() in LOG_LEVELS:
        return text
    name = _BY_KEY[key].key if key in _BY_KEY else key
    raise SettingsError(f"The setting {name} must be Trace, Debug, Information, Warning, Error, Critical or None.")
