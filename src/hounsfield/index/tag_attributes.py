"""Extended query tags as attributes that a search can name (extended-query-tags.md §8)."""

from collections.abc import Sequence

from hounsfield.database.engine import Database
from hounsfield.dicom import dictionary
from hounsfield.index.attributes import Attribute, Matching, Values
from hounsfield.index.query_tags import QueryTag
from hounsfield.index.tag_keys import NAME_VR, TEXT_VRS
from hounsfield.index.tag_values import GROUPS, WORDS


def as_attribute(tag: QueryTag) -> Attribute:
    """The tag as a searchable attribute; a private one is known by its number."""
    row = dictionary.attribute(int(tag.path, 16))
    keyword = row.keyword if row is not None and row.keyword else tag.path
    own = ("tag_id", (tag.id,))
    values = Values(tag.level, "query_tag_value", "object_id", (own,))
    if tag.vr == NAME_VR:
        words = Values(tag.level, "query_tag_name", "object_id", (own, ("part", (WORDS,))))
        groups = Values(tag.level, "query_tag_name", "object_id", (own, ("part", GROUPS)))
        return Attribute(tag.path, keyword, tag.vr, Matching.NAME, values, "key", words=words, groups=groups)
    matching = Matching.TEXT if tag.vr in TEXT_VRS else Matching.TAG_KEY
    if tag.vr == "UI":
        matching = Matching.UID
    return Attribute(tag.path, keyword, tag.vr, matching, values, "key")


async def values_of(database: Database, tag: QueryTag, object_ids: Sequence[int]) -> dict[int, str]:
    """The values studies, series or instances have for a tag (index.tag_keys.shown reads them)."""
    if not object_ids:
        return {}
    marks = ", ".join("?" * len(object_ids))
    return dict(
        await database.fetch(
            f"SELECT object_id, value FROM query_tag_value WHERE tag_id = ? AND object_id IN ({marks})",
            tag.id,
            *object_ids,
        )
    )
