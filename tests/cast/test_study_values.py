"""Which values an Update has ended: checked against looking at all instances anew."""

from hypothesis import given
from hypothesis import strategies as st

from hounsfield.cast.study_values import InstanceValues, KnownValues

A, B, C = InstanceValues("A", "a"), InstanceValues("B", None), InstanceValues(None, "c")


def test_nothing_ends_while_an_instance_is_unknown() -> None:
    values = KnownValues({}, ["1", "2"])
    values.record("1", A, is_update=True)
    assert values.ended() is None
    values.record("2", B, is_update=True)
    assert values.ended() == ({"A", "B"}, {"a"})
    assert values.known == {"1": A, "2": B}


def test_nothing_is_remembered_of_studies_without_updates() -> None:
    values = KnownValues({}, ["1"])
    values.record("2", A, is_update=False)
    assert values.known == {}
    values.record("1", A, is_update=True)
    assert values.ended() is None  # of 2 nothing is known


def test_stored_instances_of_updated_studies_are() -> None:
    values = KnownValues({"1": A}, ["1"])
    values.record("2", B, is_update=False)
    assert values.known == {"1": A, "2": B}


def test_a_value_ends_with_the_last_instance_that_has_it() -> None:
    values = KnownValues({"1": A, "2": A}, ["1", "2"])
    values.ended()
    values.record("1", B, is_update=True)
    assert values.ended() is None
    values.record("2", C, is_update=True)
    assert values.ended() == ({"B"}, {"c"})


CHANGES = st.lists(
    st.tuples(st.sampled_from(["store", "update", "delete"]), st.sampled_from("1234"), st.sampled_from([A, B, C])),
    max_size=30,
)


@given(st.dictionaries(st.sampled_from("1234"), st.sampled_from([A, B, C])), CHANGES)
def test_as_if_all_instances_were_looked_at_after_every_update(
    before: dict[str, InstanceValues], changes: list[tuple[str, str, InstanceValues]]
) -> None:
    """``shown`` is what the study shows if ``ended`` says all there is to say."""
    values = KnownValues({}, before)
    real, known = dict(before), set[str]()
    shown = {one.accession_number for one in real.values()}
    possible = set(shown)
    for action, sop_uid, new in changes:
        if action == "delete":
            values.forget(sop_uid)
            real.pop(sop_uid, None)
            known.discard(sop_uid)
            continue
        values.record(sop_uid, new, is_update=action == "update")
        real[sop_uid] = new
        shown.add(new.accession_number)
        possible.add(new.accession_number)
        if action == "update" or known:
            known.add(sop_uid)
        if action == "update":
            still = values.ended()
            if still is not None:
                shown &= still[0] | {None}
            if known == real.keys():
                possible = {one.accession_number for one in real.values()} | {None}
            assert shown - {None} == possible - {None}
