"""Elements that followed each other in one file, as they are likely to do in the next of the same series.

The instances of a series differ in a dozen elements; what lies between these is compared as a whole, where taking it
element by element would cost a look-up each. What a run means follows from its bytes and the character set, so nothing
here has to be thrown away but for room.
"""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from hounsfield.dicom.values import Element

FEWEST_ELEMENTS = 4
"""That are made a run of: looking for one costs about as much as two of them."""

LONGEST = 4_096
"""Bytes of a run: some two hundred elements."""

REMEMBERED_RUNS = 512
"""Runs kept per encoding and character set, at most 5 MB. Full means start again."""


class Run(NamedTuple):
    """All the bytes of these elements, where each ends in them, and what they became, by key and in that order."""

    content: bytes
    ends: Sequence[int]
    elements: dict[str, Element]


class Runs(dict[bytes, Run]):
    """Runs by the bytes of their first element."""

    def learn(self, content: bytes, ends: Sequence[int], dataset: dict[str, Element], before: int) -> None:
        """Remember what was read to the end of ``dataset``, which had ``before`` elements then.

        ``ends``: of each element in ``content``. Too few make no run, nor do those of which one came twice.
        """
        if len(ends) >= FEWEST_ELEMENTS and len(dataset) - before == len(ends) and len(content) <= LONGEST:
            self._add(Run(content, ends, dict(islice(dataset.items(), before, None))))

    def part(self, run: Run, found: bytes) -> None:
        """Part a run where ``found``, the bytes in its place, are others: that element changes from file to file.

        The parts stay, however short: without them the same run would be learnt again.
        """
        self.pop(run.content[: run.ends[0]], None)  # large uploads are read in threads: another may have been first
        same = 0
        while same < len(run.ends) and run.content[: run.ends[same]] == found[: run.ends[same]]:
            same += 1
        for first, last in ((0, same), (same + 1, len(run.ends))):
            if last > first:
                begin = run.ends[first - 1] if first else 0
                ends = [end - begin for end in run.ends[first:last]]
                elements = dict(islice(run.elements.items(), first, last))
                self._add(Run(run.content[begin : begin + ends[-1]], ends, elements))

    def _add(self, run: Run) -> None:
        if len(self) >= REMEMBERED_RUNS:
            self.clear()
        self[run.content[: run.ends[0]]] = run
