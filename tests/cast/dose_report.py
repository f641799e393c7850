"""Dose reports in DICOM JSON, put together from content items."""

from typing import Any

from tests.cast.memory_archive import ct, dicom_json

DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.67"


def code(value: str, scheme: str = "DCM", meaning: str = "meaning") -> dict[str, Any]:
    """An item of a code sequence."""
    return dicom_json(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def node(name: dict[str, Any], *children: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    """A content item."""
    item = dicom_json(ConceptNameCodeSequence=[name], **attributes)
    return item | (dicom_json(ContentSequence=list(children)) if children else {})


def num(name: str, value: Any, unit: str = "mGy.cm", scheme: str = "DCM") -> dict[str, Any]:
    """A NUM item."""
    units = [code(unit, "UCUM", unit)]
    measured = dicom_json(NumericValue=value, MeasurementUnitsCodeSequence=units)
    return node(code(name, scheme), ValueType="NUM", MeasuredValueSequence=[measured])


def coded(name: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """A CODE item."""
    return node(name, ValueType="CODE", ConceptCodeSequence=[value])


def event(*children: dict[str, Any], kind: str = "113819", uid: str = "1.9") -> dict[str, Any]:
    """An irradiation event."""
    return node(code(kind), node(code("113769"), ValueType="UIDREF", UID=uid), *children)


def report(*children: dict[str, Any], kind: str = "113701", **attributes: Any) -> dict[str, Any]:
    """Metadata of a whole report."""
    header = ct(**({"SOPClassUID": DOSE_SR, "Modality": "SR"} | attributes))
    return header | node(code(kind, meaning="spelt in some other way"), *children)


def dose(*doses: float, **attributes: Any) -> dict[str, Any]:
    """A report with one event for each dose."""
    return report(*(event(num("113838", value)) for value in doses), **attributes)
