"""The settings of an object store beside its address."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a cloud's store is spoken to. None leaves it to storage/cloud.py."""

    max_retries: int | None = None
    retry_delay: timedelta | None = None
    fixed_delay: bool = False
    """Whether all pauses between attempts are alike; else each is twice as long as the one before."""
    request_timeout: timedelta | None = None
    connect_timeout: timedelta | None = None
    parts_at_a_time: int | None = None
    """Of one large upload."""
    requests_at_a_time: int | None = None
    """For one call that names many keys."""


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
    external: bool = False
    """Somebody else owns the container: it is not made by us, and what is wrong with it is not our failure."""
    tuning: Tuning = Tuning()
