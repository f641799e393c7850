"""From settings to an object store (ObjectStore:Url and its companions, BlobStore:ConnectionString; server.md §14)."""

from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from hounsfield.errors import SettingsError
from hounsfield.storage.local import LocalStore
from hounsfield.storage.object_store import ObjectStore
from hounsfield.storage.options import StoreOptions


def open_store(url: str, options: StoreOptions, default_directory: Path) -> ObjectStore:
    """The store at ``url``: ``file:///path``, ``s3://bucket/prefix``, ``az://container/prefix``, ``gs://bucket/prefix``.

    Without one: the container of the connection string, else files in ``default_directory``. Does not connect, but
    creates a local directory. Raises SettingsError, StoreUnavailable if the directory cannot be used.
    """
    if not url and not options.connection_string:
        return LocalStore(default_directory)
    parts = _split(url or f"az://{options.container}")
    if parts.scheme == "file":
        return LocalStore(_directory(parts))
    # Half a second that only those who use a cloud should pay.
    from hounsfield.storage.cloud import open_cloud

    return open_cloud(parts.scheme, parts.netloc, unquote(parts.path).strip("/"), options)


def check_url(url: str) -> None:
    """Raise SettingsError unless ``url`` (empty for the default) is one that open_store understands."""
    if url and (parts := _split(url)).scheme == "file":
        _directory(parts)


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in ("file", "s3", "az", "gs"):
        raise SettingsError("ObjectStore:Url must begin with file:///, s3://, az:// or gs://.")
    if parts.scheme != "file" and not parts.netloc:
        raise SettingsError(f"ObjectStore:Url names no bucket or container: {parts.scheme}://name/prefix.")
    return parts


def _directory(parts: SplitResult) -> Path:
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.path == "/":
        raise SettingsError("ObjectStore:Url: a file address is written with three slashes, file:///path/of/directory.")
    return Path(unquote(parts.path))
