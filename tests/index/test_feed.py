"""The change feed in the database: order, windows, states (change-feed.md)."""

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database, Transaction
from hounsfield.index import feed
from hounsfield.index.feed import Action, Entry, NewEntry, State
from hounsfield.index.partitions import DEFAULT_KEY, DEFAULT_NAME
from tests.factories import uid
from tests.index.make import FAR, add, delete, entries, instance, path


async def append(database: Database, action: Action, count: int, now: int) -> None:
    async def unit(tx: Transaction) -> None:
        new = [NewEntry(DEFAULT_KEY, uid(), uid(), uid(), number) for number in range(count)]
        await feed.append(tx, action, new, now)

    await database.write(unit)


async def newest_time(database: Database) -> int:
    newest = await feed.latest(database, include_metadata=False)
    return 0 if newest is None else newest.timestamp


async def test_an_empty_feed(database: Database) -> None:
    """Comes first: the database is shared by this module."""
    assert await feed.latest(database, include_metadata=True) is None
    assert await feed.latest_sequence(database) == 0
    assert await feed.after(database, 0, 100, include_metadata=True) == []
    assert await feed.after(database, 2**63 - 1, 100, include_metadata=True) == []
    assert await feed.window(database, -(2**62), 2**62, 0, 100, include_metadata=True) == []


async def test_an_entry(database: Database) -> None:
    new = instance()
    (version,) = await add(database, new)
    entry = await feed.latest(database, include_metadata=True)
    assert entry is not None
    assert entry.sequence == await feed.latest_sequence(database)
    assert (entry.action, entry.state, entry.partition_name) == (Action.CREATE, State.CURRENT, DEFAULT_NAME)
    assert (entry.study_uid, entry.series_uid, entry.sop_uid) == (
        new.path.study_uid,
        new.path.series_uid,
        new.path.sop_uid,
    )
    assert entry.metadata is not None
    assert str(new.path.sop_uid).encode() in entry.metadata
    without = await feed.latest(database, include_metadata=False)
    assert without is not None
    assert without.metadata is None
    assert version is not None


async def test_states_and_metadata_follow_the_live_version(database: Database) -> None:
    where, start = path(), await feed.latest_sequence(database)
    expected: list[list[State]] = [
        [State.CURRENT],
        [State.DELETED] * 2,
        [State.REPLACED] * 2 + [State.CURRENT],
        [State.DELETED] * 4,
    ]
    for number, states in enumerate(expected):
        if number % 2 == 0:
            await add(database, instance(where))
        else:
            await delete(database, where)
        found = await entries(database, start)
        assert [entry.state for entry in found] == states
        assert [entry.metadata is not None for entry in found] == [state is not State.DELETED for state in states]


async def test_the_same_uids_in_another_partition_are_untouched(database: Database) -> None:
    where = path()

    async def second_partition(tx: Transaction) -> None:
        await tx.execute("INSERT INTO data_partition (key, name, created) VALUES (99, 'other', 0)")

    await database.write(second_partition)
    elsewhere = type(where)(99, where.study_uid, where.series_uid, where.sop_uid)
    start = await feed.latest_sequence(database)
    await add(database, instance(where))
    await add(database, instance(elsewhere))
    await delete(database, where)
    found = await entries(database, start)
    assert [(entry.partition_name, entry.state) for entry in found] == [
        (DEFAULT_NAME, State.DELETED),
        ("other", State.CURRENT),
        (DEFAULT_NAME, State.DELETED),
    ]


async def test_a_block_is_contiguous_and_has_one_time(database: Database) -> None:
    start, time = await feed.latest_sequence(database), await newest_time(database)
    await append(database, Action.DELETE, 5, time + 10)
    found = await entries(database, start)
    assert [entry.sequence for entry in found] == list(range(start + 1, start + 6))
    assert {entry.timestamp for entry in found} == {time + 10}
    await append(database, Action.DELETE, 0, time + 20)
    assert await feed.latest_sequence(database) == start + 5


async def test_time_does_not_go_back_when_the_clock_does(database: Database) -> None:
    time = await newest_time(database)
    for now, expected in ((time + 100, time + 100), (time - 1_000_000, time + 100), (time + 101, time + 101)):
        await append(database, Action.CREATE, 1, now)
        assert await newest_time(database) == expected


async def test_a_rolled_back_block_takes_no_number(database: Database) -> None:
    start = await feed.latest_sequence(database)

    async def unit(tx: Transaction) -> None:
        await feed.append(tx, Action.CREATE, [NewEntry(DEFAULT_KEY, "1", "2", "3", 1)], 1)
        raise LookupError

    for _ in range(3):
        with pytest.raises(LookupError):
            await database.write(unit)
    assert await feed.latest_sequence(database) == start
    await append(database, Action.CREATE, 1, 0)
    assert await feed.latest_sequence(database) == start + 1


async def test_no_reader_has_to_look_back(database: Database, other: Database) -> None:
    """Writers hold their transactions open for different times after they have done their work."""
    start = await feed.latest_sequence(database)
    dice, blocks = random.Random(3), 60

    async def write(number: int) -> None:
        writer = (database, other)[number % 2]
        count = dice.randint(1, 3)
        now = dice.randint(-1_000_000, 1_000_000)

        async def unit(tx: Transaction) -> None:
            # Other work of the transaction first, which takes its time on PostgreSQL.
            if tx.dialect == "postgresql":
                await tx.fetch(f"SELECT pg_sleep({dice.random() / 50})")
            new = [NewEntry(DEFAULT_KEY, "1", "2", str(number), number) for _ in range(count)]
            await feed.append(tx, Action.CREATE, new, 1_700_000_000_000_000 + now)

        await writer.write(unit)

    done = False

    async def read(reader: Database) -> list[Entry]:
        seen: list[Entry] = []
        while True:
            finished = done
            head = await feed.latest_sequence(reader)
            page = await feed.after(reader, start + len(seen), FAR, include_metadata=False)
            # Whatever was covered by an earlier answer is complete: the next page begins right behind it.
            assert [entry.sequence for entry in page] == list(
                range(start + len(seen) + 1, start + len(seen) + 1 + len(page))
            )
            seen += page
            assert start + len(seen) >= head
            if finished:
                return seen
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read(one)) for one in (database, other)]
    await asyncio.gather(*(write(number) for number in range(blocks)))
    done = True
    for found in await asyncio.gather(*readers):
        times = [entry.timestamp for entry in found]
        assert times == sorted(times)
        assert len({entry.sop_uid for entry in found}) == blocks


@given(
    blocks=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=8),
    windows=st.lists(
        st.tuples(st.integers(-1, 12), st.integers(0, 12), st.integers(0, 25), st.integers(1, 20)),
        min_size=1,
        max_size=6,
    ),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_are_those_of_a_list(
    url: str, blocks: list[tuple[int, int]], windows: list[tuple[int, int, int, int]]
) -> None:
    async def run() -> None:
        database = open_database(url)
        start, base = await feed.latest_sequence(database), await newest_time(database) + 1_000
        model: list[tuple[int, int]] = []
        now = base
        for count, step in blocks:
            now += step
            await append(database, Action.CREATE, count, now)
            model += [(start + len(model) + number + 1, now) for number in range(count)]
        for low, width, offset, limit in windows:
            found = await feed.window(database, base + low, base + low + width, offset, limit, include_metadata=False)
            expected = [one for one in model if base + low <= one[1] < base + low + width][offset : offset + limit]
            assert [(entry.sequence, entry.timestamp) for entry in found] == expected
            page = await feed.after(database, start + offset, limit, include_metadata=False)
            assert [(entry.sequence, entry.timestamp) for entry in page] == model[offset : offset + limit]
        await database.close()

    asyncio.run(run())
