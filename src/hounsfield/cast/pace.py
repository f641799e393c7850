"""How fast entries are dealt with."""

import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 60
"""What "lately" means: long enough that a rate can be read, short enough that it is that of now."""


class Pace:
    """Counts what is done, a second at a time. ``clock`` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._seconds: deque[tuple[int, int]] = deque()

    def add(self, number: int) -> None:
        """So many more have been done just now."""
        second = int(self._clock())
        if self._seconds and self._seconds[-1][0] == second:
            number += self._seconds.pop()[1]
        self._seconds.append((second, number))
        self._forget()

    def rate(self) -> float:
        """How many a second: of the last minute, or of the time since the beginning if that is shorter."""
        self._forget()
        past = min(max(self._clock() - self._begun, 1.0), WINDOW_SECONDS)
        return sum(number for _, number in self._seconds) / past

    def _forget(self) -> None:
        oldest = self._clock() - WINDOW_SECONDS
        while self._seconds and self._seconds[0][0] < oldest:
            self._seconds.popleft()
