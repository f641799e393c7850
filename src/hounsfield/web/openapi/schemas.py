"""The shapes and examples the OpenAPI documents refer to: DICOM JSON, change feed, health, cast."""

from typing import Any

Json = dict[str, Any]

_STUDY = "1.2.826.0.1.3680043.8.498.1"
_SERIES = _STUDY + ".1"
_INSTANCE = _SERIES + ".1"
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"

CAST_TABLES = [
    "DicomFailToStoreExceptionTable",
    "FhirFailToStoreExceptionTable",
    "InvalidDicomTagExceptionTable",
    "TransientFailureExceptionTable",
    "TransientRetryExceptionTable",
]
"""Where cast records what went wrong (dicom-cast.md §5)."""
CAST_STANDSTILLS = [
    "CastToFhirForbidden",
    "DicomToCastForbidden",
    "CastMIUnavailable",
    "CastingFailedForOtherReasons",
]
CAST_RETRYABLE = CAST_TABLES[:2] + CAST_TABLES[3:4]
"""Of these the ones with entries that were skipped."""


def ref(schema: str) -> Json:
    """A reference to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{schema}"}


def array(schema: str, description: str) -> Json:
    """An array of one of SCHEMAS."""
    return {"type": "array", "description": description, "items": ref(schema)}


def _string(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


def _integer(description: str, **more: Any) -> Json:
    return {"type": "integer", "format": "int64", "description": description, **more}


def _number(description: str) -> Json:
    return {"type": "number", "minimum": 0, "nullable": True, "description": description}


def _object(description: str, properties: Json, *, optional: tuple[str, ...] = ()) -> Json:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "description": description, "properties": properties, "required": required}


_VALUE = {
    "description": "A string, a number, a person name, or in a sequence a dataset; null is an empty one among others.",
    "nullable": True,
    "anyOf": [{"type": "string"}, {"type": "number"}, ref("PersonName"), ref("Dataset")],
}

_UIDS = {
    "studyInstanceUid": _string("StudyInstanceUID."),
    "seriesInstanceUid": _string("SeriesInstanceUID."),
    "sopInstanceUid": _string("SOPInstanceUID."),
}

_CAST_ERROR_IN_WORDS: Json = {
    **_object(
        "The newest error; null after something has gone well.",
        {
            "type": _string("Class of the error."),
            "message": _string("What went wrong."),
            "advice": _string("What to do about it."),
            "date": _string("When.", format="date-time"),
        },
    ),
    "nullable": True,
}

SCHEMAS: Json = {
    "Dataset": {
        "type": "object",
        "description": "A DICOM dataset in the DICOM JSON Model (PS3.18 Annex F): eight upper-case hexadecimal digits "
        "of the tag name each attribute.",
        "additionalProperties": ref("Attribute"),
    },
    "Attribute": _object(
        "One attribute of a dataset. Without Value it is empty.",
        {
            "vr": _string("Value representation.", minLength=2, maxLength=2),
            "Value": {"type": "array", "description": "The values.", "items": _VALUE},
        },
        optional=("Value",),
    ),
    "PersonName": {
        "type": "object",
        "description": "The groups of a person name, components parted by ^.",
        "properties": {
            "Alphabetic": _string("In letters."),
            "Ideographic": _string("In ideographs."),
            "Phonetic": _string("As spoken."),
        },
        "additionalProperties": False,
    },
    "ChangeFeedAction": _string("What happened to the instance.", enum=["Create", "Delete", "Update"]),
    "ChangeFeedState": _string(
        "What became of the version the entry is about: still the live one, replaced by a later one, or deleted.",
        enum=["Current", "Replaced", "Deleted"],
    ),
    "ChangeFeedEntry": _object(
        "One change of one instance. Keys without a value are left out.",
        {
            "sequence": _integer("Position in the feed; strictly increasing, never reused.", minimum=1),
            "partitionName": _string("Data partition of the instance."),
            **_UIDS,
            "action": ref("ChangeFeedAction"),
            "timestamp": _string("When, in UTC; never decreases from entry to entry.", format="date-time"),
            "state": ref("ChangeFeedState"),
            "metadata": ref("Dataset"),
        },
        optional=("metadata",),
    ),
    "HealthStatus": _string("Degraded still serves requests.", enum=["Healthy", "Degraded", "Unhealthy"]),
    "HealthReport": _object(
        "The state of the server and of everything it depends on.",
        {
            "overallStatus": ref("HealthStatus"),
            "details": {
                "type": "array",
                "items": _object(
                    "One dependency.",
                    {
                        "name": _string("Name of the check."),
                        "status": ref("HealthStatus"),
                        "description": _string("What was found."),
                        "data": {"type": "object", "description": "Figures, by name.", "additionalProperties": True},
                    },
                ),
            },
        },
    ),
    "CastStatus": _object(
        "How far the FHIR server has been brought.",
        {
            "enabled": {"type": "boolean", "description": "If false, other fields may be null."},
            "state": _string(
                "idle: nothing to do; running: working off entries; retrying: waiting to repeat an entry; faulted: "
                "unfit FHIR server, refused credentials or an unexpected error, tried again later; stopped: off.",
                enum=["idle", "running", "retrying", "faulted", "stopped"],
            ),
            "fhirEndpoint": _string("FHIR server that is written to.", nullable=True),
            "dicomWebEndpoint": _string("Root of this service as written into FHIR.", nullable=True),
            "syncedSequence": _integer("Last change feed entry dealt with.", nullable=True),
            "latestSequence": _integer("Newest change feed entry.", nullable=True),
            "lag": _integer("Change feed entries not yet dealt with.", nullable=True),
            "lagSeconds": _number("How long the oldest of them has waited; null where that is not known."),
            "rate": _number("Entries dealt with per second, over the last minute."),
            "syncedDate": _string("When syncedSequence was saved.", format="date-time", nullable=True),
            "current": {
                **_object(
                    "The entry being worked on.",
                    {
                        "sequence": _integer("Its sequence."),
                        **_UIDS,
                        "attempt": _integer("Number of the attempt, from 1."),
                        "nextAttemptDate": _string("When it is repeated.", format="date-time", nullable=True),
                    },
                ),
                "nullable": True,
            },
            "lastError": _CAST_ERROR_IN_WORDS,
            "errorCounts": {
                **_object("Number of recorded errors by table.", {name: _integer("Rows.") for name in CAST_TABLES}),
                "nullable": True,
            },
            "failures": _object(
                "How often casting came to a standstill since the database was made, by reason.",
                {name: _integer("Times.") for name in CAST_STANDSTILLS},
            ),
            "retries": array("CastRetryRequest", "Requests to try skipped entries again, not yet worked off."),
            "tableStore": {
                **_object(
                    "How copying the error tables to Azure tables goes; null where that is not asked for.",
                    {
                        "waiting": _integer("Rows, and removals of rows, that are to be copied."),
                        "lastError": _CAST_ERROR_IN_WORDS,
                    },
                ),
                "nullable": True,
            },
            "workitems": {
                **_object(
                    "How casting workitems to Tasks goes; null where that is not asked for.",
                    {
                        "lag": _integer("Workitems whose last change is not dealt with."),
                        "lagSeconds": _number("How long the oldest of them has waited; 0 without any."),
                        "lastError": _CAST_ERROR_IN_WORDS,
                    },
                ),
                "nullable": True,
            },
        },
    ),
    "CastRetryRequest": _object(
        "What is to be tried again.",
        {
            "table": _string("Entries in this table.", enum=CAST_RETRYABLE),
            "studyUid": _string("Of this study; null: of all.", nullable=True),
            "date": _string("When it was asked for.", format="date-time"),
        },
    ),
    "CastRetry": _object(
        "What will be tried again.",
        {
            "tables": {
                "type": "array",
                "description": "Entries in these tables.",
                "items": {"type": "string", "enum": CAST_RETRYABLE},
            },
            "entries": _integer("How many there are."),
        },
    ),
    "CastErrors": _object(
        "One page of recorded errors, highest changeFeedSequence first, then newest.",
        {
            "table": _string("The table asked for.", enum=CAST_TABLES),
            "entries": array("CastError", "The errors."),
            "continuationToken": _string("Where the next page begins; null on the last page.", nullable=True),
        },
    ),
    "CastError": _object(
        "An entry that could not be written to FHIR as it is, and why.",
        {
            "partitionKey": _string("Class of the error."),
            "rowKey": _string("Identifier of the row.", format="uuid"),
            "timestamp": _string("When it was recorded.", format="date-time"),
            "studyUid": _string("StudyInstanceUID."),
            "seriesUid": _string("SeriesInstanceUID."),
            "instanceUid": _string("SOPInstanceUID."),
            "changeFeedSequence": _integer("The change feed entry."),
            "exception": _string("Class of the error, message, and perhaps more.", maxLength=30_000),
            "retryNumber": _integer("Which retry; only in TransientRetryExceptionTable.", minimum=1),
        },
        optional=("retryNumber",),
    ),
    "Statistics": _object(
        "How much the archive holds.",
        {
            "studies": _integer("Studies."),
            "series": _integer("Series."),
            "instances": _integer("Instances."),
            "bytes": _integer("Size of all files."),
        },
    ),
}

DATASET: Json = {
    "00080020": {"vr": "DA", "Value": ["20240229"]},
    "00080050": {"vr": "SH", "Value": ["A123"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
    "00100020": {"vr": "LO", "Value": ["P1"]},
    "0020000D": {"vr": "UI", "Value": [_STUDY]},
}
"""A study as a search returns it."""

METADATA: Json = {
    "00080016": {"vr": "UI", "Value": [_CT_IMAGE]},
    "00080018": {"vr": "UI", "Value": [_INSTANCE]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
    "00100040": {"vr": "CS"},
    "00200013": {"vr": "IS", "Value": [1]},
}
"""A little of the metadata of an instance."""

CHANGE: Json = {
    "sequence": 7,
    "partitionName": "Microsoft.Default",
    "studyInstanceUid": _STUDY,
    "seriesInstanceUid": _SERIES,
    "sopInstanceUid": _INSTANCE,
    "action": "Create",
    "timestamp": "2024-02-29T16:00:00.123456+00:00",
    "state": "Current",
    "metadata": METADATA,
}

HEALTH: Json = {
    "overallStatus": "Healthy",
    "details": [{"name": "Database", "status": "Healthy", "description": "The database answers.", "data": {}}],
}

CAST_STATUS: Json = {
    "enabled": True,
    "state": "idle",
    "fhirEndpoint": "http://127.0.0.1:8080/fhir",
    "dicomWebEndpoint": "http://127.0.0.1:8080/",
    "syncedSequence": 7,
    "latestSequence": 7,
    "lag": 0,
    "lagSeconds": 0.0,
    "rate": 0.1,
    "syncedDate": "2024-02-29T16:00:01Z",
    "current": None,
    "lastError": None,
    "errorCounts": dict.fromkeys(CAST_TABLES, 0),
    "failures": dict.fromkeys(CAST_STANDSTILLS, 0),
    "retries": [],
    "tableStore": None,
    "workitems": None,
}

CAST_ERRORS: Json = {
    "table": "DicomFailToStoreExceptionTable",
    "entries": [
        {
            "partitionKey": "MissingRequiredDicomTagException",
            "rowKey": "7b1f2f9e-7d64-4f5c-9c38-1a6a52d0d3c1",
            "timestamp": "2024-02-29T16:00:01Z",
            "studyUid": _STUDY,
            "seriesUid": _SERIES,
            "instanceUid": _INSTANCE,
            "changeFeedSequence": 7,
            "exception": "MissingRequiredDicomTagException: The required DICOM tag 'PatientID' is missing.",
        }
    ],
    "continuationToken": None,
}

CAST_RETRY: Json = {"tables": ["FhirFailToStoreExceptionTable"], "entries": 3}

CAST_REBUILD: Json = {
    "id": "4853cda8c05c44e497d2bc071f8e92c4",
    "href": "http://127.0.0.1:8080/v2/operations/4853cda8c05c44e497d2bc071f8e92c4",
}

STATISTICS: Json = {
    "studies": 1,
    "series": 2,
    "instances": 300,
    "bytes": 157_286_400,
    "recompressedInstances": 0,
    "receivedBytes": 157_286_400,
    "originalBytes": 0,
    "updatedInstances": 0,
}


def store_response(major: int, *, stored: bool, failed: bool) -> Json:
    """What a store request for one study answers (store.md §5); v2 always reports on attributes of stored instances."""
    body: Json = {}
    item: Json = {"00081150": {"vr": "UI", "Value": [_CT_IMAGE]}, "00081155": {"vr": "UI", "Value": [_INSTANCE]}}
    root = f"https://dicom.example.com/v{major}/studies/{_STUDY}"
    if stored:
        body["00081190"] = {"vr": "UR", "Value": [root]}
    if failed:
        body["00081198"] = {"vr": "SQ", "Value": [{**item, "00081197": {"vr": "US", "Value": [45070]}}]}
    if stored:
        url = f"{root}/series/{_SERIES}/instances/{_INSTANCE}"
        success = {**item, "00081190": {"vr": "UR", "Value": [url]}}
        if major > 1:
            success["00741048"] = {"vr": "SQ"}
        body["00081199"] = {"vr": "SQ", "Value": [success]}
    return body


PARTITION_SCHEMAS: Json = {
    "Partition": _object(
        "A data partition.",
        {
            "partitionKey": _integer("Its number.", minimum=1),
            "partitionName": _string("Its name."),
            "createdDate": _string("When it was made, in UTC.", format="date-time"),
        },
    ),
}
"""Further schemas of a server with data partitions."""

PARTITION: Json = {
    "partitionKey": 1,
    "partitionName": "Microsoft.Default",
    "createdDate": "2026-01-31T08:00:00+00:00",
}
