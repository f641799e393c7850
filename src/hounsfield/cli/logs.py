"""The log of a process: standard error, at the levels of ``Logging:LogLevel`` (server.md §14)."""

import logging
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType

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


class _WithoutTexts(logging.Formatter):
    """Says class and place of an exception, not its text, which may quote values, and those may be patient data."""

    def formatException(self, ei: tuple[object, BaseException | None, TracebackType | None]) -> str:  # noqa: N802
        """The lines of code it came through, and its class."""
        _, error, trace = ei
        return "".join([*traceback.format_tb(trace), type(error).__name__])


def _first_line(record: logging.LogRecord) -> bool:
    """Cuts a record after its first line. What asyncio adds below shows the exception with its text."""
    record.msg, record.args = record.getMessage().partition("\n")[0], None
    return True


def configure_logging(settings: Settings) -> None:
    """Log to standard error. Of several categories that fit, the longest counts; our own loggers are categories too."""
    levels = settings.log_levels()
    default = _LEVELS[levels.pop("default")]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_WithoutTexts("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=default, handlers=[handler], force=True)
    logging.getLogger("asyncio").addFilter(_first_line)
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
