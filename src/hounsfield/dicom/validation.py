"""May this instance be stored, and what must the answer say about it (store.md §3 and §4).

The full rules ran while the file was read (`Instance.problems`); here they are weighed, and the required attributes and
minimum rules are checked on the dataset. Comments are complete, in the reference's words, ready for ErrorComment.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from hounsfield.dicom import uid
from hounsfield.dicom.dataset_reader import Dataset, Path, Problem
from hounsfield.dicom.dictionary import attribute, display_tag, is_private, key_of
from hounsfield.dicom.part10 import Instance
from hounsfield.dicom.transfer_syntax import TRANSFER_SYNTAXES
from hounsfield.dicom.value_rules import reason
from hounsfield.dicom.values import Element

WARNING_IMPLICIT_VR = 45063
WARNING_ATTRIBUTES = 1

_SOP_CLASS, _STUDY, _SERIES, _SOP_INSTANCE, _PATIENT_ID = map(
    key_of, ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID")
)
_NEVER_DROPPED = (_STUDY, _SERIES, _SOP_INSTANCE)
_REQUIRED = (_SOP_CLASS, _STUDY, _SERIES, _SOP_INSTANCE)
_CORE = ((_STUDY, "UI"), (_SERIES, "UI"), (_SOP_INSTANCE, "UI"), (_PATIENT_ID, "LO"), (_SOP_CLASS, "UI"))
_INDEXED = tuple(
    (key_of(keyword), vr)
    for keyword, vr in (
        ("StudyDate", "DA"),
        ("StudyInstanceUID", "UI"),
        ("StudyDescription", "LO"),
        ("AccessionNumber", "SH"),
        ("PatientID", "LO"),
        ("PatientName", "PN"),
        ("ReferringPhysicianName", "PN"),
        ("PatientBirthDate", "DA"),
        ("ModalitiesInStudy", "CS"),
        ("SeriesInstanceUID", "UI"),
        ("Modality", "CS"),
        ("PerformedProcedureStepStartDate", "DA"),
        ("ManufacturerModelName", "LO"),
        ("SOPInstanceUID", "UI"),
    )
)


@dataclass(frozen=True, slots=True)
class StoreVerdict:
    """What to do with an instance.

    ``failed`` means reason 43264. ``comments`` are the items of FailedAttributesSequence, for a failure as for a
    success with warnings. ``dataset`` is the metadata to keep: under v2 without the attributes that failed.
    ``multi_value_warning`` asks for the HTTP Warning header, ``warning_reason`` is the item's WarningReason.
    """

    failed: bool
    comments: list[str]
    dataset: Dataset
    multi_value_warning: bool
    warning_reason: int | None


def validate_for_store(
    instance: Instance,
    *,
    api_version: int,
    expected_study: str | None,
    full: bool = False,
    indexed_extra: Iterable[tuple[str, str]] = (),
) -> StoreVerdict:
    """Validates as version 1 or 2 of the API does.

    ``expected_study`` is the study the request names. ``full`` is ``EnableFullDicomItemValidation``. ``indexed_extra``
    are the extended query tags, as (key, VR): version 1 checks them too.
    """
    lenient = api_version >= 2
    comments: dict[str, str] = {}  # by key: only the first comment on a tag counts
    failed = _check_required(instance, expected_study, comments, value_needed=not lenient)
    several = False
    flawed: list[Problem] = []
    if full:
        flawed = [problem for problem in instance.problems if problem.strict]
        _note_by_top_level_element(flawed, comments)
        failed = _note_unusable_uids(instance, comments) or failed
    elif lenient:
        several, core_failed = _check_minimum(instance, _CORE, comments, lenient=True)
        failed = failed or core_failed
        flawed = [problem for problem in instance.problems if problem.lenient]
        for problem in sorted(flawed, key=_top_level_first):
            comments.setdefault(problem.key, f"DICOM100: {problem.label} - {problem.lenient}")
    else:
        several, _ = _check_minimum(instance, (*_INDEXED, *indexed_extra), comments, lenient=False)
    if failed or (comments and not lenient):
        return StoreVerdict(True, list(comments.values()), instance.dataset, several, None)
    warning = WARNING_ATTRIBUTES if comments else None
    if TRANSFER_SYNTAXES[instance.transfer_syntax].implicit:
        warning = WARNING_IMPLICIT_VR
    return StoreVerdict(False, list(comments.values()), _without(instance.dataset, flawed), several, warning)


def _comment(key: str, text: str) -> str:
    return f"DICOM100: {display_tag(int(key, 16))} - {text}"


def _minimum_comment(key: str, vr: str, flaw: str) -> str:
    return _comment(key, f"Dicom element '{_name(key)}' failed validation for VR '{vr}': {flaw}")


def _top_level_first(problem: Problem) -> tuple[bool, str]:
    return bool(problem.path), "" if problem.path else problem.key


def _note_by_top_level_element(flawed: list[Problem], comments: dict[str, str]) -> None:
    """The full validation of the reference looks at whole top-level elements: a sequence is one of them."""
    for problem in sorted(flawed, key=lambda problem: problem.path[0][0] if problem.path else problem.key):
        key = problem.path[0][0] if problem.path else problem.key
        label = display_tag(int(key, 16)) if problem.path else problem.label
        comments.setdefault(key, f"DICOM100: {label} - {problem.strict}")


def _note_unusable_uids(instance: Instance, comments: dict[str, str]) -> bool:
    """Whether a UID cannot stand in a path. Full validation takes the place of the rule that would have found it, and
    what was stored under such a UID could be neither asked for nor deleted (store.md §3.3)."""
    failed = False
    for key in _NEVER_DROPPED:
        value = instance.first(key)
        if value is not None and not uid.is_valid(uid.normalise(value)):
            failed = True
            comments.setdefault(key, _minimum_comment(key, instance.dataset[key]["vr"], _INVALID_UID))
    return failed


def _without(dataset: Dataset, flawed: list[Problem]) -> Dataset:
    """A copy that lacks the flawed elements, except the three UIDs at top level. Only what changes is copied."""
    by_path: dict[Path, list[str]] = {}
    for problem in flawed:
        if problem.path or problem.key not in _NEVER_DROPPED:
            by_path.setdefault(problem.path, []).append(problem.key)
    for path, keys in by_path.items():
        dataset = _dropped(dataset, path, keys)
    return dataset


def _dropped(dataset: Dataset, path: Path, keys: list[str]) -> Dataset:
    if not path:
        return {key: element for key, element in dataset.items() if key not in keys}
    (sequence, number), *rest = path
    element = dataset.get(sequence)
    if element is None or len(element.get("Value", ())) <= number:  # written twice in the file: the later one stands
        return dataset
    items = list(element["Value"])
    items[number] = _dropped(items[number], tuple(rest), keys)
    return dataset | {sequence: {"vr": "SQ", "Value": items}}


def _check_required(
    instance: Instance, expected_study: str | None, comments: dict[str, str], *, value_needed: bool
) -> bool:
    """The required attributes (store.md §3.1); notes the first that fails and tells whether one did."""
    for key in _REQUIRED:
        if not _single_value(instance, key):
            comments[key] = _comment(key, f"The required tag '{display_tag(int(key, 16))}' is missing.")
            return True
    if expected_study is not None:
        study = _single_value(instance, _STUDY)
        if study.rstrip().lower() != expected_study.rstrip().lower():
            text = "The StudyInstanceUid in the payload does not match the specified StudyInstanceUid."
            comments[_STUDY] = _comment(_STUDY, text)
            return True
    if value_needed:
        present = bool(_single_value(instance, _PATIENT_ID))
    else:
        present = _PATIENT_ID in instance.dataset or _PATIENT_ID in instance.left_out
    if not present:
        comments[_PATIENT_ID] = _comment(_PATIENT_ID, "The required tag '(0010,0020)' is missing.")
    return not present


def _single_value(instance: Instance, key: str) -> str:
    """The value if there is exactly one; empty otherwise."""
    values = instance.dataset.get(key, {}).get("Value", ())
    return _text(values[0]) if len(values) == 1 else ""


def _text(value: Any) -> str:
    """A JSON value as the text it was read from (near enough for the rules: padding is gone)."""
    if isinstance(value, dict):
        groups = [value.get(name, "") for name in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return "" if value is None else str(value)


def _check_minimum(
    instance: Instance, attributes: Iterable[tuple[str, str]], comments: dict[str, str], *, lenient: bool
) -> tuple[bool, bool]:
    """The minimum rules (store.md §3.3) on top-level attributes; whether one has several values, whether one failed."""
    several = failed = False
    dataset, left_out = instance.dataset, instance.left_out
    for key, vr in attributes:
        element = dataset.get(key)
        actual = element["vr"] if element is not None else left_out.get(key)
        if actual is None or actual == "SQ":
            continue
        if actual != vr:
            found = _other_vr(key, vr, actual)
        else:
            values = element.get("Value", ()) if element is not None else ()
            several = several or len(values) > 1
            found = _minimum_flaw(vr, values, lenient)
        if found:
            failed = True
            comments.setdefault(key, _minimum_comment(key, actual, found))
    return several, failed


def indexed_flaw(key: str, vr: str, element: Element) -> str:
    """What keeps the first value of a stored element from being indexed as one of that VR; empty if nothing does.

    A value that is not there has no flaw. The text does not quote it.
    """
    values = element.get("Value", ())
    actual = element["vr"]
    if actual == "SQ" or not values or not _text(values[0]).rstrip("\0"):
        return ""
    return _minimum_flaw(vr, values, lenient=True) if actual == vr else _other_vr(key, vr, actual)


def _other_vr(key: str, vr: str, actual: str) -> str:
    return f"The extended query tag '{_name(key)}' is expected to have VR '{vr}' but has '{actual}' in file."


def _name(key: str) -> str:
    tag = int(key, 16)
    row = attribute(tag)
    return key if is_private(tag) or row is None else row.keyword


_UID = re.compile(r"[0-9.]{0,63}[0-9]").fullmatch
_DATE = re.compile(r"[0-9]{8}").fullmatch
_CONTROL_BUT_ESC = re.compile(r"[\0---]").search
_BYTES = {"FD": 8, "FL": 4, "SL": 4, "UL": 4, "SS": 2, "US": 2}
_INVALID_UID = (
    "DICOM Identifier is invalid. Value length should not exceed the maximum length of 64 characters. "
    "Value should contain characters in '0'-'9' and '.'. Each component must start with non-zero number."
)


def _minimum_flaw(vr: str, values: Sequence[Any], lenient: bool) -> str:
    """What the minimum rule of a VR says about the first value; empty if it passes."""
    if vr in _BYTES:
        return "" if values else f"Value length is not {_BYTES[vr]}."
    value = _text(values[0]) if values else ""
    if lenient:
        value = value.rstrip("\0")
    if not value:
        return "Value length is not 4." if vr == "AS" else ""
    rule = _MINIMUM.get(vr)
    return rule(value) if rule else ""


def _at_most_16(value: str) -> str:
    return "Value length exceeds maximum length of 16." if len(value) > 16 else ""


def _age(value: str) -> str:
    return "" if len(value) == 4 else "Value length is not 4."


def _date(value: str) -> str:
    try:
        valid = _DATE(value) and date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        valid = None
    return "" if valid else "Value cannot be parsed as a valid date."


def _long_string(value: str) -> str:
    if len(value) > 64:
        return "Value length exceeds maximum length of 64."
    return "Value contains invalid character." if "\\" in value or _CONTROL_BUT_ESC(value) else ""


def _person_name(value: str) -> str:
    groups = value.split("=")
    if len(groups) > 3:
        return "Value contains more than 5 components."
    for group in groups:
        if len(group) > 64:
            return "One or more group of person name exceeds maxium length of 64."
        if _CONTROL_BUT_ESC(group):
            return "Value contains invalid character."
    return "Value contains more than 5 components." if any(group.count("^") > 4 for group in groups) else ""


def _uid(value: str) -> str:
    return "" if _UID(value.rstrip(" ")) else _INVALID_UID


def _as_full_rule(vr: str, text: str) -> Callable[[str], str]:
    return lambda value: text if reason(vr, value) else ""


_MINIMUM: dict[str, Callable[[str], str]] = {
    "AE": _at_most_16,
    "AS": _age,
    "CS": _at_most_16,
    "DA": _date,
    "DT": _as_full_rule("DT", "Value cannot be parsed as a valid DateTime."),
    "IS": _as_full_rule("IS", "Value cannot be parsed as a valid integer string."),
    "LO": _long_string,
    "PN": _person_name,
    "SH": _at_most_16,
    "TM": _as_full_rule("TM", "Value cannot be parsed as a valid Time."),
    "UI": _uid,
}
