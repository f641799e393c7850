"""Resources for tests, as cast would write them."""

import uuid
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
WADO = {"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "dicom-wado-rs"}


def patient(value: str = "P1", system: str = "", **more: Any) -> Json:
    """A Patient with one identifier."""
    identifier = {"system": system, "value": value} if system else {"value": value}
    return {"resourceType": "Patient", "identifier": [identifier], **more}


def endpoint(root: str = "http://dicom.example/", **more: Any) -> Json:
    """The Endpoint of a DICOMweb root."""
    return {
        "resourceType": "Endpoint",
        "name": f"DICOM WADO-RS endpoint {root}",
        "status": "active",
        "connectionType": WADO,
        "address": root,
        "payloadType": [{"text": "DICOM WADO-RS"}],
        "payloadMimeType": ["application/dicom"],
        **more,
    }


def study(uid: str, subject: str, instances: int = 1, **more: Any) -> Json:
    """An ImagingStudy with one series."""
    listed = [
        {"uid": f"{uid}.1.{number}", "sopClass": {"code": "1.2.840.10008.5.1.4.1.1.2"}, "number": number}
        for number in range(1, instances + 1)
    ]
    return {
        "resourceType": "ImagingStudy",
        "meta": {"source": "http://dicom.example/"},
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "status": "available",
        "subject": {"reference": subject},
        "modality": [{"system": "DCM", "code": "CT"}],
        "series": [{"uid": f"{uid}.1", "modality": {"system": "DCM", "code": "CT"}, "instance": listed}],
        **more,
    }


def observation(subject: str, **more: Any) -> Json:
    """A dose Observation."""
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        "code": {"coding": [{"system": "http://loinc.org", "code": "73569-6"}]},
        "subject": {"reference": subject},
        **more,
    }


def urn() -> str:
    """A new full URL."""
    return f"urn:uuid:{uuid.uuid4()}"


def entry(method: str, url: str, resource: Json | None = None, full_url: str = "", **request: str) -> Json:
    """A bundle entry."""
    made: Json = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        made["resource"] = resource
    if full_url:
        made["fullUrl"] = full_url
    return made


def transaction(*entries: Json) -> Json:
    """A transaction Bundle."""
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def batch(*entries: Json) -> Json:
    """A batch Bundle."""
    return {"resourceType": "Bundle", "type": "batch", "entry": list(entries)}


def statuses(answer: Json) -> Sequence[str]:
    """The status of each entry of an answer."""
    return [entry["response"]["status"] for entry in answer["entry"]]
