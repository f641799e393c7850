"""What an entry asks for (dicom-cast.md §4.1), and the order that must be kept (§3)."""

from dataclasses import replace
from typing import Any

import pytest

from hounsfield.cast.failure import EntryRefused
from hounsfield.cast.feed import Action, FeedEntry, State
from hounsfield.cast.step import Remove, Step, Upsert, chains, prepare
from tests.cast.conftest import OPTIONS
from tests.cast.memory_archive import ct


def entry(
    sequence: int = 1,
    study: str = "S",
    action: Action = Action.CREATE,
    state: State = State.CURRENT,
    metadata: dict[str, Any] | None = None,
) -> FeedEntry:
    return FeedEntry(sequence, study, "SE", f"I{sequence}", action, state, metadata=metadata)


@pytest.mark.parametrize(
    ("action", "state", "has_metadata", "expected"),
    [
        (Action.CREATE, State.DELETED, False, None),
        (Action.CREATE, State.CURRENT, True, "create"),
        (Action.CREATE, State.REPLACED, True, "create"),
        (Action.CREATE, State.CURRENT, False, None),
        (Action.UPDATE, State.CURRENT, True, "update"),
        (Action.UPDATE, State.REPLACED, True, "update"),
        (Action.UPDATE, State.CURRENT, False, None),
        (Action.UPDATE, State.DELETED, False, None),
        (Action.DELETE, State.DELETED, False, "remove"),
        (Action.DELETE, State.REPLACED, True, "remove"),
        (Action.DELETE, State.CURRENT, True, "remove"),
    ],
)
def test_action_and_state(action: Action, state: State, has_metadata: bool, expected: str | None) -> None:
    step = prepare(entry(action=action, state=state, metadata=ct() if has_metadata else None), OPTIONS)
    if expected is None:
        assert step is None
    elif expected == "remove":
        assert isinstance(step, Remove)
    else:
        assert isinstance(step, Upsert)
        assert step.is_update == (expected == "update")


def test_other_partitions_are_left_out_unless_listed() -> None:
    other = replace(entry(metadata=ct()), partition="research")
    assert prepare(other, OPTIONS) is None
    assert prepare(other, replace(OPTIONS, partitions=frozenset({"research"}))) is not None


@pytest.mark.parametrize("keyword", ["PatientID", "SOPClassUID"])
def test_required_tags(keyword: str) -> None:
    with pytest.raises(EntryRefused, match=f"'{keyword}'"):
        prepare(entry(metadata=ct(**{keyword: None})), OPTIONS)


def test_invalid_optional_values_are_left_out_and_named() -> None:
    step = prepare(entry(metadata=ct(PatientSex="X", TimezoneOffsetFromUTC="CET")), OPTIONS)
    assert isinstance(step, Upsert)
    assert step.patient.gender is None
    assert step.image.study_started == "2024-01-31"
    assert [error.table.value for error in step.invalid] == ["InvalidDicomTagExceptionTable"] * 2
    assert [error.message.rpartition("'PatientSex'")[1] != "" for error in step.invalid] == [False, True]


@pytest.mark.parametrize(("keyword", "value"), [("PatientSex", "X"), ("TimezoneOffsetFromUTC", "CET")])
def test_enforced_validation_refuses_them(keyword: str, value: str) -> None:
    with pytest.raises(EntryRefused, match=f"'{value}'.*'{keyword}'") as refused:
        prepare(entry(metadata=ct(**{keyword: value})), replace(OPTIONS, enforce_validation=True))
    assert refused.value.table.value == "DicomFailToStoreExceptionTable"
    assert refused.value.name == "InvalidDicomTagValueException"


def steps(*specifications: tuple[str, str]) -> list[Step]:
    """Upserts of (study, patient); a patient "" makes a removal."""
    made = []
    for sequence, (study, patient) in enumerate(specifications, 1):
        if patient:
            made.append(prepare(entry(sequence, study, metadata=ct(PatientID=patient)), OPTIONS))
        else:
            made.append(prepare(entry(sequence, study, Action.DELETE, State.DELETED), OPTIONS))
    return [step for step in made if step is not None]


def order(found: list[Step]) -> list[list[list[int]]]:
    return [[[step.sequence for step in run.steps] for run in chain] for chain in chains(found)]


@pytest.mark.parametrize(
    ("specifications", "expected"),
    [
        ([], []),
        ([("S", "P"), ("S", "P"), ("S", "P")], [[[1, 2, 3]]]),
        ([("S", "P"), ("T", "Q"), ("S", "P"), ("T", "Q")], [[[1, 3]], [[2, 4]]]),
        ([("S", "P"), ("T", "P"), ("S", "P")], [[[1, 3], [2]]]),
        ([("S", "P"), ("S", "Q"), ("S", "P")], [[[1], [2], [3]]]),
        ([("S", "P"), ("T", "Q"), ("S", "Q")], [[[1], [2], [3]]]),
        ([("S", "P"), ("S", ""), ("S", "P")], [[[1, 2, 3]]]),
        ([("S", ""), ("S", "P"), ("S", ""), ("S", "Q")], [[[1, 2, 3], [4]]]),
        ([("S", ""), ("T", ""), ("S", "")], [[[1, 3]], [[2]]]),
        ([("S", "P"), ("T", ""), ("T", "P")], [[[1], [2, 3]]]),
    ],
)
def test_chains(specifications: list[tuple[str, str]], expected: list[list[list[int]]]) -> None:
    assert order(steps(*specifications)) == expected


def test_patients_with_the_same_id_of_different_issuers_are_two() -> None:
    options = replace(OPTIONS, is_issuer_id_used=True)
    made = [
        prepare(entry(1, "S", metadata=ct(IssuerOfPatientID="A")), options),
        prepare(entry(2, "T", metadata=ct(IssuerOfPatientID="B")), options),
    ]
    assert order([step for step in made if step]) == [[[1]], [[2]]]
