"""What to do about an error, in words for who runs the server; by the exception names of dicom-cast.md §5."""

from collections.abc import Mapping

_NO_ANSWER = (
    "Nothing is lost: it is tried again until it works. If it lasts, see whether that server runs and can be reached "
    "from here."
)
_FHIR_CONTENT = (
    "Put the content of the FHIR server right (the row in FhirFailToStoreExceptionTable says what is wrong), then try "
    "again: hounsfield cast retry."
)
_AT_THE_SOURCE = (
    "Correct the instance at its source, delete it here and store it again; the row in DicomFailToStoreExceptionTable "
    "names it."
)
_FEED = (
    "See whether the DICOM server of DicomWeb:Endpoint (or DicomWeb:PrivateEndpoint) runs, has a change feed and lets "
    "this process read it. It is tried again by itself."
)
_ADVICE: Mapping[str, str] = {
    "InvalidFhirServerException": "Point Fhir:Endpoint to a FHIR R4 server (4.0) that supports transactions.",
    "FhirClientException": (
        "See whether Fhir:Endpoint is right, and whether Fhir:Authentication names an identity that may read and write "
        "there. It is tried again by itself."
    ),
    "FailToRetrieveTokenException": "Check the Authentication settings: the identity provider gives no token for them.",
    "RetryableException": _NO_ANSWER,
    "ServerTooBusyException": "Nothing is lost: DICOM Cast waits as long as the FHIR server asks for.",
    "ResourceConflictException": "Nothing is lost: somebody else changes the same resources, it is tried again.",
    "TimeoutRejectedException": (
        "The FHIR server works for others: see its log for this entry, then try again: hounsfield cast retry."
    ),
    "TransactionFailedException": _FHIR_CONTENT,
    "InvalidFhirResponseException": (
        "Fhir:Endpoint may lead to something that is no FHIR R4 server. Else see its log, then: hounsfield cast retry."
    ),
    "MultipleMatchingResourcesException": _FHIR_CONTENT,
    "FhirResourceValidationException": _FHIR_CONTENT,
    "MissingRequiredDicomTagException": _AT_THE_SOURCE,
    "InvalidDicomTagValueException": _AT_THE_SOURCE,
    "FeedUnavailable": _FEED,
    "DicomWebException": (
        "See whether DicomWeb:Authentication names an identity that may read at the DICOM server. It is tried again by "
        "itself."
    ),
    "FeedReplaced": (
        "The DICOM server was put back to an earlier state, or DicomWeb:Endpoint leads to another one. Start casting "
        "with a new data directory (or database): all is cast from the beginning, nothing is there twice; then: "
        "hounsfield cast rebuild."
    ),
    "FeedUnreadable": (
        _FEED + " DicomCast:Features:IgnoreJsonParsingErrors leaves out entries whose metadata cannot be read."
    ),
    "TableStoreUnavailable": (
        "No error row is lost: they are in the database. See whether TableStore:ConnectionString or "
        "TableStore:EndpointUri is right and the table service can be reached from here."
    ),
}
_OTHERS = "This should not happen: the server's log has more; please report it."


def advice(name: str) -> str:
    """What to do about an error of this name."""
    return _ADVICE.get(name, _OTHERS)
