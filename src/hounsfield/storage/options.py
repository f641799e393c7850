"""The settings of an object store beside its address."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What the address does not say. Empty fields are left to the cloud's own environment variables and defaults."""

    endpoint: str = ""
    """Of an S3- or Azure-compatible store."""
    region: str = ""
    access_key_id: str = ""
    """Access key (S3) or account name (Azure)."""
    secret_access_key: str = ""
    """Secret key (S3) or account key (Azure)."""
    allow_http: bool = False
    """Whether a plain http endpoint is accepted."""
    connection_string: str = ""
    """BlobStore:ConnectionString. Names the account of an ``az://`` address, and the store if there is no address."""
    container: str = "dicomwebcontainer"
    """Used when only the connection string is given."""
