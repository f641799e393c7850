"""What was read before makes reading faster, never different."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.dicom import runs
from hounsfield.dicom.encodings import EXPLICIT_LITTLE
from hounsfield.dicom.part10 import read_bulk_data, read_instance
from hounsfield.dicom.source import BytesSource
from tests.dicom.elements import element, file, item, sequence
from tests.fuzz.targets import forget

CONSTANT = [element(0x00181000 + 2 * number, "LO", f"same {number}") for number in range(12)]
LATIN, GREEK = (element(0x00080005, "CS", name) for name in ("ISO_IR 100", "ISO_IR 126"))
REFERENCE = sequence(0x00081140, [item(element(0x00081155, "UI", "1.2.3"))])
PIXELS = element(0x7FE00010, "OW", b"\0\0")
BULKY = sequence(0x00091010, [item(element(0x00091011, "OB", b"\1\2"))])


def found(dataset: bytes) -> tuple[Any, ...]:
    instance = read_instance(BytesSource(file(dataset + PIXELS)))
    return *astuple(instance), list(instance.dataset)


NAMED = b"".join(CONSTANT[:4]) + element(0x00181008, "LO", "Müller")
POOL = [
    *CONSTANT,
    REFERENCE,
    BULKY,
    element(0x00181000, "LO", "other"),
    element(0x00181006, "LO", "other"),
    element(0x00181010, "LO", "no longer than before"),
    element(0x00181006, "LO", "x" * 200),
    element(0x00181008, "DS", "wrong"),
    element(0x00100010, "PN", "Müller"),
    element(0x0020000D, "UI", "1.2.3.4"),
    element(0x00280010, "US", pack("<H", 512)),
    element(0x00280103, "US", pack("<H", 1)),
    sequence(0x00081140, [item(element(0x00081155, "UI", "1.2.3"))], undefined=True),
    b"".join(CONSTANT[2:9]),
    NAMED,
    sequence(0x00081140, [item(NAMED)]),
    b"".join(CONSTANT),
    b"".join((*CONSTANT[:5], REFERENCE, *CONSTANT[5:])),
]
FILES = st.tuples(st.sampled_from([b"", LATIN, GREEK]), st.lists(st.sampled_from(POOL), max_size=12)).map(
    lambda parts: parts[0] + b"".join(parts[1])
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"", LATIN, GREEK]), st.lists(st.sampled_from(POOL), max_size=12)), max_size=6)
)
def test_a_file_is_read_the_same_whatever_was_read_before(files: list[tuple[bytes, list[bytes]]]) -> None:
    """Elements in any order, twice, with flaws, in other character sets, and long stretches of those met before."""
    datasets = [character_set + b"".join(pieces) for character_set, pieces in files]
    forget()
    warm = [[found(dataset) for _ in range(3)] for dataset in datasets]
    for dataset, times in zip(datasets, warm, strict=True):
        forget()
        assert times == [found(dataset)] * 3


def learnt() -> list[list[str]]:
    return sorted(list(run.elements) for run in EXPLICIT_LITTLE.runs(("latin_1",)).values())


def slice_of(*changed: tuple[int, str]) -> bytes:
    """The constant elements with some of them changed."""
    elements = dict(enumerate(CONSTANT))
    for number, text in changed:
        elements[number] = element(0x00181000 + 2 * number, "LO", text)
    return LATIN + b"".join(elements.values())


def keys(*numbers: int) -> list[str]:
    return [f"{0x00181000 + 2 * number:08X}" for number in numbers]


def test_what_changes_from_file_to_file_parts_a_run() -> None:
    forget()
    found(slice_of())
    assert learnt() == [], "nothing was met before"
    found(slice_of())
    assert learnt() == [keys(*range(12))]
    for number in range(3):
        found(slice_of((2, f"slice {number}")))
    assert learnt() == sorted([keys(0, 1), keys(*range(3, 12))])
    assert found(slice_of((2, "slice 7"), (11, "end"))) == found(slice_of((2, "slice 7"), (11, "end")))
    assert learnt() == sorted([keys(0, 1), keys(*range(3, 11))])


def test_bulk_values_in_remembered_elements_are_found_every_time() -> None:
    forget()
    data = file(LATIN + b"".join(CONSTANT[:5]) + BULKY + b"".join(CONSTANT[5:]) + PIXELS)
    for _ in range(3):
        read_instance(BytesSource(data))
    for _ in range(2):
        value, _pixels = read_bulk_data(BytesSource(data)).values
        assert data[value.offset : value.offset + value.length] == b"\1\2"


def test_memory_of_runs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "REMEMBERED_RUNS", 8)
    forget()
    for number in range(40):
        dataset = b"".join(element(0x00181000 + 2 * each, "LO", f"{number} {each}") for each in range(6))
        assert found(LATIN + dataset) == found(LATIN + dataset) == found(LATIN + dataset)
    assert len(EXPLICIT_LITTLE.runs(("latin_1",))) <= 8


def test_a_long_stretch_is_no_run() -> None:
    forget()
    dataset = LATIN + b"".join(element(0x00191000 + number, "LO", "x" * 120) for number in range(40))
    assert found(dataset) == found(dataset) == found(dataset)
    assert learnt() == []


def test_threads_may_part_the_same_runs_at_a_time() -> None:
    """Large uploads are read in threads, which share what is remembered."""
    forget()
    datasets = [slice_of((2, f"slice {number}"), (5 + number % 3, f"other {number}")) for number in range(60)]
    alone = [found(dataset) for dataset in datasets]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            forget()
            with ThreadPoolExecutor(4) as pool:
                assert list(pool.map(found, datasets * 4)) == alone * 4
    finally:
        sys.setswitchinterval(before)


def test_a_run_that_is_gone_can_be_parted() -> None:
    known = runs.Runs()
    first, second = CONSTANT[0], CONSTANT[1]
    run = runs.Run(first + second, [len(first), len(first + second)], {"a": {}, "b": {}})
    known.part(run, first + CONSTANT[2])
    assert list(known) == [first]
