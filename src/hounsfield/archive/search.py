"""Search: from a typed query to the datasets of the answer (query.md §§5, 6)."""

from dataclasses import dataclass
from typing import Any

import msgspec

from hounsfield.archive.archive import Archive
from hounsfield.index import attributes, search
from hounsfield.index.attributes import (
    BY_TAG,
    MODALITIES_IN_STUDY,
    NUMBER_OF_SERIES_RELATED_INSTANCES,
    NUMBER_OF_STUDY_RELATED_INSTANCES,
)
from hounsfield.index.fragments import unpack
from hounsfield.index.instances import Level

Dataset = dict[str, dict[str, Any]]

COMPUTED = {
    Level.STUDY: frozenset({MODALITIES_IN_STUDY, NUMBER_OF_STUDY_RELATED_INSTANCES}),
    Level.SERIES: frozenset({NUMBER_OF_SERIES_RELATED_INSTANCES}),
    Level.INSTANCE: frozenset[str](),
}
"""Attributes no instance holds, made on request, by the level searched."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A search as a client asks for it."""

    level: Level
    api_version: int
    partition_key: int
    study_uid: str | None
    series_uid: str | None
    conditions: tuple[search.Condition, ...]
    include: frozenset[str]
    """Tags of includefield."""
    include_all: bool
    limit: int
    offset: int


async def find(archive: Archive, request: SearchRequest) -> list[Dataset]:
    """DICOM JSON datasets of the matches, newest first, tags ascending."""
    tags = _wanted(request)
    computed = tags & COMPUTED[request.level]
    with_metadata = _needs_metadata(request, tags)
    found = await search.search(
        archive.database,
        search.Query(
            level=request.level,
            partition_key=request.partition_key,
            study_uid=request.study_uid,
            series_uid=request.series_uid,
            conditions=request.conditions,
            limit=request.limit,
            offset=request.offset,
            with_metadata=with_metadata,
            with_modalities=MODALITIES_IN_STUDY in computed,
            with_count=bool(computed - {MODALITIES_IN_STUDY}),
        ),
    )
    return [_dataset(match, tags, computed) for match in found]


def _wanted(request: SearchRequest) -> frozenset[str]:
    choose = attributes.all_tags if request.include_all else attributes.default_tags
    tags: set[str] = set(request.include)
    for level in _levels(request):
        tags |= choose(level, request.api_version)
    tags.update(condition.attribute.tag for condition in request.conditions)
    if request.study_uid is not None:
        tags.add("0020000D")
    if request.series_uid is not None:
        tags.add("0020000E")
    return frozenset(tags)


def _levels(request: SearchRequest) -> list[Level]:
    """The levels whose attribute sets the answer holds: those from the searched one up to below the path's."""
    top = 1 + (request.study_uid is not None) + (request.series_uid is not None)
    return [level for level in Level if top <= level.value <= request.level.value]


def _needs_metadata(request: SearchRequest, tags: frozenset[str]) -> bool:
    in_row = {tag for tag, attribute in BY_TAG.items() if attribute.level.value <= request.level.value}
    return bool(tags - in_row - COMPUTED[request.level] - {MODALITIES_IN_STUDY})


def _dataset(match: search.Found, tags: frozenset[str], computed: frozenset[str]) -> Dataset:
    row = {tag: _element(tag, value) for tag, value in match.values.items() if tag in tags and value is not None}
    dataset: Dataset = row
    if match.metadata is not None:
        stored = msgspec.json.decode(unpack([match.metadata]))
        newest: Dataset = {tag: stored[tag] for tag in tags if tag in stored}
        # Computed attributes are asked of the index, and then its other values go with them (query.md §6).
        dataset = {**newest, **row} if computed else {**row, **newest}
    if MODALITIES_IN_STUDY in computed:
        dataset[MODALITIES_IN_STUDY] = _values("CS", list(match.modalities))
    for tag in computed - {MODALITIES_IN_STUDY}:
        dataset[tag] = _values("IS", [match.count])
    return dict(sorted(dataset.items()))


def _element(tag: str, value: str) -> dict[str, Any]:
    attribute = BY_TAG[tag]
    if attribute.vr != "PN":
        return _values(attribute.vr, [value])
    names = ("Alphabetic", "Ideographic", "Phonetic")
    groups = {name: group for name, group in zip(names, value.split("="), strict=False) if group}
    return _values("PN", [groups])


def _values(vr: str, values: list[Any]) -> dict[str, Any]:
    return {"vr": vr, "Value": values} if values else {"vr": vr}
