"""Which workitems wait for whoever follows the worklist: after every transaction, until it has dealt with them."""

from collections.abc import Sequence

import pytest

from hounsfield.database.engine import Database, Transaction
from hounsfield.errors import HounsfieldError
from hounsfield.index.partitions import DEFAULT_KEY, DEFAULT_NAME, ensure
from hounsfield.worklist import changes, workitems
from hounsfield.worklist.states import State
from tests.worklist import make
from tests.worklist.make import element, new_uid, to_state

HERE = [DEFAULT_NAME]


@pytest.fixture(autouse=True)
async def nothing_waits(database: Database) -> None:
    """Other tests have left workitems in it."""

    async def unit(tx: Transaction) -> None:
        await tx.execute("UPDATE workitem_change SET followed_revision = revision, study_uid = ''")

    await database.write(unit)


async def created(database: Database, partition_key: int = DEFAULT_KEY) -> str:
    return await workitems.create(database, partition_key, make.workitem(), new_uid())


async def waiting(database: Database, partitions: Sequence[str] = HERE) -> list[str]:
    return [one.uid for one in await changes.waiting(database, partitions, 100)]


async def follow(database: Database) -> list[changes.Content]:
    """Deal with everything that waits; what it was."""
    found = await changes.waiting(database, HERE, 100)
    contents = list((await changes.contents(database, [one.id for one in found])).values())

    async def unit(tx: Transaction) -> None:
        for one in contents:
            await changes.followed(tx, one.id, one.revision)

    await database.write(unit)
    return contents


async def test_every_transaction_makes_it_wait(database: Database) -> None:
    uid = await created(database)
    assert await waiting(database) == [uid]
    (content,) = await follow(database)
    assert (content.uid, content.state, content.is_claimed, content.revision) == (uid, State.SCHEDULED, False, 1)
    assert content.dataset["00741204"]["Value"] == ["Read it"]
    assert await waiting(database) == []
    await workitems.update(database, DEFAULT_KEY, uid, None, {"00741204": element("LO", "Read it again")})
    assert await waiting(database) == [uid]
    await follow(database)
    await workitems.change_state(database, DEFAULT_KEY, uid, to_state("IN PROGRESS", "1.2.3"))
    (content,) = await follow(database)
    assert (content.state, content.is_claimed, content.revision) == (State.IN_PROGRESS, True, 3)
    assert content.modified > content.created
    other = await created(database)
    await follow(database)
    await workitems.request_cancellation(database, DEFAULT_KEY, other, {})
    assert await waiting(database) == [other]


async def test_what_is_refused_changes_nothing(database: Database) -> None:
    uid = await created(database)
    await follow(database)
    with pytest.raises(HounsfieldError):
        await workitems.change_state(database, DEFAULT_KEY, uid, to_state("COMPLETED", "1.2.3"))
    with pytest.raises(HounsfieldError):
        await workitems.update(database, DEFAULT_KEY, uid, "1.2.3", {})
    assert await waiting(database) == []


async def test_a_change_while_it_is_dealt_with_goes_on_waiting(database: Database) -> None:
    uid = await created(database)
    (found,) = await changes.waiting(database, HERE, 100)
    revision = (await changes.contents(database, [found.id]))[found.id].revision
    await workitems.update(database, DEFAULT_KEY, uid, None, {})
    await database.write(lambda tx: changes.followed(tx, found.id, revision))
    assert await waiting(database) == [uid]
    await follow(database)
    # Somebody slower, who has seen an older one, takes nothing back.
    await database.write(lambda tx: changes.followed(tx, found.id, revision))
    assert await waiting(database) == []


async def test_who_waits_longest_is_first_and_pages_end(database: Database) -> None:
    uids = [await created(database) for _ in range(4)]
    await workitems.update(database, DEFAULT_KEY, uids[0], None, {})
    first, second = await changes.waiting(database, HERE, 2)
    assert [first.uid, second.uid] == uids[:2]
    assert [one.uid for one in await changes.waiting(database, HERE, 2, {first.id, second.id})] == uids[2:]
    assert await changes.waiting(database, HERE, 0) == []


async def test_partitions(database: Database) -> None:
    other = await ensure(database, "other")
    here, there = await created(database), await created(database, other.key)
    assert await waiting(database) == [here]
    assert await waiting(database, ["other", DEFAULT_NAME]) == [here, there]
    assert await waiting(database, ["nowhere"]) == []
    number, since = await changes.backlog(database, ["other", DEFAULT_NAME])
    assert number == 2 and since is not None
    await follow(database)
    assert await changes.backlog(database, HERE) == (0, None)


async def test_again(database: Database) -> None:
    uid, other = await created(database), await created(database)
    contents = {one.uid: one.id for one in await follow(database)}
    await database.write(lambda tx: changes.again(tx, [contents[uid]]))
    assert await waiting(database) == [uid]
    await database.write(changes.all_again)
    assert {uid, other} <= {one.uid for one in await changes.waiting(database, HERE, 10_000)}


async def test_a_study_comes_and_goes(database: Database) -> None:
    uid = await created(database)
    ((workitem_id,),) = await database.fetch("SELECT id FROM workitem WHERE uid = ?", uid)
    await database.write(lambda tx: changes.about(tx, workitem_id, "1.2"))
    (content,) = await follow(database)
    await database.write(lambda tx: changes.study_is_there(tx, "1.3"))
    assert await waiting(database) == []
    await database.write(lambda tx: changes.study_is_there(tx, "1.2"))
    assert await waiting(database) == [uid]
    (content,) = await follow(database)

    async def link(tx: Transaction) -> None:
        await changes.followed(tx, workitem_id, content.revision, is_linked=True)

    await database.write(link)
    assert await changes.is_linked(database, "1.2")
    await database.write(lambda tx: changes.study_is_there(tx, "1.2"))
    await database.write(lambda tx: changes.about(tx, workitem_id, "1.2"))
    assert await waiting(database) == [] and await changes.is_linked(database, "1.2")
    await database.write(lambda tx: changes.study_is_gone(tx, "1.2"))
    assert await waiting(database) == [] and not await changes.is_linked(database, "1.2")
    await database.write(lambda tx: changes.study_is_there(tx, "1.2"))
    assert await waiting(database) == [uid]
    await database.write(lambda tx: changes.about(tx, workitem_id, ""))
    await follow(database)
    await database.write(lambda tx: changes.study_is_there(tx, "1.2"))
    assert await waiting(database) == []
