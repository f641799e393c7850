"""The operations of the OpenAPI documents that stand outside the versions."""

from typing import Any

from hounsfield.web.openapi import schemas
from hounsfield.web.openapi.components import JSON, TEXT, UNAVAILABLE, json_content, problem, query, response
from hounsfield.web.openapi.schemas import CAST_RETRYABLE, CAST_TABLES, Json, ref


def unversioned_paths() -> Json:
    """Path items outside the versions."""
    report = json_content(JSON, ref("HealthReport"), schemas.HEALTH)
    table = query("table", "Which errors.", type="string", enum=CAST_TABLES) | {"required": True}

    def get(tag: str, operation_id: str, summary: str, responses: Json, **more: Any) -> Json:
        return {"get": {"tags": [tag], "operationId": operation_id, "summary": summary, **more, "responses": responses}}

    return {
        "/health/check": get(
            "Health",
            "CheckHealth",
            "Whether the server can work",
            {"200": response("Healthy or degraded.", report), "503": response("Unhealthy.", report)},
        ),
        "/statistics": get(
            "Health",
            "GetStatistics",
            "How much the archive holds",
            {"200": response("The figures.", json_content(JSON, ref("Statistics"), schemas.STATISTICS)), **UNAVAILABLE},
        ),
        "/metrics": get(
            "Health",
            "GetMetrics",
            "Figures for Prometheus",
            {"200": response("The figures.", {"text/plain": TEXT}), **UNAVAILABLE},
        ),
        "/cast/status": get(
            "Cast",
            "GetCastStatus",
            "How far the FHIR server has been brought",
            {"200": response("The state.", json_content(JSON, ref("CastStatus"), schemas.CAST_STATUS)), **UNAVAILABLE},
        ),
        "/cast/errors": {
            "delete": {
                "tags": ["Cast"],
                "operationId": "EmptyCastErrors",
                "summary": "Remove every row of an error table",
                "parameters": [table],
                "responses": {
                    "204": response("They are removed."),
                    "400": problem("The table is missing or unknown."),
                    **UNAVAILABLE,
                },
            },
            **get(
                "Cast",
                "ListCastErrors",
                "Entries that could not be written to FHIR",
                {
                    "200": response("One page.", json_content(JSON, ref("CastErrors"), schemas.CAST_ERRORS)),
                    "400": problem("The table is missing or unknown, or another parameter is invalid."),
                    **UNAVAILABLE,
                },
                parameters=[
                    table,
                    query("study", "Only those of this study, by its UID.", type="string"),
                    query("since", "Only those filed since: a date, or a time (RFC 3339).", type="string"),
                    query("limit", "Largest number of errors.", type="integer", minimum=1, maximum=1000, default=100),
                    query("continuationToken", "From the page before.", type="string"),
                ],
            ),
        },
        "/cast/retry": {
            "post": {
                "tags": ["Cast"],
                "operationId": "RetryCastErrors",
                "summary": "Have entries that were skipped tried again",
                "parameters": [
                    query("table", "Only those of this table.", type="string", enum=CAST_RETRYABLE),
                    query("study", "Only those of this study, by its UID.", type="string"),
                ],
                "responses": {
                    "202": response("How many it will be.", json_content(JSON, ref("CastRetry"), schemas.CAST_RETRY)),
                    "400": problem("The table is none whose entries were skipped, or the study is no UID."),
                    **UNAVAILABLE,
                },
            }
        },
        "/cast/rebuild": {
            "post": {
                "tags": ["Cast"],
                "operationId": "RebuildCast",
                "summary": "Make the FHIR server hold what a clean run over the change feed would write",
                "parameters": [
                    query(
                        "fromSequence",
                        "Only studies with a change feed entry of this sequence or a later one.",
                        type="integer",
                        minimum=0,
                        default=0,
                    )
                ],
                "responses": {
                    "202": response(
                        "An operation does it.",
                        json_content(JSON, ref("OperationReference"), schemas.CAST_REBUILD),
                        {"Location": "Location"},
                    ),
                    "400": problem("fromSequence is not the sequence of an entry."),
                    "409": problem("A rebuild is under way, or DICOM Cast is switched off.")
                    | {"headers": {"Location": {"$ref": "#/components/headers/RunningOperation"}}},
                    **UNAVAILABLE,
                },
            }
        },
    }
