"""Dates as periods, against a naive reading with datetime."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.fhir.periods import PREFIXES, Period, date_condition, parse_period

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


@given(st.dates(min_value=date(1, 1, 2), max_value=date(9998, 12, 30)))
def test_days_months_and_years(day: date) -> None:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert parse_period(f"{day:%Y-%m-%d}".rjust(10, "0")) == Period(micros(start), micros(start + timedelta(days=1)))
    month = start.replace(day=1)
    following = (month + timedelta(days=31)).replace(day=1)
    assert parse_period(f"{day.year:04d}-{day.month:02d}") == Period(micros(month), micros(following))
    year = month.replace(month=1)
    assert parse_period(f"{day.year:04d}") == Period(micros(year), micros(year.replace(year=day.year + 1)))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), st.integers(-14 * 60, 14 * 60), st.integers(0, 6))
def test_moments(moment: datetime, offset: int, digits: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    text = zoned.isoformat(timespec="microseconds")
    head, zone = text[:-6], text[-6:]
    step = 10 ** (6 - digits)
    low = micros(zoned) // step * step
    if digits == 0:
        assert parse_period(head[:19] + zone) == Period(low, low + 1_000_000)
    else:
        assert parse_period(head[: 20 + digits] + zone) == Period(low, low + step)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2020-01-02T10:00", Period(1577959200000000, 1577959260000000)),
        ("2020-01-02T10:00:00", parse_period("2020-01-02T10:00:00Z")),
        ("2020-01-02T10:00:60Z", parse_period("2020-01-02T10:00:59Z")),
        ("2020-01-02T10:00:00.123456789Z", Period(1577959200123456, 1577959200123457)),
        ("9999-12-31", parse_period("9999-12-31")),
        ("9999", Period(253370764800000000, 253402300800000000)),
    ],
)
def test_special_forms(text: str, same: Period) -> None:
    assert parse_period(text) == same


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "20",
            "2020-1",
            "2020-13",
            "2020-02-30",
            "0000",
            "2020-01-01T",
            "2020-01-01T24:00:00Z",
            "2020-01-01 10:00",
        ),
        *("2020-01-01T10:60:00Z", "2020-01-01T10:00:61Z", "2020-01-01T10:00:00+14:01", "2020-01-01T10:00:00+10:60"),
        *("2020-01-01T10", "20200101", "2020-01-01T10:00:00.Z", "２０２０"),
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert parse_period(text) is None


def naive(prefix: str, searched: Period, target: Period) -> bool:
    """The prefixes in the words of R4 §3.1.1.4.7, over the sets of moments of two small periods."""
    ours, theirs = set(range(*searched)), set(range(*target))
    above, below = set(range(searched.high, 60)), set(range(-20, searched.low))
    contains = theirs <= ours
    return {
        "eq": contains,
        "ne": not contains,
        "gt": bool(above & theirs),
        "lt": bool(below & theirs),
        "ge": bool(above & theirs) or contains,
        "le": bool(below & theirs) or contains,
        "sa": theirs <= above,
        "eb": theirs <= below,
        "ap": bool(ours & theirs),
    }[prefix]


small = st.tuples(st.integers(0, 30), st.integers(1, 9)).map(lambda pair: Period(pair[0], sum(pair)))


@given(st.sampled_from(PREFIXES), small, small)
def test_prefixes_mean_what_the_standard_says(prefix: str, searched: Period, target: Period) -> None:
    # Now is where the searched period begins, so that ``ap`` has no margin.
    sql, values = date_condition(prefix, searched, searched.low, "LOW", "HIGH")
    expression = sql.replace("LOW", str(target.low)).replace("HIGH", str(target.high))
    for value in values:
        expression = expression.replace("?", str(value), 1)
    expression = expression.replace("AND", "and").replace("OR", "or").replace("NOT", "not ")
    assert eval(expression) == naive(prefix, searched, target)


def test_approximate_widens_by_a_tenth_of_the_distance_from_now() -> None:
    sql, values = date_condition("ap", Period(1000, 1001), 2000, "low", "high")
    assert (sql, values) == ("(low < ? AND high > ?)", (1101, 900))
