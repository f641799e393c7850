"""What FHIR should hold of a study and what it does hold, resource by resource: pure.

What others wrote is never wanted otherwise: elements cast does not write, studies and Patients that are not ours, the
instances of a study that other archives fill as well. Such a study is only merged into, as ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from hounsfield.cast import device, document, endpoint, extended_mapping, observation, patient
from hounsfield.cast.clean_pass import ENDPOINT, STUDY, CleanStudy, clean_pass, with_names
from hounsfield.cast.failure import fhir_refusal
from hounsfield.cast.feed_digest import StudySteps
from hounsfield.cast.further_resources import Further
from hounsfield.cast.imaging_study import is_ours
from hounsfield.cast.options import CastOptions
from hounsfield.cast.patient import PatientIdentity, PatientValues
from hounsfield.cast.reference import accession_identifier, local_reference, new_name, refers_to, study_identifier
from hounsfield.fhir.target import Resource

_STUDY_ELEMENTS = ("identifier", "subject", "started", "modality", "endpoint", "note", "series")
_SERIES_ELEMENTS = ("number", "description", "modality", "started", "instance")
_INSTANCE_ELEMENTS = ("number", "sopClass")
_OBSERVATION_ELEMENTS = ("bodySite", "component")
"""What cast alone writes: missing in a clean pass, it is wanted to be missing. Whatever else there is stays."""


@dataclass(frozen=True, slots=True)
class Held:
    """What FHIR holds of a study: every match of each search, and the Patients by identity."""

    endpoint: Resource | None = None
    patients: Mapping[PatientIdentity, Resource | None] = field(default_factory=dict)
    studies: Sequence[Resource] = ()
    observations: Sequence[Resource] = ()
    further: Further = field(default_factory=Further)


@dataclass(frozen=True, slots=True)
class Change:
    """A resource as it is (None: missing) and as it should be (None: gone); ``name`` is what others refer to it by."""

    name: str
    before: Resource | None
    after: Resource | None

    @property
    def resource_type(self) -> str:
        """Its type."""
        resource = self.before or self.after or {}
        return str(resource["resourceType"])


@dataclass(frozen=True, slots=True)
class Expected:
    """What has to change for FHIR to hold what a clean pass writes, and that pass."""

    changes: list[Change]
    clean: CleanStudy


def expected(
    study: StudySteps, said: Mapping[PatientIdentity, PatientValues], held: Held, options: CastOptions
) -> Expected:
    """Compare what the feed says of a study with what FHIR holds.

    ``said`` is what the whole feed says of each Patient. Raises EntryRefused where FHIR holds two of what is one, and
    we may not choose; or an Endpoint of our name that leads elsewhere.
    """
    return _Comparison(study, said, held, options).run()


class _Comparison:
    """One study."""

    def __init__(
        self, study: StudySteps, said: Mapping[PatientIdentity, PatientValues], held: Held, options: CastOptions
    ) -> None:
        self._steps = study
        self._said = said
        self._held = held
        self._options = options
        if held.endpoint is not None:
            endpoint.check(held.endpoint, options.root_url)
        self._endpoint_name = _name(held.endpoint)
        own = [one for one in held.studies if self._is_exclusive(one)]
        if len(held.studies) > 1 and len(own) < len(held.studies):
            raise fhir_refusal(
                "MultipleMatchingResourcesException", "Multiple 'ImagingStudy' matching the search criteria found."
            )
        self._study = held.studies[0] if held.studies else None
        self._surplus = {local_reference(one): one for one in held.studies[1:]}
        self._may_replace = self._study is None or bool(own)

    def run(self) -> Expected:
        clean = self._clean()
        names = {STUDY: _name(self._study), ENDPOINT: self._endpoint_name}
        names |= {clean.patients[identity]: _name(self._held.patients.get(identity)) for identity in clean.patients}
        names |= {name: new_name() for name in clean.devices}
        changes = [Change(names[name], None, device.create(one)) for name, one in clean.devices.items()]
        changes += [self._patient(identity, names[name]) for identity, name in clean.patients.items()]
        if clean.patients:
            created = None if self._held.endpoint else endpoint.create(self._options.root_url)
            changes.append(Change(self._endpoint_name, self._held.endpoint, created or self._held.endpoint))
        wanted = None if clean.study is None else self._wanted_study(_renamed(clean.study, names))
        changes.append(Change(names[STUDY], self._study, wanted))
        changes += [Change(name, one, None) for name, one in self._surplus.items()]
        observations = self._observations(clean, names)
        changes += observations
        changes += self._documents(clean, names | _results(clean, observations))
        return Expected([change for change in changes if not _is_same(change.before, change.after)], clean)

    def _is_exclusive(self, found: Resource) -> bool:
        """Whether all of it is ours: cast created it, and no other archive is an Endpoint of it."""
        return is_ours(found, self._options.root_url) and all(
            refers_to(reference, self._endpoint_name) for reference in found.get("endpoint", [])
        )

    def _clean(self) -> CleanStudy:
        onto = None if self._may_replace else self._study
        return clean_pass(
            self._steps.study_uid,
            self._steps.steps,
            self._options,
            onto=onto,
            endpoint_name=self._endpoint_name if onto is not None and self._held.endpoint else ENDPOINT,
            further=replace(self._held.further, documents={}) if onto is None else self._held.further,
        )

    def _patient(self, identity: PatientIdentity, name: str) -> Change:
        found, said = self._held.patients.get(identity), self._said[identity]
        if found is None:
            return Change(name, None, patient.create(said))
        after = _copy(found)
        patient.merge(after, said)
        return Change(name, found, after)

    def _wanted_study(self, clean: Resource) -> Resource:
        found = self._study
        if found is None or not self._may_replace:
            return clean
        is_extended = self._options.extended_mapping
        wanted = _overlaid(found, clean, (*_STUDY_ELEMENTS, *(extended_mapping.STUDY_ELEMENTS if is_extended else ())))
        wanted["meta"], wanted["id"], wanted["status"] = found["meta"], found["id"], found["status"]
        if refers_to(found.get("subject"), clean["subject"]["reference"]):
            wanted["subject"] = found["subject"]
        wanted["endpoint"] = found.get("endpoint") or clean["endpoint"]
        own = study_identifier(self._steps.study_uid)
        wanted["identifier"] = clean["identifier"] + [
            one
            for one in found.get("identifier", [])
            if one != own and one != accession_identifier(str(one.get("value", "")))
        ]
        notes = clean.get("note", []) + [note for note in found.get("note", []) if note.keys() != {"text"}]
        if notes:
            wanted["note"] = notes
        series = {one.get("uid"): one for one in found.get("series", [])}
        wanted["series"] = [
            _wanted_series(series.get(one["uid"], {}), one, is_extended=is_extended) for one in clean["series"]
        ]
        if is_extended:
            extended_mapping.keep_links(found, wanted)
        return wanted

    def _observations(self, clean: CleanStudy, names: Mapping[str, str]) -> list[Change]:
        """By key. Keyed ones that a clean pass does not write go, unless another archive's report made them."""
        changes: list[Change] = []
        seen: set[str] = set()
        for found in self._held.observations:
            key = observation.key(found)
            if key is None:
                is_left = clean.study is None and self._study is not None and self._may_replace
                if is_left and observation.is_from_dose_report(found):
                    changes.append(Change(local_reference(found), found, None))
            elif key in clean.observations and key not in seen:
                seen.add(key)
                wanted = self._wanted_observation(found, _renamed(clean.observations[key], names))
                changes.append(Change(local_reference(found), found, wanted))
            elif self._may_replace or key.rpartition("#")[0] in self._steps.sop_uids:
                changes.append(Change(local_reference(found), found, None))
        for key, resource in clean.observations.items():
            if key not in seen:
                changes.append(Change(new_name(), None, _renamed(resource, names)))
        return changes

    def _documents(self, clean: CleanStudy, names: Mapping[str, str]) -> list[Change]:
        """By type and instance; others of ours go, unless another archive's document made them."""
        changes: list[Change] = []
        held = self._held.further.documents
        known = [local_reference(one) for one in self._held.observations]
        for key, found in held.items():
            if key not in clean.documents and (self._may_replace or key[1] in self._steps.sop_uids):
                changes.append(Change(local_reference(found), found, None))
        for key, resource in clean.documents.items():
            wanted, before = _renamed(resource, names), held.get(key)
            if before is None:
                changes.append(Change(new_name(), None, wanted))
            else:
                results = [one["reference"] for one in wanted.pop("result", [])]
                merged = document.merge(before, wanted, wanted["subject"]["reference"], names[STUDY])
                document.set_results(merged, known, results)
                changes.append(Change(local_reference(before), before, merged))
        return changes

    def _wanted_observation(self, found: Resource, clean: Resource) -> Resource:
        wanted = _overlaid(found, clean, _OBSERVATION_ELEMENTS)
        wanted["meta"], wanted["id"] = found["meta"], found["id"]
        if refers_to(found.get("subject"), clean["subject"]["reference"]):
            wanted["subject"] = found["subject"]
        parts = [part for part in found.get("partOf", []) if part.get("reference") not in self._surplus]
        more = [part for part in clean.get("partOf", []) if not any(refers_to(one, part["reference"]) for one in parts)]
        if parts or more:
            wanted["partOf"] = [*parts, *more]
        return wanted


def _wanted_series(found: Resource, clean: Resource, *, is_extended: bool) -> Resource:
    more = extended_mapping.SERIES_ELEMENTS if is_extended else ()
    wanted = _overlaid(found, clean, (*_SERIES_ELEMENTS, *more))
    owned = (*_INSTANCE_ELEMENTS, *(extended_mapping.INSTANCE_ELEMENTS if is_extended else ()))
    instances = {one.get("uid"): one for one in found.get("instance", [])}
    wanted["instance"] = [_overlaid(instances.get(one["uid"], {}), one, owned) for one in clean["instance"]]
    return wanted


def _overlaid(found: Resource, clean: Resource, owned: Sequence[str]) -> Resource:
    """``clean``, with what others added to ``found``."""
    return {key: value for key, value in found.items() if key not in owned} | clean


def _renamed(resource: Resource, names: Mapping[str, str]) -> Resource:
    """With the references of a clean pass replaced, and without what a server adds where it is new."""
    renamed: Resource = with_names(resource, names)
    if local_reference(resource) == STUDY or resource["resourceType"] in ("Observation", *document.TYPES):
        del renamed["id"], renamed["meta"]["versionId"]
        if not renamed["meta"]:
            del renamed["meta"]
    return renamed


def _results(clean: CleanStudy, changes: Sequence[Change]) -> dict[str, str]:
    """What the Observations of a clean pass are called, by their names there: reports refer to them."""
    names = {observation.key(change.after): change.name for change in changes if change.after is not None}
    return {local_reference(one): names[key] for key, one in clean.observations.items()}


def _name(found: Resource | None) -> str:
    return new_name() if found is None else local_reference(found)


def _copy(resource: Resource) -> Resource:
    copied: Resource = msgspec.json.decode(msgspec.json.encode(resource))
    return copied


def _is_same(before: Resource | None, after: Resource | None) -> bool:
    return before is after or normal(before) == normal(after)


def normal(value: Any) -> Any:
    """``value`` with lists of objects in one order: that of series, instances and notes means nothing in FHIR."""
    if isinstance(value, dict):
        return {key: normal(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [normal(item) for item in value]
        if items and isinstance(items[0], dict):
            items.sort(key=lambda item: msgspec.json.encode(item, order="deterministic"))
        return items
    return value
