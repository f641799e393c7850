"""What cast needs to be told; read from the settings by whoever starts the worker (dicom-cast.md §7.3)."""

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

from hounsfield.cast.feed import DEFAULT_PARTITION
from hounsfield.errors import SettingsError

_DEFAULT_PORTS = {"http": 80, "https": 443}


def normalise_root(url: str) -> str:
    """``DicomWeb:Endpoint`` as it is written into FHIR (dicom-cast.md §6.2): what .NET's ``Uri.ToString`` makes of it.

    Scheme and host in lower case, default port dropped, a bare host gets ``/``, a path is kept.
    Raises SettingsError for anything that is no absolute http(s) URL.

    >>> normalise_root("HTTPS://DICOM.Example.com:443")
    'https://dicom.example.com/'
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise SettingsError("DicomWeb:Endpoint is not a URL.") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise SettingsError("DicomWeb:Endpoint must be an absolute URL that begins with http:// or https://.")
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{port}"
    return urlunsplit((parts.scheme, f"{user}{at}{host}", parts.path or "/", parts.query, parts.fragment))


@dataclass(frozen=True, slots=True)
class RetryTiming:
    """Seconds between attempts: ``base``, twice that, and so on up to ``longest`` (dicom-cast.md §5)."""

    base: float = 2.0
    longest: float = 60.0
    probe: float = 5.0
    """How often an unavailable FHIR server is asked whether it is back."""

    def delay(self, number: int, retry_after: float | None) -> float:
        """The pause after failed attempt ``number`` (1, 2, …); what the server asks for goes first, up to the cap."""
        if retry_after is not None:
            return min(max(retry_after, self.base / 2), self.longest)
        return min(self.base * 2.0 ** min(number - 1, 30), self.longest)


@dataclass(frozen=True, slots=True)
class CastOptions:
    """Settings of one worker. ``root_url`` is normalised (:func:`normalise_root`)."""

    root_url: str
    poll_interval: timedelta = timedelta(minutes=1)
    catchup_interval: timedelta = timedelta(0)
    total_retry_duration: timedelta = timedelta(minutes=10)
    patient_system_id: str = ""
    is_issuer_id_used: bool = False
    enforce_validation: bool = False
    generate_observations: bool = True
    extended_mapping: bool = False
    sync_workitems: bool = False
    """Whether workitems become Tasks; the database is then the one that has the worklist."""
    fhir_version: str = "R4"
    """What the FHIR server speaks: ``R4`` or ``R5``."""
    partitions: frozenset[str] = frozenset({DEFAULT_PARTITION})
    page_size: int = 10
    """Width of the feed window read at once; 10 is the reference's, in process far more is cheaper."""
    concurrency: int = 8
    """Transactions under way at a time, each of another study and patient."""
    watch_interval: timedelta | None = None
    """How often to ask for the newest sequence between two passes, where asking is cheap; None: never."""
    retry_timing: RetryTiming = RetryTiming()
