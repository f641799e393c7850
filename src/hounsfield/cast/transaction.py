"""One run against what FHIR holds: the transaction bundle that writes it, and how its answer is judged (§4.2).

Pure. The steps are applied in feed order to copies of what was found; what differs in the end becomes entries, so a
run leaves FHIR as its entries one by one would.
"""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import msgspec

from hounsfield.cast import device, document, endpoint, extended_mapping, observation, patient, sources
from hounsfield.cast.failure import EntryRefused, conflict, fhir_refusal
from hounsfield.cast.further_resources import Further, FurtherDrafts
from hounsfield.cast.imaging_study import StudyDraft, is_ours
from hounsfield.cast.options import CastOptions
from hounsfield.cast.reference import (
    Parameters,
    etag,
    identifier_parameter,
    local_reference,
    new_name,
    query,
    refers_to,
    study_identifier,
)
from hounsfield.cast.step import Run, Step, Upsert
from hounsfield.cast.study_values import InstanceValues, KnownValues
from hounsfield.fhir.target import Resource

MAX_FOLLOWERS = 5
"""More new or changed resources than this, besides Endpoint, Patient and study, go into transactions of their own: some
servers cap a transaction."""
MAX_REMOVALS = 100
"""More resources than this are not deleted by one transaction: Azure's servers take 500 entries."""
SHARED = ("Endpoint", "Device")
"""Types whose resources many studies share: made once, never changed, so that nobody minds who made them."""
_STATUS = re.compile(r"([0-9]{3})(?: .*)?", re.DOTALL)
_GONE = ("404", "410")


@dataclass(frozen=True, slots=True)
class Found:
    """What FHIR holds now for a run. ``updated`` tells the study values of instances known from earlier Updates."""

    patient: Resource | None = None
    endpoint: Resource | None = None
    study: Resource | None = None
    observations: list[Resource] = field(default_factory=list)
    further: Further = field(default_factory=Further)
    updated: Mapping[str, InstanceValues] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """One bundle entry, and what its answer has to be checked for."""

    entry: Resource
    resource_type: str
    method: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send (nothing if FHIR is as it should be) and what cannot be sent.

    ``remaining`` is how many more entries need another plan after this one is written. ``updated`` is what is known
    of the instances' study values afterwards, ``has_study`` whether FHIR then holds the study.
    """

    written: list[Written]
    refused: list[tuple[Step, EntryRefused]]
    remaining: int
    updated: dict[str, InstanceValues]
    has_study: bool = True

    @property
    def bundle(self) -> Resource:
        """The transaction."""
        return {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [written.entry for written in self.written],
        }

    @property
    def creates_shared(self) -> bool:
        """Whether the transaction makes a resource that other studies look for, too."""
        return any(written.resource_type in SHARED for written in self.written)


def patient_search(run: Run) -> Parameters | None:
    """How the Patient of a run is found; None if it needs none."""
    identity = run.patient
    return None if identity is None else [identifier_parameter(identity.system, identity.value)]


def study_search(study_uid: str) -> Parameters:
    """How ImagingStudy, and the Observations of a study, are found."""
    identifier = study_identifier(study_uid)
    return [identifier_parameter(identifier["system"], identifier["value"])]


def needs_observations(run: Run) -> bool:
    """Whether the Observations that exist matter to a run."""
    return any(not isinstance(step, Upsert) or step.is_update or step.observations for step in run.steps)


def plan(run: Run, found: Found, options: CastOptions) -> Plan:
    """Decide what a run changes. Raises EntryRefused if something found makes the whole run impossible."""
    return _Planner(run, found, options).plan()


class _Planner:
    """The drafts of one run."""

    def __init__(self, run: Run, found: Found, options: CastOptions) -> None:
        self._run = run
        self._found = found
        self._options = options
        self._study = StudyDraft(_copy(found.study), run.study_uid, options.root_url)
        self._patient = _copy(found.patient)
        self._patient_name = _name(found.patient)
        self._endpoint_name = _name(found.endpoint)
        self._study_name = _name(found.study)
        if found.endpoint is not None:
            endpoint.check(found.endpoint, options.root_url)
        self._observations = {_key(resource): _copy(resource) for resource in found.observations}
        self._observation_names = {_key(resource): local_reference(resource) for resource in found.observations}
        self._further = FurtherDrafts(found.further, options.root_url, new_name)
        self._values = KnownValues(found.updated, self._study.instance_uids())
        self._refused: list[tuple[Step, EntryRefused]] = []

    def plan(self) -> Plan:
        upserted = False
        for step in self._run.steps:
            if not isinstance(step, Upsert):
                self._remove(step)
                continue
            try:
                self._upsert(step)
                upserted = True
            except EntryRefused as error:
                self._refused.append((step, error))
        if self._study.resource is not None:
            sources.leave(self._study.resource, self._options.root_url, self._endpoint_name)
        devices = self._device_entries()
        core = self._core(with_endpoint=upserted)
        followers = self._observation_entries() + self._document_entries()
        wanted = len(devices) + len(core) + len(followers)
        removals = [written for written in followers if written.method == "DELETE"]
        removals.sort(key=lambda one: one.resource_type == "Observation")  # reports refer to theirs, and go first
        changes = [written for written in followers if written.method != "DELETE"]
        letting_go: list[Written] = []
        if len(devices) > MAX_FOLLOWERS:
            # The series that refer to them come when all are there.
            devices, core, followers = devices[:MAX_FOLLOWERS], [], []
        elif len(removals) > MAX_REMOVALS:
            # What goes, goes before the study, or with it: a resource that is referred to cannot be deleted.
            devices, core, followers = [], [], removals[:MAX_REMOVALS]
            letting_go = self._letting_go(followers)
        elif len(devices) + len(changes) > MAX_FOLLOWERS:
            # The study must exist before its Observations follow, and these before the report they are results of.
            followers = removals if core else changes[:MAX_FOLLOWERS]
            letting_go = self._letting_go(followers)
        written = [*devices, *core, *followers]
        remaining = wanted - len(written)
        written = sorted([*written, *letting_go], key=lambda one: one.resource_type)
        has_study = self._study.resource is not None
        return Plan(written, self._refused, remaining, self._values.known, has_study)

    def _upsert(self, step: Upsert) -> None:
        is_new = self._study.instance(step.series_uid, step.sop_uid) is None
        self._study.upsert(
            step.series_uid,
            step.sop_uid,
            step.image,
            subject=self._patient_name,
            endpoint=self._endpoint_name,
        )
        study, instance = self._study.resource, self._study.instance(step.series_uid, step.sop_uid)
        if study is not None and instance is not None:
            sources.add(study, instance, self._options.root_url, self._endpoint_name, is_new=is_new)
        if step.is_update:
            self._study.set_subject(self._patient_name)
        self._further.upsert(step, self._study, self._patient_name, self._study_name)
        if self._patient is None:
            self._patient = patient.create(step.patient)
        else:
            patient.merge(self._patient, step.patient)
        values = InstanceValues(step.image.accession_number, step.image.study_description)
        self._values.record(step.sop_uid, values, is_update=step.is_update)
        still = self._values.ended() if step.is_update else None
        if still is not None:
            self._study.keep_only(*still)
        self._upsert_observations(step)

    def _upsert_observations(self, step: Upsert) -> None:
        if not self._options.generate_observations:
            return
        if step.is_update:
            for existing in self._observations.values():
                if existing and observation.is_from_dose_report(existing):
                    _refer(existing, "subject", self._patient_name)
        wanted = {_key(resource): resource for resource in step.observations}
        if step.is_update or wanted:
            self._drop_observations(step.sop_uid, keep=wanted.keys())
        for key, resource in wanted.items():
            draft = self._observations.get(key) or {}
            draft.update(resource)
            _refer(draft, "subject", self._patient_name)
            if observation.is_summary(resource):
                parts = draft.setdefault("partOf", [])
                if not any(refers_to(part, self._study_name) for part in parts):
                    parts.append({"reference": self._study_name})
            self._observations[key] = draft
            self._observation_names.setdefault(key, new_name())

    def _remove(self, step: Step) -> None:
        study, instance = self._study.resource, self._study.instance(step.series_uid, step.sop_uid)
        existed = study is not None
        self._values.forget(step.sop_uid)
        if study is not None and instance is not None:
            if not sources.withdraw(study, instance, self._options.root_url, self._endpoint_name):
                return  # another server has it
            self._study.remove(step.series_uid, step.sop_uid)
        self._drop_observations(step.sop_uid)
        self._further.remove(step.sop_uid)
        if existed and self._study.resource is None:
            self._observations = dict.fromkeys(self._observations)
            self._further.remove_all()

    def _drop_observations(self, sop_uid: str, keep: Container[str] = ()) -> None:
        for key in self._observations:
            if observation.is_of(key, sop_uid) and key not in keep:
                self._observations[key] = None

    def _finish_study(self) -> None:
        """What depends on the whole study as it is now."""
        study, is_extended = self._study.resource, self._options.extended_mapping
        if study is None or study == self._found.study:
            return
        if is_extended:
            extended_mapping.spell(study)
        if is_extended or is_ours(study, self._options.root_url):
            extended_mapping.count(study, self._found.study, is_extended=is_extended)

    def _core(self, *, with_endpoint: bool) -> list[Written]:
        entries = []
        self._finish_study()
        if with_endpoint and self._found.endpoint is None:
            search = endpoint.search(self._options.root_url)
            entries.append(create_entry(endpoint.create(self._options.root_url), self._endpoint_name, search))
        if self._study.resource is None:
            if self._found.study is not None:
                entries.append(delete_entry(self._found.study))
        elif self._found.study is None:
            entries.append(create_entry(self._study.resource, self._study_name, study_search(self._run.study_uid)))
        elif self._study.resource != self._found.study:
            entries.append(update_entry(self._found.study, self._study.resource))
        if self._patient is not None:
            if self._found.patient is None:
                search = patient_search(self._run) or []
                entries.append(create_entry(self._patient, self._patient_name, search))
            elif self._patient != self._found.patient:
                entries.append(update_entry(self._found.patient, self._patient))
        return entries

    def _device_entries(self) -> list[Written]:
        return [
            create_entry(device.create(equipment), name, device.search([equipment.key]))
            for name, equipment in self._further.devices.items()
        ]

    def _document_entries(self) -> list[Written]:
        before = self._found.further.documents
        entries = []
        for key, resource in self._further.documents.items():
            old = before.get(key)
            if resource is not None:
                document.set_results(resource, self._observation_names.values(), self._results_of(key[1]))
            if resource is None:
                if old is not None:
                    entries.append(delete_entry(old))
            elif old is None:
                entries.append(create_entry(resource, new_name(), document.search(key[1])))
            elif resource != old:
                entries.append(update_entry(old, resource))
        return entries

    def _results_of(self, sop_uid: str) -> list[str]:
        """The names of the Observations there will be from one instance, in document order."""
        keys = [key for key, draft in self._observations.items() if draft and observation.is_of(key, sop_uid)]
        return [self._observation_names[key] for key in sorted(keys, key=observation.place)]

    def _letting_go(self, entries: list[Written]) -> list[Written]:
        """Updates of the reports that stay, in which nothing refers to what ``entries`` delete any more."""
        gone = [one.entry["request"]["url"] for one in entries if one.method == "DELETE"]
        stay = {key for key, draft in self._further.documents.items() if draft is not None}
        found = [resource for key, resource in self._found.further.documents.items() if key in stay]
        loosened = [(resource, document.without_results(resource, gone)) for resource in found]
        return [update_entry(before, after) for before, after in loosened if after != before]

    def _observation_entries(self) -> list[Written]:
        before = {_key(resource): resource for resource in self._found.observations}
        entries = []
        for key, resource in self._observations.items():
            old = before.get(key)
            if resource is None:
                if old is not None:
                    entries.append(delete_entry(old))
            elif old is None:
                search = [identifier_parameter(observation.KEY_SYSTEM, key)]
                entries.append(create_entry(resource, self._observation_names[key], search))
            elif resource != old:
                entries.append(update_entry(old, resource))
        return entries


def check(plan_: Plan, answer: Resource, shared: Container[str] = SHARED) -> None:
    """Judge the answer to a plan's bundle. Of ``shared`` types nobody minds who made a resource.

    Raises EntryRefused (InvalidFhirResponseException) for an answer that does not fit the request, TryAgain when
    something we meant to create exists meanwhile.
    """
    entries = answer.get("entry", [])
    if answer.get("resourceType") != "Bundle" or not isinstance(entries, list):
        raise _invalid_answer("The response bundle is missing.")
    if len(entries) != len(plan_.written):
        raise _invalid_answer("The number of bundle entries in the response does not match the request.")
    for index, (written, entry) in enumerate(zip(plan_.written, entries, strict=True)):
        response = entry.get("response") if isinstance(entry, dict) else None
        status = response.get("status") if isinstance(response, dict) else None
        found = _STATUS.fullmatch(status) if isinstance(status, str) else None
        if found is None:
            raise _invalid_answer(f"The response status for bundle entry at index '{index}' is missing or malformed.")
        code = found[1]
        if not code.startswith("2") and not (written.method == "DELETE" and code in _GONE):
            raise _invalid_answer(f"The transaction succeeded, but the status of bundle entry '{index}' is {code}.")
        if written.method == "POST" and code == "200" and written.resource_type not in shared:
            raise conflict(f"Another {written.resource_type} was created meanwhile.")


def _invalid_answer(message: str) -> EntryRefused:
    return fhir_refusal("InvalidFhirResponseException", message)


def _copy(resource: Resource | None) -> Resource | None:
    return None if resource is None else msgspec.json.decode(msgspec.json.encode(resource))


def _key(resource: Resource) -> str:
    """What tells Observations apart here: cast's key, or for others where they are in FHIR (never a key's shape)."""
    return observation.key(resource) or local_reference(resource)


def _name(found: Resource | None) -> str:
    return new_name() if found is None else local_reference(found)


def _refer(resource: Resource, element: str, target: str) -> None:
    if not refers_to(resource.get(element), target):
        resource[element] = {"reference": target}


def create_entry(resource: Resource, name: str, search: Parameters) -> Written:
    """The bundle entry that creates ``resource`` unless ``search`` finds one; others refer to it by ``name``."""
    resource_type = resource["resourceType"]
    request = {"method": "POST", "url": resource_type, "ifNoneExist": query(search)}
    return Written({"fullUrl": name, "resource": resource, "request": request}, resource_type, "POST")


def update_entry(found: Resource, resource: Resource) -> Written:
    """The bundle entry that replaces what was found, unless it has changed since."""
    name = local_reference(found)
    request = {"method": "PUT", "url": name, "ifMatch": etag(found)}
    # One that was deleted and made again in the same run takes the place of the old one.
    resource = {**resource, "id": found["id"]}
    return Written({"fullUrl": name, "resource": resource, "request": request}, found["resourceType"], "PUT")


def delete_entry(found: Resource) -> Written:
    """The bundle entry that deletes what was found, unless it has changed since."""
    request = {"method": "DELETE", "url": local_reference(found), "ifMatch": etag(found)}
    return Written({"request": request}, found["resourceType"], "DELETE")
