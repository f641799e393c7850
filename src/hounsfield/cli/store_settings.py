"""Which object store the settings mean: ours, the reference's blob account, or its external store (server.md §14)."""

from datetime import timedelta
from urllib.parse import urlsplit

from hounsfield.errors import SettingsError
from hounsfield.settings import Settings
from hounsfield.storage.options import StoreOptions, Tuning

EXTERNAL = "DicomServer:Features:EnableExternalStore"


def object_store(settings: Settings) -> tuple[str, StoreOptions]:
    """Address (empty: local files, or the container of a connection string) and options. Raises SettingsError."""
    if settings.flag(EXTERNAL):
        return _external(settings)
    return settings.text("ObjectStore:Url"), StoreOptions(
        endpoint=settings.text("ObjectStore:Endpoint"),
        region=settings.text("ObjectStore:Region"),
        access_key_id=settings.text("ObjectStore:AccessKeyId"),
        secret_access_key=settings.text("ObjectStore:SecretAccessKey"),
        allow_http=settings.flag("ObjectStore:AllowHttp"),
        connection_string=settings.text("BlobStore:ConnectionString"),
        container=settings.text("DicomWeb:DicomStore:ContainerName"),
        tuning=_tuning(settings),
    )


def names_table_store(settings: Settings) -> bool:
    """Whether error rows of DICOM Cast go to Azure tables, too (dicom-cast.md §5)."""
    return bool(settings.text("TableStore:ConnectionString") or settings.text("TableStore:EndpointUri"))


def delete_delay(settings: Settings) -> timedelta:
    """How long files of deleted instances stay; not at all in somebody else's container (server.md §12)."""
    if settings.flag(EXTERNAL):
        return timedelta(0)
    return settings.duration("DicomServer:Services:DeletedInstanceCleanup:DeleteDelay")


def _external(settings: Settings) -> tuple[str, StoreOptions]:
    section = "ExternalBlobStore"
    uri, connection = settings.text(f"{section}:BlobContainerUri"), settings.text(f"{section}:ConnectionString")
    container = settings.text(f"{section}:ContainerName")
    if settings.text("ObjectStore:Url"):
        raise SettingsError(f"ObjectStore:Url and {EXTERNAL} say two places for the files: leave one out.")
    if uri:
        container, options = _container_uri(uri)
    elif connection and container:
        options = {"connection_string": connection}
    else:
        raise SettingsError(
            f"{EXTERNAL} is true: set {section}:BlobContainerUri, or both {section}:ConnectionString and "
            f"{section}:ContainerName."
        )
    folder = settings.text(f"{section}:StorageDirectory").strip("/")
    allow_http = settings.flag("ObjectStore:AllowHttp")
    tuning = _tuning(settings)
    return f"az://{container}/{folder}", StoreOptions(**options, allow_http=allow_http, external=True, tuning=tuning)


def _container_uri(uri: str) -> tuple[str, dict[str, str]]:
    """The container of ``https://account.blob.core.windows.net/container?sas`` and how to get there.

    The emulator's addresses have the account as first folder: ``http://127.0.0.1:10000/account/container``.
    """
    parts = urlsplit(uri)
    above, _, container = parts.path.strip("/").rpartition("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or not container:
        raise SettingsError("ExternalBlobStore:BlobContainerUri must read https://account.blob.core.windows.net/name.")
    endpoint = f"{parts.scheme}://{parts.netloc}" + (f"/{above}" if above else "")
    if parts.query:
        return container, {"connection_string": f"BlobEndpoint={endpoint};SharedAccessSignature={parts.query}"}
    return container, {"endpoint": endpoint, "access_key_id": above or parts.hostname.partition(".")[0]}


def _tuning(settings: Settings) -> Tuning:
    mode = settings.text("BlobStore:Retry:Mode").lower()
    if mode not in ("exponential", "fixed"):
        raise SettingsError("The setting BlobStore:Retry:Mode must be Exponential or Fixed.")
    return Tuning(
        max_retries=settings.optional_number("BlobStore:Retry:MaxRetries"),
        retry_delay=settings.optional_duration("BlobStore:Retry:Delay"),
        fixed_delay=mode == "fixed",
        request_timeout=settings.optional_duration("BlobStore:Retry:NetworkTimeout"),
        connect_timeout=settings.optional_duration("BlobStore:TransportOverride:ConnectTimeout"),
        parts_at_a_time=settings.optional_number("BlobStore:Operations:Upload:MaximumConcurrency"),
        requests_at_a_time=settings.optional_number("BlobStore:Operations:Download:MaximumConcurrency"),
    )
