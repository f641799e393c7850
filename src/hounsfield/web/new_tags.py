"""What a client asks for when it adds extended query tags (extended-query-tags.md §§2, 3)."""

from collections.abc import Mapping
from typing import Any

from hounsfield.dicom import dictionary
from hounsfield.dicom.encodings import VRS
from hounsfield.dicom.validation import indexed_flaw
from hounsfield.errors import BadRequest
from hounsfield.index.attributes import REFERENCE_SEARCHABLE
from hounsfield.index.levels import Level
from hounsfield.index.query_tags import NewTag
from hounsfield.index.tag_keys import SUPPORTED_VRS
from hounsfield.web.attribute_ids import tag_number
from hounsfield.web.json_body import members

LEVELS = {level.name.lower(): level for level in Level}

_KNOWN_VRS = SUPPORTED_VRS | VRS
_TEXTS = ("path", "vr", "privatecreator", "level")
_NAMES = {"path": "path", "vr": "vr", "privatecreator": "privateCreator", "level": "Level"}


def bound(body: Any) -> list[dict[str, str]]:
    """The entries of a body, names in lower case, as text. Raises BadRequest that names the field."""
    if not isinstance(body, list):
        raise BadRequest("The field '$' in request body is invalid: an array of extended query tags is required.")
    entries = [_texts(number, entry) for number, entry in enumerate(body)]
    for number, entry in enumerate(entries):
        for name, spelled in (("path", "Path"), ("level", "Level")):
            if not entry.get(name, "").strip():
                raise BadRequest(f"The field '[{number}].{spelled}' in request body is invalid: It is required.")
    return entries


def _texts(number: int, entry: Any) -> dict[str, str]:
    if not isinstance(entry, dict):
        raise BadRequest(f"The field '$[{number}]' in request body is invalid: an object is required.")
    found = {}
    given = members(entry)
    for name in _TEXTS:
        value = given.get(name)
        if value is None:
            continue
        if name == "level" and (not isinstance(value, str) or value.lower() not in LEVELS):
            raise BadRequest(
                f"The field '$[{number}].Level' in request body is invalid: Expected one of the following values: "
                "'Instance', 'Series', 'Study'."
            )
        if not isinstance(value, str):
            raise BadRequest(f"The field '$[{number}].{_NAMES[name]}' in request body is invalid: a text is required.")
        found[name] = value
    return found


def new_tags(entries: list[dict[str, str]]) -> list[NewTag]:
    """The tags that bound entries describe. Raises BadRequest on the first fault."""
    if not entries:
        raise BadRequest("The request body holds no extended query tag.")
    found: dict[str, NewTag] = {}
    for entry in entries:
        tag = _new_tag(entry)
        if tag.path in found:
            raise BadRequest(f"The extended query tag '{entry['path']}' is there more than once.")
        found[tag.path] = tag
    return list(found.values())


def _new_tag(entry: Mapping[str, str]) -> NewTag:
    path = entry["path"].strip()
    if "." in path:
        raise BadRequest(f"The extended query tag '{path}' is invalid: attributes in sequences are not supported.")
    number = tag_number(path)
    if number is None:
        raise BadRequest(
            f"The extended query tag '{path}' is invalid: it names no known attribute; use a keyword or eight "
            "hexadecimal digits."
        )
    if f"{number:08X}" in REFERENCE_SEARCHABLE:
        raise BadRequest(f"The extended query tag '{path}' is invalid: the attribute is searchable without it.")
    creator = _private_creator(path, number, entry.get("privatecreator"))
    return NewTag(f"{number:08X}", _vr(path, number, entry.get("vr")), creator, LEVELS[entry["level"].lower()])


def _private_creator(path: str, number: int, creator: str | None) -> str | None:
    wanted = dictionary.is_private(number) and not 0x10 <= number & 0xFFFF <= 0xFF
    if not wanted:
        if creator is not None:
            kind = "private creator element" if dictionary.is_private(number) else "standard attribute"
            raise BadRequest(f"The extended query tag '{path}' is invalid: a {kind} has no private creator.")
        return None
    if creator is None or not creator.strip():
        raise BadRequest(f"The private creator of the private extended query tag '{path}' is missing.")
    text = creator.strip(" ")
    if indexed_flaw(f"{number:08X}", "LO", {"vr": "LO", "Value": [text]}) or "\0" in text:
        raise BadRequest(
            f"The private creator of the extended query tag '{path}' is invalid: it must be at most 64 characters, "
            "without control characters and backslash."
        )
    return text


def _vr(path: str, number: int, given: str | None) -> str:
    row = dictionary.attribute(number)
    if given is None or not given.strip():
        if row is None:
            raise BadRequest(f"The VR of the private extended query tag '{path}' is missing.")
        vr = row.vr.split(" or ")[0]
    else:
        vr = given.strip().upper()
        if vr not in _KNOWN_VRS:
            raise BadRequest(f"The VR of the extended query tag '{path}' is not one of DICOM.")
        if row is not None and vr not in row.vr.split(" or "):
            raise BadRequest(
                f"The VR '{vr}' of the extended query tag '{path}' is not that of the attribute: {row.vr}."
            )
    if vr not in SUPPORTED_VRS:
        raise BadRequest(
            f"The VR '{vr}' of the extended query tag '{path}' is not supported; these are: "
            f"{', '.join(sorted(SUPPORTED_VRS))}."
        )
    return vr
