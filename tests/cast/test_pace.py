"""Entries per second."""

from hounsfield.cast.pace import Pace


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_since_the_beginning_then_of_the_last_minute() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.rate() == 0
    pace.add(10)
    assert pace.rate() == 10  # less than a second is a second
    clock.now += 5
    pace.add(10)
    pace.add(10)
    assert pace.rate() == 6
    clock.now += 57  # the first ten are forgotten
    assert pace.rate() == 20 / 60
    clock.now += 600
    assert pace.rate() == 0
