"""Frame positions kept in the index (retrieve.md §6)."""

from array import array

import pytest

from hounsfield.database.engine import Database
from hounsfield.dicom.frames import FrameIndex
from hounsfield.errors import NotFound
from hounsfield.index.frames import FEW, spans
from tests.index.make import add, instance

COUNT = 10_000
ENCAPSULATED = FrameIndex(COUNT, 1000, 10**9, entries=array("Q", [part for n in range(COUNT) for part in (n * 100, n)]))
NATIVE = FrameIndex(7, 500, 7 * 64, frame_bits=512)


async def stored(database: Database, frames: FrameIndex | None) -> int:
    (version,) = await add(database, instance(frames=None if frames is None else frames.to_bytes()))
    assert version is not None
    return version


@pytest.mark.parametrize(
    "numbers", [[1], [COUNT], [5, 5], [3, 1, 2], list(range(1, FEW + 1)), list(range(COUNT, 0, -7))]
)
async def test_encapsulated(database: Database, numbers: list[int]) -> None:
    found = await spans(database, await stored(database, ENCAPSULATED), numbers)
    assert found is not None
    assert found[1] == [((number - 1) * 100, number - 1) for number in numbers]
    assert found[0].encapsulated


@pytest.mark.parametrize("numbers", [[1], [7, 1], [1, 2, 3, 4, 5, 6, 7, 6, 5, 4]])
async def test_native(database: Database, numbers: list[int]) -> None:
    found = await spans(database, await stored(database, NATIVE), numbers)
    assert found is not None
    assert found[1] == [(500 + (number - 1) * 64, 64) for number in numbers]


@pytest.mark.parametrize("frames", [NATIVE, ENCAPSULATED])
async def test_a_number_that_is_too_high(database: Database, frames: FrameIndex) -> None:
    version = await stored(database, frames)
    for numbers in ([frames.count + 1], [1, 2**40], [frames.count + 1] * (FEW + 1)):
        with pytest.raises(NotFound):
            await spans(database, version, numbers)


async def test_no_frames_and_no_instance(database: Database) -> None:
    version = await stored(database, None)
    for numbers in ([1], list(range(1, FEW + 3))):
        assert await spans(database, version, numbers) is None
        assert await spans(database, version + 10**6, numbers) is None
