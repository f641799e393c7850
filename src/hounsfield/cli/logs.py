"""The log of a process: standard error, at the levels of ``Logging:LogLevel`` (server.md §14)."""

import logging
import sys
from collections.abc import Mapping

from hounsfield.settings import Settings

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
}

CATEGORIES = {
    "hounsfield.web": "Microsoft.Health.Dicom.Api",
    "hounsfield.archive": "Microsoft.Health.Dicom.Core",
    "hounsfield.dicom": "Microsoft.Health.Dicom.Core",
    "hounsfield.index": "Microsoft.Health.Dicom.SqlServer",
    "hounsfield.database": "Microsoft.Health.Dicom.SqlServer",
    "hounsfield.storage": "Microsoft.Health.Dicom.Blob",
    "hounsfield.operations": "Microsoft.Health.Dicom.Functions",
    "hounsfield.cast": "Microsoft.Health.DicomCast",
    "hounsfield.fhir": "Microsoft.Health.Fhir",
}
"""What does a room's work in the reference, and so which of its categories sets the room's level."""

NAMING_PATIENTS = ("httpx", "httpcore")
"""These log requests with their URLs, which may name patients."""


def configure_logging(settings: Settings) -> None:
    """Log to standard error. Of several categories that fit, the longest counts; our own loggers are categories too."""
    levels = settings.log_levels()
    default = _LEVELS[levels.pop("default")]
    logging.basicConfig(
        level=default, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True
    )
    for room, category in CATEGORIES.items():
        found = _longest(levels, room) or _longest(levels, category.lower())
        if found is not None:
            logging.getLogger(room).setLevel(_LEVELS[levels[found]])
    for category, level in levels.items():
        if not category.startswith(("microsoft", "system")):
            logging.getLogger(category).setLevel(_LEVELS[level])
    for name in NAMING_PATIENTS:
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.getEffectiveLevel(), logging.WARNING))


def _longest(levels: Mapping[str, str], name: str) -> str | None:
    """The longest category that ``name`` is, or is below."""
    return max((given for given in levels if f"{name}.".startswith(f"{given}.")), key=len, default=None)
