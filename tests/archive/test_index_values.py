"""Values of study and series are made once for instances that agree in them, and are what each would have alone."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.archive import index_values
from hounsfield.archive.index_values import series_values, study_values

Dataset = dict[str, Any]

_TEXTS = st.sampled_from(["a", "b", "", " ", "20260101", "20261399", "1015", "x" * 65])
_VALUES: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "00080020": ("DA", _TEXTS),
    "00080030": ("TM", _TEXTS),
    "00080050": ("SH", _TEXTS),
    "00080060": ("CS", _TEXTS),
    "00080090": ("PN", st.fixed_dictionaries({"Alphabetic": _TEXTS})),
    "00081030": ("LO", _TEXTS),
    "0008103E": ("LO", _TEXTS),
    "00081090": ("LO", _TEXTS),
    "00100010": ("PN", st.fixed_dictionaries({"Alphabetic": _TEXTS}, optional={"Ideographic": _TEXTS})),
    "00100020": ("LO", _TEXTS),
    "00100030": ("DA", _TEXTS),
    "00100040": ("CS", _TEXTS),
    "00200010": ("SH", _TEXTS),
    "00200011": ("IS", st.sampled_from([1, 2, 10**12, "one"])),
    "00400244": ("DA", _TEXTS),
    "00400245": ("TM", _TEXTS),
    "00400275": ("SQ", st.fixed_dictionaries({"00401001": st.fixed_dictionaries({"Value": st.lists(_TEXTS)})})),
}
_ELEMENT = st.sampled_from(sorted(_VALUES)).flatmap(
    lambda tag: st.tuples(
        st.just(tag),
        st.none() | st.lists(_VALUES[tag][1], max_size=2).map(lambda values: {"vr": _VALUES[tag][0], "Value": values}),
    )
)


@given(st.lists(_ELEMENT, min_size=1, max_size=60))
def test_every_attribute_counts(changes: list[tuple[str, dict[str, Any] | None]]) -> None:
    """A series of instances, each of which says one thing otherwise than the one before."""
    dataset: Dataset = {}
    for tag, element in changes:
        dataset = {**dataset, tag: element} if element is not None else {k: v for k, v in dataset.items() if k != tag}
        with pytest.MonkeyPatch.context() as alone:
            for level in (index_values._study, index_values._series):
                alone.setattr(level, "_known", [])
            expected = study_values(dataset), series_values(dataset)
        assert (study_values(dataset), series_values(dataset)) == expected


def test_instances_of_a_study_share_its_values() -> None:
    def instance(name: str) -> Dataset:
        return {"00100020": {"vr": "LO", "Value": [name]}, "00080060": {"vr": "CS", "Value": ["CT"]}}

    first = study_values(instance("one")), series_values(instance("one"))
    study_values(instance("another"))
    assert study_values(instance("one")) is first[0]
    assert series_values(instance("one")) is first[1]


@pytest.mark.parametrize("make", [study_values, series_values])
def test_large_attributes_are_not_kept(make: Callable[[Dataset], object]) -> None:
    tracemalloc.start()
    try:
        for number in range(8):
            many = [str(number), *(f"{number} {index}" for index in range(100_000))]
            make({tag: {"vr": "LO", "Value": many} for tag in ("00100020", "00081090")})
        assert tracemalloc.get_traced_memory()[0] < 20 << 20
    finally:
        many = []
        tracemalloc.stop()
