"""The re-index: it ends as storing in order would have, whatever goes on beside it (extended-query-tags.md §§4, 7)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database, Transaction
from hounsfield.errors import BadRequest
from hounsfield.index import new_instances, query_tags, tag_deletion
from hounsfield.index.instances import InstancePath
from hounsfield.index.query_tags import KnownTags, NewTag, TagsChanged, TagStatus
from hounsfield.operations import engine, reindex
from hounsfield.operations.engine import AlreadyRunning
from hounsfield.operations.reindex import TagExists, add_tags
from tests.index import make, tagging
from tests.operations import tagged

NAMES = [{"Alphabetic": name} for name in ("Doe^John", "Roe^Jane^A", "Poe")]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts and batches of few instances."""
    monkeypatch.setattr(reindex, "BATCH", 3)
    monkeypatch.setattr(reindex, "PART_VERSIONS", 20)
    monkeypatch.setattr(reindex, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(tag_deletion, "BATCH", 5)


@asynccontextmanager
async def workers(*databases: Database) -> AsyncIterator[None]:
    """Workers that run meanwhile."""
    stop = asyncio.Event()
    running = [asyncio.create_task(tagged.runner(database).run(stop)) for database in databases]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*running)


async def ended(database: Database, operation_id: str) -> str:
    """How the operation ended, worked off by somebody."""
    for _ in range(3000):
        status = await tagged.status(database, operation_id)
        if status not in ("notStarted", "running"):
            return status
        await asyncio.sleep(0.01)
    raise AssertionError("it does not end")


async def reindexed(database: Database, tags: list[NewTag]) -> None:
    operation_id = await tagged.add(database, tags)
    async with workers(database):
        assert await ended(database, operation_id) == "succeeded"
    assert await tagged.is_ready(database, tags)


async def store_all(database: Database, where: list[InstancePath], tags: list[NewTag], values: list[Any]) -> None:
    for path, value in zip(where, values, strict=True):
        await tagging.store(database, path, tagged.dataset(tags, value))


VALUES = st.lists(st.one_of(st.none(), st.sampled_from(NAMES)), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def added_before(url: str) -> dict[str, list[NewTag]]:
    """Tags that were there before anything was stored."""
    known = tagged.new_tags("PN")

    async def add() -> None:
        database = open_database(url)
        await reindexed(database, known)
        await database.close()

    asyncio.run(add())
    return {"known": known}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=VALUES, after=VALUES, part=st.integers(2, 9), batch=st.integers(1, 4))
def test_it_ends_as_storing_in_order_would_have(
    url: str,
    added_before: dict[str, list[NewTag]],
    before: list[Any],
    after: list[Any],
    part: int,
    batch: int,
) -> None:
    """A tag that was always there, and one added between two stores, hold the same in the end."""
    known, late = added_before["known"], tagged.new_tags("PN")

    async def run() -> None:
        database = open_database(url)
        where = tagged.paths(len(before) + len(after))
        await store_all(database, where[: len(before)], [*known, *late], before)
        operation_id = await tagged.add(database, late)
        await store_all(database, where[len(before) :], [*known, *late], after)
        async with workers(database, database):
            assert await ended(database, operation_id) == "succeeded"
        # Earlier examples had other tags, so only what has these is compared.
        mine = {path.study_uid for path in where}
        first, second = [await only(database, tags, mine) for tags in (known, late)]
        assert first == second
        await database.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reindex, "PART_VERSIONS", part * 5)
        patch.setattr(reindex, "BATCH", batch)
        asyncio.run(run())


async def only(database: Database, tags: list[NewTag], studies: set[str]) -> list[list[tuple[Any, ...]]]:
    """Values of objects of these studies."""
    marks = ", ".join("?" * len(studies))
    rows = await database.fetch(
        "SELECT s.id, i.series_id, i.id FROM study s JOIN instance i ON i.study_id = s.id "
        f"WHERE s.study_uid IN ({marks})",
        *studies,
    )
    keep = [{row[level] for row in rows} for level in range(3)]
    values = await tagged.values(database, tags)
    return [[row for row in found if row[0] in ids] for found, ids in zip(values, keep, strict=True)]


async def test_stores_deletes_and_workers_at_once(database: Database, other: Database) -> None:
    """None is missed and none counted twice: compared with a tag that was there from the beginning."""
    known, late = tagged.new_tags("LO"), tagged.new_tags("LO")
    await reindexed(database, known)
    tags = [*known, *late]
    where = tagged.paths(60)
    await store_all(database, where[:40], tags, [f"v{number}" for number in range(40)])

    async def keep_storing(through: Database, paths: list[InstancePath]) -> None:
        cache = KnownTags()
        for number, path in enumerate(paths):
            await stored(through, cache, path, tagged.dataset(tags, f"late{number}"))

    async def keep_deleting() -> None:
        for path in where[:40:4]:
            await make.delete(other, path)

    async def add_late() -> str:
        await asyncio.sleep(0.01)
        return await tagged.add(database, late)

    async with workers(database, other):
        operation_id, *_ = await asyncio.gather(
            add_late(),
            keep_storing(database, where[40:50]),
            keep_storing(other, where[50:]),
            keep_deleting(),
        )
        assert await ended(database, operation_id) == "succeeded"
    first, second = await tagged.values(database, known), await tagged.values(database, late)
    # A value whose giver went before it was re-indexed is not there to be found again.
    assert first[2] == second[2]
    for one, two in zip(first[:2], second[:2], strict=True):
        alive = {row[0] for row in await database.fetch("SELECT id FROM instance")}
        assert [row for row in one if row[1] in alive] == [row for row in two if row[1] in alive]
    assert await tagging.left(database) == {}


async def stored(database: Database, cache: KnownTags, path: InstancePath, content: Any) -> None:
    """As archive.store does: with the tags known, and again with those of now where there are others."""
    tags = cache.current
    while True:
        new, generation = tagging.holding(path, content, tags), tags.generation

        async def unit(
            tx: Transaction, new: new_instances.NewInstance = new, generation: int = generation
        ) -> list[int | None]:
            return await new_instances.add(tx, [new], 1, generation)

        try:
            await database.write(unit)
            return
        except TagsChanged:
            tags = await cache.read(database)


async def test_errors_are_noted_once_and_disable_the_tag(database: Database) -> None:
    bad, good = tagged.new_tags("AS", tagged.LEVELS[2:]), tagged.new_tags("LO", tagged.LEVELS[2:])
    where = tagged.paths(7)
    for number, path in enumerate(where):
        age = "1Y" if number % 2 else "001Y"
        await tagging.store(database, path, {**tagged.dataset(bad, age), **tagged.dataset(good, "x")})
    await reindexed(database, [*bad, *good])
    (wrong,), (right,) = await tagged.found(database, bad), await tagged.found(database, good)
    assert (wrong.error_count, wrong.enabled) == (3, False)
    assert (right.error_count, right.enabled) == (0, True)
    assert [len(rows) for rows in await tagged.values(database, [*bad, *good])] == [4, 7]

    # The same batches again, as after a crash: nothing changes.
    async def again(tx: Transaction) -> str:
        newest = await query_tags.newest_version(tx)
        await tx.execute("UPDATE query_tag SET status = 0 WHERE id IN (?, ?)", wrong.id, right.id)
        return await engine.start(tx, reindex.KIND, {"tags": [wrong.id, right.id], "newest": newest}, alone=True)

    operation_id = await database.write(again)
    async with workers(database):
        assert await ended(database, operation_id) == "succeeded"
    assert [tag.error_count for tag in await tagged.found(database, bad)] == [3]
    assert await tagging.left(database) == {}
    await database.write(lambda tx: tx.execute("UPDATE query_tag SET status = 1 WHERE status = 0"))


async def test_a_tag_that_is_deleted_meanwhile_is_passed_over(database: Database, other: Database) -> None:
    tags = tagged.new_tags("PN")
    await store_all(database, tagged.paths(60), tags, [NAMES[0]] * 60)
    operation_id = await tagged.add(database, tags)
    async with workers(database, other):
        for tag in tags[1:]:
            assert await reindex.delete_tag(other, tag.path)
        assert await ended(database, operation_id) == "succeeded"
    assert [tag.path for tag in await tagged.found(database, tags)] == [tags[0].path]
    assert await tagged.is_ready(database, tags)
    assert await tagging.left(database) == {}
    # Added again at another level, it has what there is.
    again = [NewTag(tags[1].path, "PN", None, tagged.LEVELS[2])]
    await reindexed(database, again)
    assert len((await tagged.values(database, again))[0]) > 60
    assert [len(rows) for rows in await tagged.values(database, tags[:1])]


async def test_private_values_are_found_by_their_creator(database: Database) -> None:
    (public,) = tagged.new_tags("LO", tagged.LEVELS[2:])
    private = NewTag(f"{public.path[:4]}10{public.path[6:]}", "LO", "ACME", tagged.LEVELS[2])
    where = tagged.paths(2)
    for path, creators in zip(where, (["ACME"], ["OTHER", "ACME"]), strict=True):
        reserved = {f"{private.path[:4]}{16 + n:04X}": tagging.element("LO", name) for n, name in enumerate(creators)}
        block = f"{private.path[:4]}{15 + len(creators):02X}{private.path[6:]}"
        await tagging.store(database, path, {**reserved, block: tagging.element("LO", "mine")})
    other = {f"{private.path[:4]}0010": tagging.element("LO", "OTHER"), private.path: tagging.element("LO", "theirs")}
    await tagging.store(database, make.path(), other)
    await reindexed(database, [private])
    assert [row[-1] for row in (await tagged.values(database, [private]))[0]] == ["mine", "mine"]


async def test_one_operation_at_a_time(database: Database, other: Database) -> None:
    first, second = tagged.new_tags("LO"), tagged.new_tags("LO")
    outcomes = await asyncio.gather(tagged.add(database, first), tagged.add(other, second), return_exceptions=True)
    (refused,) = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    (operation_id,) = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert isinstance(refused, AlreadyRunning)
    assert refused.operation_id == operation_id
    async with workers(database):
        await ended(database, operation_id)


async def test_all_or_nothing(database: Database) -> None:
    there = tagged.new_tags("LO", tagged.LEVELS[:1])
    await reindexed(database, there)
    more = tagged.new_tags("LO", tagged.LEVELS[:2])
    before = await query_tags.indexed_tags(database)
    with pytest.raises(TagExists):
        await add_tags(database, [*more, *there], 1000)
    with pytest.raises(BadRequest, match="MaxAllowedCount"):
        await add_tags(database, more, len(before.tags) + 1)
    assert await query_tags.indexed_tags(database) == before


async def test_tags_of_a_cancelled_operation_can_be_added_again(database: Database) -> None:
    tags = tagged.new_tags("LO", tagged.LEVELS[2:])
    await store_all(database, tagged.paths(5), tags, ["x"] * 5)
    operation_id = await tagged.add(database, tags)
    await engine.request_cancel(database, operation_id)
    async with workers(database):
        assert await ended(database, operation_id) == "canceled"
    (left,) = await tagged.found(database, tags)
    assert (left.status, left.operation_id) == (TagStatus.ADDING, None)
    await reindexed(database, tags)
    (again,) = await tagged.found(database, tags)
    assert again.id > left.id
    assert [len(rows) for rows in await tagged.values(database, tags)] == [5]


async def test_a_deletion_that_was_cut_short_is_finished(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = tagged.new_tags("PN", tagged.LEVELS[2:])
    await store_all(database, tagged.paths(12), tags, [NAMES[0]] * 12)
    await reindexed(database, tags)

    class Death(Exception):
        pass

    def die(name: str) -> None:
        if name == "tag deletion: batch removed":
            raise Death

    with monkeypatch.context() as patch, suppress(Death):
        patch.setattr("hounsfield.faults.point", die)
        await reindex.delete_tag(database, tags[0].path)
    (left,) = await tagged.found(database, tags)
    assert left.status is TagStatus.DELETING
    assert 0 < len((await tagged.values(database, tags))[0]) < 48
    with pytest.raises(TagExists):
        await tagged.add(database, tags)
    assert await reindex.delete_tag(database, tags[0].path)
    assert not await reindex.delete_tag(database, tags[0].path)
    assert await tagging.left(database) == {}
