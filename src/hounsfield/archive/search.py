"""Search: from a typed query to the datasets of the answer (query.md §§5, 6)."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from hounsfield.archive.archive import Archive
from hounsfield.index import attributes, search
from hounsfield.index.attributes import BY_TAG, INSTANCE_AVAILABILITY, RETRIEVE_URL
from hounsfield.index.conditions import Condition, equal
from hounsfield.index.fragments import text_size, unpack
from hounsfield.index.instances import Level
from hounsfield.index.query_tags import QueryTag
from hounsfield.index.tag_attributes import values_of
from hounsfield.index.tag_keys import indexed, shown

Element = Mapping[str, Any] | msgspec.Raw
Dataset = dict[str, Element]
"""A DICOM JSON dataset; elements nobody has to look into are left as they are stored."""

STUDY_UID, SERIES_UID, SOP_UID = "0020000D", "0020000E", "00080018"
INLINE_BYTES = 4 << 20
"""Metadata of one page up to which they are looked through on the event loop: 200 CT slices three times over."""
KEPT_BYTES = 64 * 1024
"""Metadata of one instance, up to which an answer may hold on to all of them until it is sent."""

_PATH_UIDS = {STUDY_UID: "studies", SERIES_UID: "series", SOP_UID: "instances"}
_COMPUTED_VR = dict.fromkeys(search.COMPUTED, "IS") | {
    attributes.MODALITIES_IN_STUDY: "CS",
    attributes.SOP_CLASSES_IN_STUDY: "UI",
}


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A search as a client asks for it."""

    level: Level
    api_version: int
    partition_key: int
    study_uid: str | None
    series_uid: str | None
    conditions: tuple[Condition, ...]
    filtered: frozenset[str]
    """Tags (or paths) of the attributes filtered by, which are answered."""
    include: frozenset[str]
    """Tags of includefield, and paths of tags joined by dots."""
    include_all: bool
    limit: int
    offset: int
    before: int | None
    """Only matches behind the one with this id, :attr:`Page.next` of the page before."""
    service_root: str
    """Absolute URL below which a client finds the matches, for RetrieveURL."""


@dataclass(frozen=True, slots=True)
class Page:
    """Matches, newest first, and the id behind which the next page begins; None where nothing follows."""

    datasets: list[Dataset]
    next: int | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What an answer is to hold."""

    tags: frozenset[str]
    paths: Mapping[str, frozenset[tuple[str, ...]]]
    """Of sequences that are not wanted whole: the paths below them."""
    computed: frozenset[str]
    retrieve_url: str | None
    """The service's root where RetrieveURL is wanted."""
    availability: bool
    """Whether InstanceAvailability is wanted even if it was not stored."""


async def find(archive: Archive, request: SearchRequest, tags: Sequence[QueryTag] = ()) -> Page:
    """DICOM JSON datasets of the matches, tags ascending. ``tags``: extended query tags that are filtered by."""
    wanted = _wanted(request)
    found = await search.search(
        archive.database,
        search.Query(
            level=request.level,
            partition_key=request.partition_key,
            conditions=_conditions(request),
            # One more tells whether another page follows.
            limit=request.limit + 1,
            offset=request.offset,
            before=request.before,
            with_metadata=_needs_metadata(request.level, wanted),
            computed=wanted.computed,
        ),
    )
    more = len(found) > request.limit
    page = found[: request.limit]
    if sum(text_size(match.metadata) for match in page if match.metadata is not None) <= INLINE_BYTES:
        datasets = _datasets(page, request.level, wanted)
    else:
        datasets = await asyncio.to_thread(_datasets, page, request.level, wanted)
    for tag in tags:
        await _show_matched(archive, tag, page, datasets)
    return Page(datasets, page[-1].id if more else None)


async def _show_matched(archive: Archive, tag: QueryTag, page: Sequence[search.Found], datasets: list[Dataset]) -> None:
    """Have datasets hold the values they were found by: the newest instance may have another, or none."""

    def owner(match: search.Found) -> int:
        ids = {Level.STUDY: match.study_id, Level.SERIES: match.series_id}
        return ids.get(tag.level) or match.id

    values = await values_of(archive.database, tag, sorted({owner(match) for match in page}))
    for number, match in enumerate(page):
        text = values.get(owner(match))
        if text is None:
            continue
        stored = datasets[number].get(tag.path)
        if stored is None or _first(tag.vr, stored) != text:
            element = _values(tag.vr, [shown(tag.vr, text)])
            datasets[number] = dict(sorted({**datasets[number], tag.path: element}.items()))


def _first(vr: str, element: Element) -> str | None:
    """What an index would hold of an element."""
    stored = msgspec.json.decode(element) if isinstance(element, msgspec.Raw) else element
    values = stored.get("Value")
    value = indexed(vr, values[0]) if values and stored["vr"] == vr else None
    return None if value is None else value.text


async def total(archive: Archive, request: SearchRequest, seconds: float) -> int:
    """How many matches there are on all pages. Raises TookTooLong."""
    query = search.Query(request.level, request.partition_key, _conditions(request))
    return await search.count(archive.database, query, seconds)


def _conditions(request: SearchRequest) -> tuple[Condition, ...]:
    path = ((STUDY_UID, request.study_uid), (SERIES_UID, request.series_uid))
    return (*(equal(BY_TAG[tag], uid) for tag, uid in path if uid is not None), *request.conditions)


def _wanted(request: SearchRequest) -> _Wanted:
    choose = attributes.all_tags if request.include_all else attributes.default_tags
    asked = set(request.include | request.filtered)
    for level in _levels(request):
        asked |= choose(level, request.api_version)
    if request.study_uid is not None:
        asked.add(STUDY_UID)
    if request.series_uid is not None:
        asked.add(SERIES_UID)
    tags = {name for name in asked if "." not in name}
    paths: dict[str, set[tuple[str, ...]]] = {}
    for name in asked - tags:
        first, *rest = name.split(".")
        if first not in tags:
            paths.setdefault(first, set()).add(tuple(rest))
    computed = {tag for tag in tags & search.COMPUTED.keys() if search.COMPUTED[tag][0].value <= request.level.value}
    return _Wanted(
        frozenset(tags),
        {tag: frozenset(below) for tag, below in paths.items()},
        frozenset(computed),
        request.service_root if RETRIEVE_URL in request.include else None,
        INSTANCE_AVAILABILITY in request.include,
    )


def _levels(request: SearchRequest) -> list[Level]:
    """The levels whose attribute sets the answer holds: those from the searched one up to below the path's."""
    top = 1 + (request.study_uid is not None) + (request.series_uid is not None)
    return [level for level in Level if top <= level.value <= request.level.value]


def _needs_metadata(level: Level, wanted: _Wanted) -> bool:
    in_row = {tag for tag, attribute in BY_TAG.items() if attribute.column and attribute.level.value <= level.value}
    return bool(wanted.paths or wanted.tags - in_row - search.COMPUTED.keys() - {RETRIEVE_URL})


def _datasets(page: Sequence[search.Found], level: Level, wanted: _Wanted) -> list[Dataset]:
    return [_dataset(match, level, wanted) for match in page]


def _dataset(match: search.Found, level: Level, wanted: _Wanted) -> Dataset:
    dataset: Dataset = {} if match.metadata is None else _stored(unpack([match.metadata]), wanted)
    # Computed attributes are asked of the index, and then its other values go with them (query.md §6).
    from_row = wanted.tags if wanted.computed else wanted.tags.difference(dataset)
    for tag, value in match.values.items():
        if value is not None and tag in from_row:
            dataset[tag] = _element(tag, value)
    for tag, values in match.computed.items():
        dataset[tag] = _values(_COMPUTED_VR[tag], values)
    if wanted.retrieve_url is not None:
        below = "".join(f"/{name}/{match.values[tag]}" for tag, name in list(_PATH_UIDS.items())[: level.value])
        dataset[RETRIEVE_URL] = _values("UR", [wanted.retrieve_url + below])
    if wanted.availability:
        # What is in the index can be retrieved at once.
        dataset.setdefault(INSTANCE_AVAILABILITY, _values("CS", ["ONLINE"]))
    return dict(sorted(dataset.items()))


def _stored(json: bytes, wanted: _Wanted) -> Dataset:
    """What is wanted of an instance's metadata."""
    names = wanted.tags.union(wanted.paths)
    decoder, fields = _decoder(names)
    found = decoder.decode(json)
    dataset: Dataset = {}
    for tag, name in fields:
        raw = getattr(found, name)
        if raw is msgspec.UNSET:
            continue
        if tag in wanted.paths:
            element = _reduced(msgspec.json.decode(raw), wanted.paths[tag])
            if element is not None:
                dataset[tag] = element
        else:
            # A part of the text would keep the whole: megabytes of an enhanced object for the number of its frames.
            dataset[tag] = raw.copy() if len(json) > KEPT_BYTES else raw
    return dataset


@lru_cache(maxsize=64)
def _decoder(tags: frozenset[str]) -> tuple[msgspec.json.Decoder[Any], tuple[tuple[str, str], ...]]:
    """A reader of the attributes ``tags``, which passes over all others, and the fields it gives them in.

    Building it costs as much as reading a few instances, and most clients always ask for the same.
    """
    fields = tuple((tag, f"t{tag}") for tag in sorted(tags))
    kinds = [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for _, name in fields]
    wanted = msgspec.defstruct("Wanted", kinds, rename={name: tag for tag, name in fields})
    return msgspec.json.Decoder(wanted), fields


def _reduced(element: dict[str, Any], paths: Iterable[tuple[str, ...]]) -> dict[str, Any] | None:
    """A sequence with nothing in its items but what lies on ``paths``; None if that is nothing at all."""
    below: dict[str, set[tuple[str, ...]]] = {}
    for first, *rest in paths:
        below.setdefault(first, set()).add(tuple(rest))
    items = []
    for item in element.get("Value") or []:
        if not isinstance(item, dict):
            return None
        kept = {}
        for tag in sorted(below.keys() & item.keys()):
            found = item[tag] if () in below[tag] else _reduced(item[tag], below[tag])
            if found is not None:
                kept[tag] = found
        items.append(kept)
    return {**element, "Value": items} if any(items) else None


_OPENINGS = {tag: f'{{"vr":"{attribute.vr}","Value":['.encode() for tag, attribute in BY_TAG.items()}
"""How an element with one value begins. A page has a thousand of them: written at once, each costs a fifth."""
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def _element(tag: str, value: str | int) -> msgspec.Raw:
    shown: Any = value
    if BY_TAG[tag].vr == "PN":
        shown = {name: group for name, group in zip(_GROUPS, str(value).split("="), strict=False) if group}
    return msgspec.Raw(_OPENINGS[tag] + _encode(shown) + b"]}")


_encode = msgspec.json.Encoder().encode


def _values(vr: str, values: list[Any]) -> dict[str, Any]:
    return {"vr": vr, "Value": values} if values else {"vr": vr}
