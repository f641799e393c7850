"""Reading what FHIR holds of a study, for rebuilding and verifying."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence

from hounsfield.cast import document, endpoint, observation
from hounsfield.cast.expected import Held
from hounsfield.cast.failure import fhir_refusal
from hounsfield.cast.further_resources import Further, look_up
from hounsfield.cast.options import CastOptions
from hounsfield.cast.patient import PatientIdentity
from hounsfield.cast.reference import Parameters, identifier_parameter, local_reference, study_identifier
from hounsfield.cast.retry import of_search
from hounsfield.cast.step import Step
from hounsfield.cast.transaction import study_search
from hounsfield.fhir.target import FhirError, FhirTarget, Resource

PAGE = "100"
"""Resources asked for at a time where all of a kind are looked through."""


class FhirReader:
    """Asks one FHIR target. Every method raises EntryRefused, TryAgain or Faulted."""

    def __init__(self, target: FhirTarget, options: CastOptions) -> None:
        self._target = target
        self._options = options

    async def held(self, study_uid: str, identities: Collection[PatientIdentity], steps: Sequence[Step] = ()) -> Held:
        """Everything that casting a study has to do with. Raises EntryRefused also where one Patient is found twice."""
        study = study_search(study_uid)
        endpoints, studies, observations, *patients = await asyncio.gather(
            self.search("Endpoint", endpoint.search(self._options.root_url)),
            self.search("ImagingStudy", study),
            self.search("Observation", study),
            *(self.search("Patient", [identifier_parameter(each.system, each.value)]) for each in identities),
        )
        further = Further()
        if self._options.extended_mapping or any("numberOfSeries" in one for one in studies):
            further = await look_up(self.search, steps, study, all_documents=True)
        return Held(
            _only(endpoints),
            {identity: _only(found) for identity, found in zip(identities, patients, strict=True)},
            sorted(studies, key=local_reference),
            sorted(observations, key=local_reference),
            further,
        )

    async def endpoint(self) -> Resource | None:
        """The Endpoint of our root."""
        return _only(await self.search("Endpoint", endpoint.search(self._options.root_url)))

    async def studies_at(self, ours: Resource) -> AsyncIterator[Resource]:
        """All ImagingStudies that name our Endpoint."""
        async for resource in self._all("ImagingStudy", [("endpoint", local_reference(ours)), ("_count", PAGE)]):
            yield resource

    async def keyed_observations(self) -> AsyncIterator[Resource]:
        """All Observations that have a key of cast (D11)."""
        parameters = [("identifier", f"{observation.KEY_SYSTEM}|"), ("_count", PAGE)]
        async for resource in self._all("Observation", parameters):
            if observation.key(resource) is not None:
                yield resource

    async def documents(self) -> AsyncIterator[Resource]:
        """All DiagnosticReports and DocumentReferences of cast that lead to our root."""
        for resource_type in document.TYPES:
            async for resource in self._all(
                resource_type, [("identifier", f"{document.KEY_SYSTEM}|"), ("_count", PAGE)]
            ):
                if document.key(resource) is not None and document.is_at(resource, self._options.root_url):
                    yield resource

    async def search(self, resource_type: str, parameters: Parameters) -> list[Resource]:
        """All matches of a search."""
        try:
            matches = await self._target.search(resource_type, parameters)
        except FhirError as error:
            raise of_search(error) from error
        return [match.resource for match in matches if match.mode == "match"]

    async def _all(self, resource_type: str, parameters: Parameters) -> AsyncIterator[Resource]:
        try:
            async for page in self._target.pages(resource_type, parameters):
                for match in page:
                    if match.mode == "match":
                        yield match.resource
        except FhirError as error:
            raise of_search(error) from error


def study_uid_of(resource: Resource) -> str | None:
    """The StudyInstanceUID that an ImagingStudy, an Observation or a document of cast is about."""
    prefix = study_identifier("")
    for identifier in resource.get("identifier", []):
        value = str(identifier.get("value", ""))
        if identifier.get("system") == prefix["system"] and value.startswith(prefix["value"]):
            return value.removeprefix(prefix["value"])
    return None


def _only(found: list[Resource]) -> Resource | None:
    if len(found) > 1:
        raise fhir_refusal(
            "MultipleMatchingResourcesException",
            f"Multiple '{found[0].get('resourceType')}' matching the search criteria found.",
        )
    return found[0] if found else None
