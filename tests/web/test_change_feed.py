"""Times of the change feed API (change-feed.md, Parameters and Entry)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.web.change_feed import parse_time, timestamp

MOMENT = datetime(2023, 5, 10, 16, 0, 0, tzinfo=UTC)
MICROSECONDS = int(MOMENT.timestamp()) * 1_000_000
TICKS = 10


@pytest.mark.parametrize(
    "text",
    [
        "2023-05-10T16:00:00Z",
        "2023-05-10T16:00Z",
        "2023-05-10T09:00:00-07:00",
        "2023-05-10T09:00:00-07",
        "2023-05-10T23:00:00+7:00",
        "2023-05-10T23:00:00+7",
        "2023-05-10T16:00:00.0000000+00:00",
        "Wed, 10 May 2023 16:00:00 GMT",
    ],
)
def test_accepted_forms(text: str) -> None:
    assert parse_time(text) == MICROSECONDS * TICKS


@pytest.mark.parametrize(
    "text",
    [
        "2023-05-03",
        "2023-05-03T10:58:00",
        "4/26/2023 5:38:06 PM",
        "2023-02-30T00:00:00Z",
        "yesterday",
        "٢٠٢٣-05-03T10:58:00Z",
        "2023-05-03T10:58:00 07:00",
    ],
)
def test_refused_forms(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


def test_seven_digits_of_a_second_count() -> None:
    assert parse_time("2023-05-10T16:00:00.0000012Z") == MICROSECONDS * TICKS + 12


def test_timestamps_drop_trailing_zeros() -> None:
    assert timestamp(MICROSECONDS) == "2023-05-10T16:00:00+00:00"
    assert timestamp(MICROSECONDS + 120_000) == "2023-05-10T16:00:00.12+00:00"


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_what_is_shown_reads_back_in_every_zone(moment: datetime, minutes: int) -> None:
    value = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    assert parse_time(timestamp(value)) == value * TICKS
    zone = timezone(timedelta(minutes=minutes))
    try:
        text = moment.replace(tzinfo=UTC).astimezone(zone).isoformat(timespec="microseconds")
    except OverflowError:
        return
    assert parse_time(text) == value * TICKS
