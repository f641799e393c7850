"""From a dataset to its values of extended query tags (extended-query-tags.md §§4, 7)."""

from collections.abc import Mapping, Sequence
from typing import Any

from hounsfield.dicom.validation import indexed_flaw
from hounsfield.index.query_tags import QueryTag
from hounsfield.index.tag_keys import indexed
from hounsfield.index.tag_values import TagError, TagValue

Element = dict[str, Any]


def checked(dataset: Mapping[str, Element], tags: Sequence[QueryTag]) -> list[tuple[str, str]]:
    """Key and VR of the elements of a dataset that are values of tags, as validation wants them."""
    keys = [(element_key(dataset, tag), tag.vr) for tag in tags]
    return [(key, vr) for key, vr in keys if key is not None]


def tag_values(dataset: Mapping[str, Element], tags: Sequence[QueryTag]) -> tuple[TagValue, ...]:
    """The values a valid dataset has for tags: first ones only; of elements with the VR of their tag."""
    found: list[TagValue] = []
    for tag in tags:
        key = element_key(dataset, tag)
        if key is not None and key in dataset:
            found += _value(dataset[key], tag)
    return tuple(found)


def checked_tag_values(
    dataset: Mapping[str, Element], tags: Sequence[QueryTag], version: int
) -> tuple[list[TagValue], list[TagError]]:
    """The values a stored dataset has for tags, and what is wrong with others: it may be older than its tags."""
    found: list[TagValue] = []
    errors: list[TagError] = []
    for tag in tags:
        key = element_key(dataset, tag)
        if key is None or key not in dataset:
            continue
        flaw = indexed_flaw(key, tag.vr, dataset[key])
        if flaw:
            errors.append(TagError(tag, version, flaw))
        else:
            found += _value(dataset[key], tag)
    return found, errors


def _value(element: Element, tag: QueryTag) -> tuple[TagValue, ...]:
    """The one value, or none."""
    values = element.get("Value")
    if not values or element["vr"] != tag.vr:
        return ()
    value = indexed(tag.vr, values[0])
    return () if value is None else (TagValue(tag, value),)


def element_key(dataset: Mapping[str, Element], tag: QueryTag) -> str | None:
    """Where a dataset has the value of a tag, if it has one.

    A private attribute is the last two digits of its element behind the block that its creator has reserved in this
    dataset, which another than the tag's path names, too, may be (PS3.5 §7.8.1). Blocks need not follow one another:
    others may have been removed.
    """
    if tag.private_creator is None:
        return tag.path
    reservations, offset = tag.path[:4] + "00", tag.path[6:]
    for key, creator in dataset.items():
        if key.startswith(reservations) and key[6] != "0":
            values = creator.get("Value")
            if values and isinstance(values[0], str) and values[0].strip(" \0") == tag.private_creator:
                return f"{key[:4]}{key[6:]}{offset}"
    return None
