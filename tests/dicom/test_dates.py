from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.dicom import dates
from hounsfield.dicom.dates import Interval, InvalidDateQuery
from hounsfield.errors import BadRequest

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("20200229", date(2020, 2, 29)),
        ("19991231 ", date(1999, 12, 31)),
        ("00010101", date(1, 1, 1)),
        ("20210229", None),
        ("20201301", None),
        ("20200100", None),
        ("00000101", None),
        ("2020", None),
        ("202001", None),
        ("2020.01.01", None),
        ("20200101\0", None),
        ("20200101-20200102", None),
        ("２０２００１０１", None),
        ("", None),
    ],
)
def test_stored_date(value: str, expected: date | None) -> None:
    assert dates.parse_date(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10", 10 * HOUR),
        ("1011", 10 * HOUR + 660 * SECOND),
        ("101112", 10 * HOUR + 672 * SECOND),
        ("101112.5", 10 * HOUR + 672 * SECOND + 500_000),
        ("000000.000001", 1),
        ("235959.999999  ", DAY - 1),
        ("235960", DAY),
        ("24", None),
        ("1060", None),
        ("101161", None),
        ("101112.", None),
        ("101112.1234567", None),
        ("1011.5", None),
        ("10:11:12", None),
        ("1", None),
        ("", None),
    ],
)
def test_stored_time(value: str, expected: int | None) -> None:
    assert dates.parse_time(value) == expected


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        ("2020", "20200101000000.0"),
        ("202003", "20200301000000"),
        ("20200315", "20200315000000"),
        ("2020031504", "20200315040000"),
        ("202003150405", "20200315040500"),
        ("20200315040506.12", "20200315040506.120000"),
        ("20200315040506+0100", "20200315040506"),
        ("20200315040506.5-1130", "20200315040506.5"),
        ("2020-0500", "2020"),
    ],
)
def test_stored_datetimes_with_one_meaning(shorter: str, longer: str) -> None:
    assert dates.parse_datetime(shorter) is not None
    assert dates.parse_datetime(shorter) == dates.parse_datetime(longer)


@pytest.mark.parametrize(
    "value", ["", "20", "20200", "20201301", "2020010124", "20200101120000.", "2020010112+01", "x"]
)
def test_not_a_datetime(value: str) -> None:
    assert dates.parse_datetime(value) is None


@given(st.datetimes())
def test_datetimes_keep_their_order_as_numbers(moment: datetime) -> None:
    micros = dates.parse_datetime(f"{moment.year:04}" + moment.strftime("%m%d%H%M%S.%f"))
    assert micros == (moment - datetime(1, 1, 1)) // timedelta(microseconds=1)


@given(st.dates(), st.dates())
def test_date_ranges(one: date, other: date) -> None:
    low, high = sorted((one, other))
    a, b = (f"{day.year:04}{day.month:02}{day.day:02}" for day in (low, high))
    assert dates.date_interval(a) == Interval(low, low)
    assert dates.date_interval(f"{a}-{b}") == Interval(low, high)
    assert dates.date_interval(f" {a} -  {b} ") == Interval(low, high)
    assert dates.date_interval(f"{a}-") == Interval(low, None)
    assert dates.date_interval(f"- {b}") == Interval(None, high)
    if low != high:
        with pytest.raises(InvalidDateQuery, match="start of the range"):
            dates.date_interval(f"{b}-{a}")


@pytest.mark.parametrize("ask", [dates.date_interval, dates.time_interval, dates.datetime_interval])
@pytest.mark.parametrize("value", ["-", " - ", "--", "20200101-20200102-20200103", "", "10-11-12", "abc", "10-x", "1*"])
def test_neither_value_nor_range(ask: object, value: str) -> None:
    assert callable(ask)
    with pytest.raises(InvalidDateQuery):
        ask(value)


@pytest.mark.parametrize("value", ["19740231", "1974", "19740230-19800101", "1974-02-03", "19740203-19740202"])
def test_a_refusal_does_not_tell_the_value(value: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        dates.date_interval(value)
    assert "1974" not in refusal.value.message
    assert refusal.value.message.endswith(".")


def test_exactness() -> None:
    assert dates.date_interval("20200101-20200101").is_exact
    assert dates.time_interval("00").is_exact
    assert not dates.date_interval("20200101-").is_exact


def test_time_ranges() -> None:
    assert dates.time_interval("10-1130") == Interval(10 * HOUR, 11 * HOUR + 30 * 60 * SECOND)
    assert dates.time_interval("10-") == Interval(10 * HOUR, None)
    assert dates.time_interval("-10") == Interval(None, 10 * HOUR)
    with pytest.raises(InvalidDateQuery):
        dates.time_interval("11-10")


def test_datetime_ranges_end_at_the_minimum_of_the_missing_parts() -> None:
    asked = dates.datetime_interval("2020 - 2021")
    assert asked == Interval(dates.parse_datetime("20200101"), dates.parse_datetime("20210101000000"))


@pytest.mark.parametrize("value", ["20200101120000+0100", "20200101120000-0500", "20200101120000+0100-2021"])
def test_a_search_value_has_no_utc_offset(value: str) -> None:
    with pytest.raises(InvalidDateQuery):
        dates.datetime_interval(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("20200229", "2020-02-29"),
        ("202002", "2020-02"),
        ("1974", "1974"),
        ("1974 ", "1974"),
        ("20210229", None),
        ("202013", None),
        ("0000", None),
        ("20200", None),
        ("2020-02", None),
        ("", None),
    ],
)
def test_date_for_fhir(value: str, expected: str | None) -> None:
    assert dates.partial_date(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10", "10:00:00"),
        ("1011", "10:11:00"),
        ("101112 ", "10:11:12"),
        ("101112.5", "10:11:12.500"),
        ("101112.0629", "10:11:12.062"),
        ("101112.0009", "10:11:12"),
        ("235960", None),
        ("2500", None),
        ("10:11", None),
        ("", None),
    ],
)
def test_time_for_fhir(value: str, expected: str | None) -> None:
    assert dates.time_of_day(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("+0100", "+01:00"),
        ("-0330", "-03:30"),
        ("+9:00", "+09:00"),
        ("+05:45", "+05:45"),
        ("+930", "+09:30"),
        (" -1400 ", "-14:00"),
        ("-0000", "+00:00"),
        ("+1401", None),
        ("+1500", None),
        ("+0060", None),
        ("0100", None),
        ("+01", None),
        ("Z", None),
        ("", None),
    ],
)
def test_utc_offset(value: str, expected: str | None) -> None:
    assert dates.utc_offset(value) == expected


@given(st.datetimes(min_value=datetime(1000, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_the_pieces_make_a_moment_other_libraries_read(moment: datetime, offset: int) -> None:
    sign = "-" if offset < 0 else "+"
    day = dates.partial_date(moment.strftime("%Y%m%d"))
    time = dates.time_of_day(moment.strftime("%H%M%S.%f"))
    zone = dates.utc_offset(f"{sign}{abs(offset) // 60:02}{abs(offset) % 60:02}")
    read = datetime.fromisoformat(f"{day}T{time}{zone}")
    assert read.utcoffset() == timedelta(minutes=offset)
    assert read.replace(tzinfo=UTC) == moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1000 * 1000)
