"""Why an entry could not be written, as data: exception name, kind and table of each cause (dicom-cast.md §5)."""

from enum import Enum

MAX_EXCEPTION_CHARACTERS = 30_000
"""Azure tables hold 32 Ki characters in a string column; the reference cuts here."""


class Table(Enum):
    """The five error tables, by the reference's names."""

    FHIR_FAIL = "FhirFailToStoreExceptionTable"
    DICOM_FAIL = "DicomFailToStoreExceptionTable"
    INVALID_TAG = "InvalidDicomTagExceptionTable"
    TRANSIENT_RETRY = "TransientRetryExceptionTable"
    TRANSIENT_FAILURE = "TransientFailureExceptionTable"


class Standstill(Enum):
    """Why nothing could be cast for a while: the reference's four counters, by its names (dicom-cast.md §7.3)."""

    FHIR_FORBIDDEN = "CastToFhirForbidden"
    DICOM_FORBIDDEN = "DicomToCastForbidden"
    NO_IDENTITY = "CastMIUnavailable"
    OTHER = "CastingFailedForOtherReasons"


class EntryRefused(Exception):
    """One entry cannot be written, now or later; it is filed in ``table`` and skipped.

    ``name`` is the exception class name of the reference (the row's PartitionKey), ``public`` the message without tag
    values and without what the FHIR server said, for status answers and logs.
    """

    def __init__(self, table: Table, name: str, message: str, public: str | None = None) -> None:
        super().__init__(message)
        self.table = table
        self.name = name
        self.message = message
        self.public = message if public is None else public


class TryAgain(Exception):
    """An attempt failed in a way that may pass. ``server_answers`` tells that the FHIR server itself is well."""

    def __init__(
        self, name: str, message: str, *, public: str, retry_after: float | None = None, server_answers: bool = False
    ) -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.public = public
        self.retry_after = retry_after
        self.server_answers = server_answers


class Faulted(Exception):
    """Nothing can be written until somebody changes something: unfit FHIR server, refused credentials (D12)."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


def missing_tag(keyword: str) -> EntryRefused:
    """A required tag is absent."""
    return EntryRefused(
        Table.DICOM_FAIL, "MissingRequiredDicomTagException", f"The required DICOM tag '{keyword}' is missing."
    )


def invalid_tag(table: Table, keyword: str, value: str) -> EntryRefused:
    """A tag holds a value it must not hold; filed as invalid (entry written without it) or as failed."""
    return EntryRefused(
        table,
        "InvalidDicomTagValueException",
        f"The value '{value}' is not valid for DICOM tag '{keyword}'.",
        f"The value is not valid for DICOM tag '{keyword}'.",
    )


def fhir_refusal(name: str, message: str, detail: str = "") -> EntryRefused:
    """The FHIR server, or what is in it, does not let the entry be written. ``detail`` may hold patient data."""
    return EntryRefused(Table.FHIR_FAIL, name, f"{message} {detail}".rstrip(), message)


def unexpected_refusal(error: Exception) -> EntryRefused:
    """What nobody has foreseen, filed under the name of what happened."""
    name = type(error).__name__
    return EntryRefused(Table.FHIR_FAIL, name, str(error), "Casting the entry failed unexpectedly.")


def conflict(message: str) -> TryAgain:
    """Somebody else changed or created what we were about to write (dicom-cast.md §5)."""
    return TryAgain("ResourceConflictException", message, public=message, server_answers=True)


def exception_text(name: str, message: str) -> str:
    """The ``exception`` column: class name and message, cut; without NUL, which PostgreSQL cannot store."""
    return f"{name}: {message}".replace("\0", "")[:MAX_EXCEPTION_CHARACTERS]
