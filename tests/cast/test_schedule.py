"""Which steps may begin, over pages: the order of every study and Patient is kept, and nothing waits for no reason."""

import random

from hypothesis import given
from hypothesis import strategies as st

from hounsfield.cast.feed import Action, State
from hounsfield.cast.schedule import Chain, Schedule
from hounsfield.cast.step import Step, keys, prepare
from tests.cast.conftest import OPTIONS
from tests.cast.memory_archive import ct
from tests.cast.test_step import entry


def step(sequence: int, study: str, patient: str, name: str = "Doe^Jane") -> Step:
    """An upsert; without a patient a removal."""
    if patient:
        made = prepare(entry(sequence, study, metadata=ct(PatientID=patient, PatientName=name)), OPTIONS)
    else:
        made = prepare(entry(sequence, study, Action.DELETE, State.DELETED), OPTIONS)
    assert made is not None
    return made


def sequences(chains: list[Chain]) -> list[list[int]]:
    return [[step.sequence for run in chain.runs for step in run.steps] for chain in chains]


def test_what_is_under_way_holds_up_its_own_study_and_patient_only() -> None:
    schedule = Schedule()
    [first] = schedule.add([step(1, "S", "P")])
    assert sequences(schedule.add([step(2, "S", "P"), step(3, "T", "Q"), step(4, "U", "P"), step(5, "V", "R")])) == [
        [3],
        [5],
    ]
    # What follows a step that waits has to wait as well, though its own study is free.
    assert schedule.add([step(6, "U", ""), step(7, "S", "P")]) == []
    assert sequences(schedule.end(first)) == [[2, 7, 4, 6]]


Feed = list[tuple[str, str, str]]


@given(
    feed=st.lists(st.tuples(st.sampled_from("STU"), st.sampled_from(["P", "Q", "R", ""]), st.sampled_from("AB"))),
    seed=st.integers(0, 999),
)
def test_every_order_that_is_possible_is_right(feed: Feed, seed: int) -> None:
    """Pages of any size, chains that end in any order: studies in feed order, Patients end as the feed says."""
    rng = random.Random(seed)
    waiting = [step(number, *one) for number, one in enumerate(feed, 1)]
    schedule, under_way, done = Schedule(), list[Chain](), list[Step]()
    while waiting or under_way:
        if waiting and (not under_way or rng.random() < 0.5):
            size = rng.randint(1, 4)
            under_way += schedule.add(waiting[:size])
            del waiting[:size]
        else:
            chain = under_way.pop(rng.randrange(len(under_way)))
            done += [step for run in chain.runs for step in run.steps]
            under_way += schedule.end(chain)
        held = [key for chain in under_way for key in chain.keys]
        assert len(held) == len(set(held))
    expected = [step(number, *one) for number, one in enumerate(feed, 1)]
    assert sorted(step.sequence for step in done) == [step.sequence for step in expected]
    for study in "STU":
        assert [one.sequence for one in done if one.study_uid == study] == [
            one.sequence for one in expected if one.study_uid == study
        ]
    assert said(done) == said(expected)


def said(steps: list[Step]) -> dict[object, list[object]]:
    """By Patient what is said of it, repetitions left out."""
    found: dict[object, list[object]] = {}
    for one in steps:
        for identity in keys(one)[1:]:
            values = getattr(one, "patient")  # noqa: B009
            if found.setdefault(identity, [values])[-1] != values:
                found[identity].append(values)
    return found
