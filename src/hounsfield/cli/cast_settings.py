"""Settings of DICOM Cast that API processes ask for, too, which do not load it."""

from hounsfield.cast.feed import DEFAULT_PARTITION
from hounsfield.settings import Settings


def cast_partitions(settings: Settings) -> frozenset[str]:
    """Names of the data partitions that are cast."""
    return frozenset(settings.strings("DicomCast:Partitions") or [DEFAULT_PARTITION])


def workitem_partitions(settings: Settings) -> frozenset[str] | None:
    """Names of the data partitions whose workitems are cast; None where none are."""
    return cast_partitions(settings) if settings.flag("DicomCast:Features:SyncWorkitems") else None
