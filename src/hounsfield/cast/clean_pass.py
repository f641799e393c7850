"""What one clean pass over a study's entries writes: the pipeline of casting, against a FHIR server in memory.

The same plans as ever (:mod:`~hounsfield.cast.transaction`), so whatever is mapped is mapped here. Ids are made up:
the Patients are numbered in the order they are named, see CleanStudy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hounsfield.cast import device, document, endpoint, observation
from hounsfield.cast.device import Equipment
from hounsfield.cast.failure import EntryRefused
from hounsfield.cast.further_resources import Further
from hounsfield.cast.options import CastOptions
from hounsfield.cast.patient import PatientIdentity
from hounsfield.cast.reference import local_reference
from hounsfield.cast.step import Run, Step, Upsert, chains
from hounsfield.cast.study_values import InstanceValues
from hounsfield.cast.transaction import Found, Plan, plan
from hounsfield.fhir.target import Resource

ENDPOINT = "Endpoint/of-the-clean-pass"
STUDY = "ImagingStudy/of-the-clean-pass"
"""Nothing real is called so."""


@dataclass(slots=True)
class CleanStudy:
    """What there is after the pass. References are to ENDPOINT, STUDY, and ``names`` of ``patients``.

    ``study`` is None if nothing is left. ``observations`` are by key. ``refused`` are steps that cannot be written.
    ``updated`` is what the pass learns of the study values of instances.
    """

    study: Resource | None = None
    observations: dict[str, Resource] = field(default_factory=dict)
    patients: dict[PatientIdentity, str] = field(default_factory=dict)
    documents: dict[tuple[str, str], Resource] = field(default_factory=dict)
    """By type and SOPInstanceUID."""
    devices: dict[str, Equipment] = field(default_factory=dict)
    """Those FHIR does not hold, by the names the pass gives them."""
    refused: list[tuple[Step, EntryRefused]] = field(default_factory=list)
    updated: Mapping[str, InstanceValues] = field(default_factory=dict)


def clean_pass(
    study_uid: str,
    steps: Sequence[Step],
    options: CastOptions,
    *,
    onto: Resource | None = None,
    endpoint_name: str = ENDPOINT,
    further: Further | None = None,
) -> CleanStudy:
    """The outcome of ``steps``, which are in feed order and all of one study.

    ``onto``: an ImagingStudy that is there already and keeps what others wrote. ``endpoint_name``: ``Type/id`` of the
    Endpoint it may refer to. ``further``: the Devices and orders FHIR holds.
    """
    memory = _Memory(CleanStudy(study=onto), options, endpoint_name, _with_all_devices(further or Further(), steps))
    for runs in chains(steps):
        for run in runs:
            named = next((step.patient.identity for step in run.steps if isinstance(step, Upsert)), None)
            left: Run | None = run
            while left is not None:
                left = memory.write(left, named)
    return memory.result()


class _Memory:
    """A FHIR server with one study in it."""

    def __init__(self, content: CleanStudy, options: CastOptions, endpoint_name: str, further: "_Further") -> None:
        self._content = content
        self._further = further
        content.devices = further.made
        self._options = options
        self._numbered = 0
        self._endpoint = _stored(endpoint.create(options.root_url), endpoint_name)
        self._patients: dict[str, Resource] = {}
        self._observations: dict[str, Resource] = {}
        self._study_names = {STUDY}
        self._observation_names: dict[str, str] = {}

    def found(self, named: PatientIdentity | None) -> Found:
        patient = None
        if named is not None:
            name = self._content.patients.get(named) or _patient_name(len(self._content.patients))
            created = _stored({"resourceType": "Patient", "identifier": [named.identifier()]}, name)
            patient = self._patients.setdefault(name, created)
        further = replace(self._further.held, documents=dict(self._content.documents))
        observations = list(self._observations.values())
        return Found(patient, self._endpoint, self._content.study, observations, further, self._content.updated)

    def write(self, run: Run, named: PatientIdentity | None) -> Run | None:
        """Write what one plan for a run says; what needs another, None if nothing does."""
        intended = plan(run, self.found(named), self._options)
        self._apply(intended)
        self._content.refused += intended.refused
        self._content.updated = intended.updated
        # What was refused once is not judged again: the run may have made good what it lacked.
        refused = {step.sequence for step, _ in intended.refused}
        taken = tuple(step for step in run.steps if step.sequence not in refused)
        if named is not None and any(isinstance(step, Upsert) for step in taken):
            self._content.patients.setdefault(named, _patient_name(len(self._content.patients)))
        return Run(taken) if intended.remaining and taken else None

    def _apply(self, intended: Plan) -> None:
        for written in intended.written:
            if written.resource_type == "ImagingStudy" and written.method == "POST":
                self._study_names.add(written.entry["fullUrl"])
            elif written.resource_type == "Observation" and written.method == "POST":
                # Documents, which come before, refer to them.
                self._numbered += 1
                self._observation_names[written.entry["fullUrl"]] = f"Observation/{self._numbered}"
        for written in intended.written:
            entry, resource = written.entry, written.entry.get("resource")
            name = entry["request"]["url"]
            if written.resource_type == "ImagingStudy":
                if written.method == "POST":
                    resource, name = _stored(entry["resource"], STUDY), STUDY
                self._content.study = resource
            elif written.resource_type == "Patient":
                # Plans go on only once nothing else is left to write.
                self._patients[name] = entry["resource"]
            elif written.resource_type == "Observation":
                if written.method == "POST":
                    name = self._observation_names[entry["fullUrl"]]
                    resource = _stored(entry["resource"], name)
                if resource is None:
                    self._observations.pop(name, None)
                else:
                    self._observations[name] = self._named(resource)

            elif written.resource_type in document.TYPES:
                self._apply_document(written.method, entry)

    def _apply_document(self, method: str, entry: Resource) -> None:
        if method == "DELETE":
            name = entry["request"]["url"]
            self._content.documents = {
                key: one for key, one in self._content.documents.items() if local_reference(one) != name
            }
            return
        resource = self._named(entry["resource"])
        if method == "POST":
            self._numbered += 1
            resource = _stored(resource, f"{resource['resourceType']}/{self._numbered}")
        self._content.documents[resource["resourceType"], document.key(resource) or ""] = resource

    def _named(self, resource: Resource) -> Resource:
        name = STUDY if self._content.study is None else local_reference(self._content.study)
        names = dict.fromkeys(self._study_names, name) | self._observation_names
        renamed: Resource = with_names(resource, names)
        return renamed

    def result(self) -> CleanStudy:
        for resource in self._observations.values():
            key = observation.key(resource)
            if key is not None:
                self._content.observations[key] = resource
        return self._content


@dataclass(frozen=True, slots=True)
class _Further:
    """What FHIR holds, as if it also held the Devices that are ``made``."""

    held: Further
    made: dict[str, Equipment]


def _with_all_devices(further: Further, steps: Sequence[Step]) -> _Further:
    devices, made = dict(further.devices), {}
    for step in steps:
        equipment = step.extended.equipment if isinstance(step, Upsert) and step.extended is not None else None
        if equipment is not None and equipment.key not in devices:
            name = f"Device/{equipment.key}"
            devices[equipment.key] = _stored(device.create(equipment), name)
            made[name] = equipment
    return _Further(replace(further, devices=devices), made)


def with_names(value: Any, names: Mapping[str, str]) -> Any:
    """``value`` with its references renamed."""
    if isinstance(value, list):
        return [with_names(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: names.get(item, item) if key == "reference" and isinstance(item, str) else with_names(item, names)
        for key, item in value.items()
    }


def _patient_name(number: int) -> str:
    return f"Patient/of-the-clean-pass-{number}"


def _stored(resource: Resource, name: str) -> Resource:
    """As a server gives it back."""
    return resource | {"id": name.partition("/")[2], "meta": {**resource.get("meta", {}), "versionId": "1"}}
