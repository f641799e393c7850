"""Observation: dose summaries and irradiation events out of radiation dose reports (dicom-cast.md §6.4)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hounsfield.cast.concept import DCM_SYSTEM, LOINC_SYSTEM, SNOMED_SYSTEM, UCUM_SYSTEM
from hounsfield.cast.imaging_study import ACCESSION_NUMBER
from hounsfield.cast.reference import accession_identifier, study_identifier
from hounsfield.cast.structured_report import CONCEPT_NAME_CODE_SEQUENCE, CONTENT_SEQUENCE, Code, Node
from hounsfield.cast.values import Values
from hounsfield.fhir.target import Resource

KEY_SYSTEM = "urn:hounsfield:observation"
"""System of the identifier by which an Observation is found again, ``{SOPInstanceUID}#{n}`` (D11)."""
_SYSTEMS = {"DCM": DCM_SYSTEM, "SCT": SNOMED_SYSTEM}

DOSE_SUMMARY = {
    "coding": [{"system": LOINC_SYSTEM, "code": "73569-6"}],
    "text": "Radiation exposure and protection information",
}
IRRADIATION_EVENT = {"coding": [{"system": DCM_SYSTEM, "code": "113852"}], "text": "Irradiation Event"}


def _dcm(value: str) -> Code:
    return Code(value, "DCM")


_DOSE_REPORTS = {_dcm("113701"), _dcm("113500")}
_IRRADIATION_EVENTS = {_dcm("113706"), _dcm("113819"), _dcm("113502")}
_IRRADIATION_EVENT_UID = _dcm("113769")
_ACCESSION_NUMBER = _dcm("121022")
_TARGET_REGION = _dcm("123014")


def _quantity(node: Node) -> Resource | None:
    found = node.measurement()
    if found is None:
        return None
    value = {"value": found.value, "unit": found.unit, "system": UCUM_SYSTEM, "code": found.unit}
    return {"valueQuantity": value}


def _integer(node: Node) -> Resource | None:
    found = node.measurement()
    return {"valueInteger": int(found.value)} if found is not None and int(found.value) else None


def _string(node: Node) -> Resource | None:
    found = node.meaning() or node.text()
    return {"valueString": found} if found else None


def _coded(node: Node) -> Resource | None:
    concept = _codeable(node)
    return {"valueCodeableConcept": concept} if concept else None


def _codeable(node: Node) -> Resource | None:
    code, meaning = node.code(), node.meaning()
    return None if code is None else _concept(code, meaning)


def _concept(code: Code, meaning: str | None) -> Resource:
    system = _SYSTEMS.get(code.scheme, code.scheme)
    coding = ({"system": system} if system else {}) | {"code": code.value}
    return {"coding": [coding]} | ({"text": meaning} if meaning else {})


@dataclass(frozen=True, slots=True)
class _Component:
    """A concept that becomes a component, the text it gets, and how its value is read."""

    code: Code
    text: str | None
    read: Callable[[Node], Resource | None]


_MEAN_CTDI_VOL = _Component(_dcm("113830"), "Mean CTDIvol", _quantity)
_SUMMARY_COMPONENTS = (
    _Component(_dcm("113725"), "Dose (RP) Total", _quantity),
    _Component(_dcm("111637"), "Accumulated Average Glandular Dose", _quantity),
    _Component(_dcm("113722"), "Dose Area Product Total", _quantity),
    _Component(_dcm("113726"), "Fluoro Dose Area Product Total", _quantity),
    _Component(_dcm("113727"), "Acquisition Dose Area Product Total", _quantity),
    _Component(_dcm("113730"), "Total Fluoro Time", _quantity),
    _Component(_dcm("113731"), "Total Number of Radiographic Frames", _integer),
    _Component(_dcm("113507"), "Administered activity", _quantity),
    _Component(_dcm("113813"), "CT Dose Length Product Total", _quantity),
    _Component(_dcm("113812"), None, _integer),
    _MEAN_CTDI_VOL,
    _Component(Code("349358000", "SCT"), "Radiopharmaceutical agent", _string),
    _Component(_dcm("123005"), "Radiopharmaceutical Volume", _quantity),
    _Component(Code("89457008", "SCT"), "Radionuclide", _string),
    _Component(Code("410675002", "SCT"), "Route of administration", _coded),
)
_EVENT_COMPONENTS = (
    _MEAN_CTDI_VOL,
    _Component(_dcm("113838"), "DLP", _quantity),
    _Component(_dcm("113835"), "CTDIw Phantom Type", _coded),
)


def read(values: Values, study_uid: str, sop_uid: str) -> tuple[Resource, ...]:
    """The Observations of one instance in document order, still without ``subject`` and ``partOf``."""
    if not values.all(CONCEPT_NAME_CODE_SEQUENCE) and not values.all(CONTENT_SEQUENCE):
        return ()
    root = Node(values)
    accession = root.child(_ACCESSION_NUMBER)
    number = (accession.text() if accession else None) or values.text(ACCESSION_NUMBER)
    found: list[Resource] = []
    for node in root.walk():
        observation = _observation(node, study_uid, number)
        if observation is not None:
            observation["identifier"].append({"system": KEY_SYSTEM, "value": f"{sop_uid}#{len(found)}"})
            found.append(observation)
    return tuple(found)


def _observation(node: Node, study_uid: str, accession_number: str | None) -> Resource | None:
    identifier = [study_identifier(study_uid)]
    wanted: tuple[_Component, ...]
    if node.name in _DOSE_REPORTS:
        if accession_number:
            identifier.append(accession_identifier(accession_number))
        code, body_site, wanted = DOSE_SUMMARY, None, _SUMMARY_COMPONENTS
    elif node.name in _IRRADIATION_EVENTS:
        event = node.child(_IRRADIATION_EVENT_UID)
        if event is None or event.uid() is None:
            return None
        region = node.child(_TARGET_REGION)
        code, body_site, wanted = IRRADIATION_EVENT, _codeable(region) if region else None, _EVENT_COMPONENTS
    else:
        return None
    observation: Resource = {
        "resourceType": "Observation",
        "identifier": identifier,
        "status": "preliminary",
        "code": code,
    }
    if body_site:
        observation["bodySite"] = body_site
    components = list(_components(node, wanted))
    if components:
        observation["component"] = components
    return observation


def _components(node: Node, wanted: tuple[_Component, ...]) -> Iterator[Resource]:
    for parent in node.walk():
        for component in wanted:
            child = parent.child(component.code)
            value = component.read(child) if child else None
            if value is not None:
                yield {"code": _concept(component.code, component.text)} | value


def key(observation: Resource) -> str | None:
    """The key of an Observation cast wrote; None for one without (written by the reference or by others)."""
    for identifier in observation.get("identifier", []):
        if identifier.get("system") == KEY_SYSTEM:
            return str(identifier.get("value", ""))
    return None


def is_of(observation_key: str, sop_uid: str) -> bool:
    """Whether an Observation's key says it was made from that instance."""
    return observation_key.startswith(f"{sop_uid}#")


def place(observation_key: str) -> int:
    """The place in document order that an Observation's key says."""
    number = observation_key.rpartition("#")[2]
    return int(number) if number.isdecimal() else 0


def is_from_dose_report(observation: Resource) -> bool:
    """Whether cast or the reference made it: by key, or by the two codes only dose reports give."""
    codings = observation.get("code", {}).get("coding", [])
    return key(observation) is not None or any(
        coding in codings for coding in (*DOSE_SUMMARY["coding"], *IRRADIATION_EVENT["coding"])
    )


def is_summary(observation: Resource) -> bool:
    """Whether it is a dose summary, which is part of the ImagingStudy."""
    return bool(observation.get("code") == DOSE_SUMMARY)
