"""Devices, documents and orders of a run: what FHIR holds of them, and what a run makes of it."""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

import msgspec

from hounsfield.cast import device, document, extended_mapping, orders
from hounsfield.cast.device import Equipment
from hounsfield.cast.imaging_study import StudyDraft
from hounsfield.cast.orders import Orders, Search
from hounsfield.cast.reference import Parameters, accession_identifier, batches, local_reference
from hounsfield.cast.step import Step, Upsert
from hounsfield.fhir.target import Resource


@dataclass(frozen=True, slots=True)
class Further:
    """What FHIR holds: Devices by key, documents by type and SOPInstanceUID, orders by accession number."""

    devices: dict[str, Resource] = field(default_factory=dict)
    documents: dict[tuple[str, str], Resource] = field(default_factory=dict)
    orders: Orders = field(default_factory=dict)


def wanted(study: Resource | None, *, is_extended: bool) -> bool:
    """Whether a run has to do with further resources: if it says something of them, or may remove some."""
    # Only the extended mapping counts; a study without numbers has no documents of ours.
    return is_extended or (study is not None and "numberOfSeries" in study)


async def look_up(
    search: Search, steps: Iterable[Step], study_search: Parameters, *, all_documents: bool = False
) -> Further:
    """Ask FHIR for what ``steps`` have to do with. Raises what ``search`` raises."""
    steps = list(steps)
    said = [step.extended for step in steps if isinstance(step, Upsert) and step.extended is not None]
    numbers = {values.accession_number for values in said if values.accession_number}
    found = Further(orders=await orders.look_up(search, numbers))
    for keys in batches({values.equipment.key for values in said if values.equipment is not None}):
        for one in sorted(await search("Device", device.search(keys)), key=local_reference, reverse=True):
            found.devices[device.key(one) or ""] = one
    removes = any(not isinstance(step, Upsert) or step.is_update for step in steps)
    if all_documents or removes or any(values.document is not None for values in said):
        for resource_type in document.TYPES:
            for one in await search(resource_type, study_search):
                key = document.key(one)
                if key is not None:
                    found.documents[resource_type, key] = one
    return found


class FurtherDrafts:
    """The further resources of one run, being changed. ``devices`` are those to be made, by name."""

    def __init__(self, found: Further, root: str, new_name: Callable[[], str]) -> None:
        self._found = found
        self._root = root
        self._new_name = new_name
        self._names = {key: local_reference(one) for key, one in found.devices.items()}
        self.devices: dict[str, Equipment] = {}
        self.documents: dict[tuple[str, str], Resource | None] = {
            key: msgspec.json.decode(msgspec.json.encode(one)) for key, one in found.documents.items()
        }

    def upsert(self, step: Upsert, study: StudyDraft, subject: str, study_name: str) -> None:
        """Write what an instance says; after its own upsert into ``study``."""
        values, resource = step.extended, study.resource
        if values is None or resource is None:
            return
        name = None if values.equipment is None else self._device(values.equipment)
        extended_mapping.merge_study(resource, values, self._root)
        extended_mapping.merge_series(study.series(step.series_uid), values, name)
        instance = study.instance(step.series_uid, step.sop_uid)
        if instance is not None:
            extended_mapping.merge_instance(instance, values)
        if step.is_update:
            for place, known in self.documents.items():
                if known is not None:
                    self.documents[place] = document.merge(known, known, subject, study_name)
        key: tuple[str, str] | None = None
        if values.document is not None:
            key = (values.document["resourceType"], step.sop_uid)
            self.documents[key] = document.merge(self.documents.get(key), values.document, subject, study_name)
        if step.is_update:
            self.remove(step.sop_uid, keep=() if key is None else (key,))
        if values.accession_number:
            self._link_order(resource, values.accession_number)

    def _link_order(self, study: Resource, accession_number: str) -> None:
        """Say which order the study is based on."""
        order = orders.order_of(self._found.orders, [accession_number], study["subject"])
        orders.merge(study, accession_identifier(accession_number), order)

    def remove(self, sop_uid: str, keep: Container[tuple[str, str]] = ()) -> None:
        """An instance is gone, or is no document any more."""
        for resource_type in document.TYPES:
            key = (resource_type, sop_uid)
            if key in self.documents and key not in keep:
                self.documents[key] = None

    def remove_all(self) -> None:
        """The study is gone."""
        self.documents = dict.fromkeys(self.documents)

    def _device(self, equipment: Equipment) -> str:
        key = equipment.key
        if key not in self._names:
            self._names[key] = self._new_name()
            self.devices[self._names[key]] = equipment
        return self._names[key]
