"""Keys of extended query tag values: equal and ordered as the values are (query.md §4)."""

import struct
from datetime import date
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hounsfield.errors import BadRequest
from hounsfield.index import tag_keys
from hounsfield.index.tag_keys import asked, indexed, shown

BOUNDS = {
    "IS": (-(2**31), 2**31 - 1),
    "SL": (-(2**31), 2**31 - 1),
    "SS": (-(2**15), 2**15 - 1),
    "UL": (0, 2**32 - 1),
    "US": (0, 2**16 - 1),
}
SINGLE = st.floats(width=32, allow_nan=False, allow_infinity=False)
DOUBLE = st.floats(allow_nan=False, allow_infinity=False)
DAYS = st.dates(date(1, 1, 1), date(9999, 12, 31))
TIMES = st.times()


def key(vr: str, value: Any) -> str:
    found = indexed(vr, value)
    assert found is not None
    return found.key


def same_order(vr: str, one: Any, other: Any, one_value: Any, other_value: Any) -> None:
    assert (key(vr, one_value) < key(vr, other_value)) == (one < other)
    assert (key(vr, one_value) == key(vr, other_value)) == (one == other)


@given(st.data())
def test_integers(data: st.DataObject) -> None:
    vr = data.draw(st.sampled_from(sorted(tag_keys.INTEGER_VRS)))
    one, other = data.draw(st.integers(*BOUNDS[vr])), data.draw(st.integers(*BOUNDS[vr]))
    same_order(vr, one, other, one, other)
    assert asked(vr, f" {one:+06d} ") == (key(vr, one), key(vr, one))


@given(st.one_of(st.integers(max_value=-(2**31) - 1), st.integers(min_value=2**32)), st.sampled_from(sorted(BOUNDS)))
def test_integers_no_file_holds_match_nothing(beyond: int, vr: str) -> None:
    low, high = BOUNDS[vr]
    assert asked(vr, str(beyond))[0] not in (key(vr, low), key(vr, high))


@given(st.sampled_from(["FD", "FL"]), st.data())
def test_floating_point_numbers(vr: str, data: st.DataObject) -> None:
    numbers = SINGLE if vr == "FL" else DOUBLE
    one, other = data.draw(numbers), data.draw(numbers)
    same_order(vr, one, other, one, other)
    assert asked(vr, repr(one)) == (key(vr, one), key(vr, one))


@given(DOUBLE)
def test_what_is_asked_of_single_precision_is_rounded_to_it(number: float) -> None:
    assume(abs(number) < 3e38)
    (nearest,) = struct.unpack("<f", struct.pack("<f", number))
    assert asked("FL", repr(number))[0] == key("FL", nearest)


@pytest.mark.parametrize("value", [None, "1e5", {}, float("nan"), float("inf")])
def test_what_is_no_number_is_not_indexed(value: Any) -> None:
    assert indexed("FD", value) is None
    assert indexed("IS", value) is None


@given(DAYS, DAYS)
def test_dates(one: date, other: date) -> None:
    def spelled(day: date) -> str:
        return day.isoformat().replace("-", "")

    same_order("DA", one, other, spelled(one), spelled(other))
    low, high = sorted([one, other])
    assert asked("DA", f"{spelled(low)} - {spelled(high)}") == (spelled(low), spelled(high))
    assert asked("DA", f"-{spelled(high)}") == (None, spelled(high))


@given(TIMES, TIMES)
def test_times(one: Any, other: Any) -> None:
    same_order("TM", one, other, one.strftime("%H%M%S.%f"), other.strftime("%H%M%S.%f"))
    assert asked("TM", one.strftime("%H%M%S.%f-")) == (key("TM", one.strftime("%H%M%S.%f")), None)


@given(DAYS, TIMES, DAYS, TIMES)
def test_moments(one: date, one_time: Any, other: date, other_time: Any) -> None:
    def spelled(day: date, time: Any) -> str:
        return f"{day.isoformat().replace('-', '')}{time.strftime('%H%M%S.%f')}"

    same_order("DT", (one, one_time), (other, other_time), spelled(one, one_time), spelled(other, other_time) + "+0100")
    assert asked("DT", spelled(one, one_time))[0] == key("DT", spelled(one, one_time))


def test_midnight_is_indexed() -> None:
    assert key("TM", "000000") == key("TM", "00") == asked("TM", "0000")[0]


def test_missing_parts_count_as_their_minimum() -> None:
    assert key("DT", "2024") == key("DT", "20240101000000.000000")
    assert key("TM", "1230") == asked("TM", "123000.0")[1]


@pytest.mark.parametrize("vr", sorted(tag_keys.TEXT_VRS))
def test_texts_ignore_case_and_padding(vr: str) -> None:
    assert key(vr, "aB 1 ") == asked(vr, "Ab 1\0")[0]
    assert indexed(vr, " ") is indexed(vr, "\0") is indexed(vr, None) is None


def test_names_are_compared_as_a_whole() -> None:
    value = {"Alphabetic": "M\u00fcller^J\u00f6rg", "Phonetic": "x"}
    assert key("PN", value) == asked("PN", "muller^jorg==x")[0]
    assert indexed("PN", {}) is indexed("PN", "text") is None


@given(st.sampled_from(sorted(tag_keys.SUPPORTED_VRS)), st.data())
def test_what_is_shown_is_what_was_stored(vr: str, data: st.DataObject) -> None:
    values: dict[str, st.SearchStrategy[Any]] = {
        **{vr: st.integers(*bounds) for vr, bounds in BOUNDS.items()},
        "FL": SINGLE,
        "FD": DOUBLE,
        "DA": st.just("20240229"),
        "DT": st.just("2024022912"),
        "TM": st.just("1200"),
        "PN": st.sampled_from([{"Alphabetic": "A^B"}, {"Alphabetic": "A", "Ideographic": "B"}, {"Phonetic": "C"}]),
    }
    value = data.draw(values.get(vr, st.sampled_from(["A", "a b", "1.2.3"])))
    found = indexed(vr, value)
    assert found is not None
    assert shown(vr, found.text) == value


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        ("IS", "x"),
        ("IS", "1.0"),
        ("US", ""),
        ("FD", "many"),
        ("FD", "nan"),
        ("FD", "1e999"),
        ("FL", "0x1"),
        ("DA", "2024"),
        ("DA", "-"),
        ("DA", "20240102-20240101"),
        ("DT", "2024+0100"),
        ("TM", "25"),
    ],
)
def test_what_is_no_value_of_its_vr_is_refused(vr: str, value: str) -> None:
    with pytest.raises(BadRequest):
        asked(vr, value)
