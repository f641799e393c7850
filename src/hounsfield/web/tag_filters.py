"""Which extended query tags the filters of a search name (extended-query-tags.md §§6, 8)."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

from hounsfield.database.engine import Database
from hounsfield.errors import BadRequest
from hounsfield.index import query_tags
from hounsfield.index.attributes import BY_TAG, REFERENCE_SEARCHABLE, SEARCHABLE, Attribute
from hounsfield.index.levels import Level
from hounsfield.index.query_tags import QueryTag, TagStatus
from hounsfield.index.tag_attributes import as_attribute
from hounsfield.web.attribute_ids import tag_number

ERRONEOUS = "erroneous-dicom-attributes"
"""Header that lists filters whose index has errors."""


@dataclass(frozen=True, slots=True)
class TagFilters:
    """What a search can name, the tags its filters do name, and those of them with errors, as they were written."""

    attributes: Sequence[Attribute] = SEARCHABLE
    tags: tuple[QueryTag, ...] = ()
    erroneous: tuple[str, ...] = ()


async def tag_filters(database: Database, request: Request, level: Level) -> TagFilters:
    """Tags are read where a parameter names an attribute that may be one. Raises BadRequest for one that may not be
    searched now."""
    named = _named(request)
    if not named:
        return TagFilters()
    known = await query_tags.everything(database)
    for tag in known:
        if tag.path in named:
            _refuse_unsearchable(tag, named[tag.path])
    searchable = {
        tag.path: tag
        for tag in known
        if tag.status is TagStatus.READY and tag.enabled and tag.level.value <= level.value
    }
    # An operator has said at which level it is to be searched.
    attributes = [attribute for attribute in SEARCHABLE if attribute.tag not in searchable]
    used = tuple(searchable[path] for path in named if path in searchable)
    return TagFilters(
        (*attributes, *map(as_attribute, searchable.values())),
        used,
        tuple(named[tag.path] for tag in used if tag.error_count),
    )


def _named(request: Request) -> dict[str, str]:
    """Attributes that may be tags, with the names they were given by."""
    found: dict[str, str] = {}
    for name in request.query_params:
        number = tag_number(name.strip())
        if number is not None and f"{number:08X}" not in REFERENCE_SEARCHABLE:
            found[f"{number:08X}"] = name.strip()
    return found


def _refuse_unsearchable(tag: QueryTag, name: str) -> None:
    if tag.status is TagStatus.READY and not tag.enabled:
        reason = "is disabled"
        if tag.error_count:
            reason += ", as some instances could not be indexed; look at its errors and enable it to search the others"
    elif tag.status is TagStatus.ADDING and tag.path not in BY_TAG:
        reason = "is not ready: what was stored before it was added is being indexed"
    else:
        return
    raise BadRequest(f"The query parameter '{name}' is invalid. The extended query tag {reason}.")
