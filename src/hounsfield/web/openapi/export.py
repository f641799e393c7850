"""Export in the OpenAPI documents."""

from collections.abc import Iterator

from hounsfield.operations.export.request import Format
from hounsfield.web.openapi.components import JSON, UNAVAILABLE, json_content, operation, problem, response
from hounsfield.web.openapi.schemas import Json, ref

_ID = "4853cda8c05c44e497d2bc071f8e92c4"
_TEXT = {"type": "string"}


def _settings(description: str, required: list[str], **properties: str) -> Json:
    listed = {name: {**_TEXT, "description": text} for name, text in properties.items()}
    found: Json = {"type": "object", "description": description, "properties": listed}
    return found | ({"required": required} if required else {})


EXPORT_SCHEMAS: Json = {
    "ExportSpecification": {
        "type": "object",
        "description": "What is exported, and where to.",
        "properties": {
            "source": ref("ExportSource"),
            "destination": ref("ExportDestination"),
            "format": {
                "type": "string",
                "enum": [each.value for each in Format],
                "default": "files",
                "description": "A file for each instance, a zip file for each identifier, or NIfTI volumes of series.",
            },
            "deidentify": {
                "oneOf": [{"type": "boolean"}, ref("ExportDeidentification")],
                "description": "Whether files are de-identified (PS3.15 Annex E, Basic Profile).",
            },
        },
        "required": ["source", "destination"],
    },
    "ExportSource": {
        "type": "object",
        "description": "What is exported.",
        "properties": {
            "type": {"type": "string", "enum": ["identifiers"]},
            "settings": {
                "type": "object",
                "properties": {
                    "values": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "string",
                            "description": "StudyInstanceUID[/SeriesInstanceUID[/SOPInstanceUID]]",
                        },
                    }
                },
                "required": ["values"],
            },
        },
        "required": ["type", "settings"],
    },
    "ExportDestination": {
        "type": "object",
        "description": "Where it goes.",
        "properties": {
            "type": {"type": "string", "enum": ["azureBlob", "s3", "folder"]},
            "settings": {
                "anyOf": [ref("AzureBlobExportOptions"), ref("S3ExportOptions"), ref("FolderExportOptions")],
            },
        },
        "required": ["type", "settings"],
    },
    "ExportDeidentification": {
        "type": "object",
        "description": "Options of the Basic Profile.",
        "properties": {"retainUids": {"type": "boolean", "default": False, "description": "Retain UIDs Option."}},
    },
    "AzureBlobExportOptions": {
        **_settings(
            "A container: its address, or a connection string and its name.",
            [],
            blobContainerUri="Address of the container; may carry a shared access signature.",
            connectionString="Of the account, with a shared access signature.",
            blobContainerName="Name of the container.",
        ),
    },
    "S3ExportOptions": _settings(
        "A bucket.",
        ["bucket"],
        bucket="Its name.",
        prefix="A folder in it.",
        endpoint="Of an S3-compatible store; empty for AWS.",
        region="Its region.",
        accessKeyId="Access key.",
        secretAccessKey="Secret key.",
        sessionToken="Token of temporary credentials.",
    ),
    "FolderExportOptions": _settings(
        "A folder of the server's machine.", ["path"], path="Absolute path, below a folder an administrator allows."
    ),
}
EXPORT_SCHEMAS["AzureBlobExportOptions"]["properties"]["useManagedIdentity"] = {
    "type": "boolean",
    "default": False,
    "description": "Whether the server signs in by its own identity; only with an address.",
}


def export_operations(major: int) -> Iterator[tuple[str, str, Json]]:
    """The one there is."""
    href = f"https://dicom.example.com/v{major}/operations/{_ID}"
    responses = {
        "202": response(
            "It begins; the log of what is skipped has been made at the destination.",
            json_content(JSON, ref("OperationReference"), {"id": _ID, "href": href}),
            {"Location": "Location"},
        ),
        "400": problem("The body is invalid, or the destination cannot be written to."),
        "413": problem("The body is larger than this server reads."),
        "415": problem("The body is not application/json."),
        **UNAVAILABLE,
    }
    sent = {
        "source": {"type": "identifiers", "settings": {"values": ["1.2.826.0.1.3680043.8.498.1"]}},
        "destination": {
            "type": "azureBlob",
            "settings": {"blobContainerUri": "https://account.blob.core.windows.net/container?sv=…&sig=…"},
        },
    }
    more: Json = {
        "description": "Credentials are kept encrypted while it runs, and removed with its end. "
        "The answer is 404 where an administrator has switched export off.",
        "requestBody": {"required": True, "content": json_content(JSON, ref("ExportSpecification"), sent)},
    }
    yield "/export", "post", operation("Export", "Export", "Copy files to somewhere else", responses, **more)
