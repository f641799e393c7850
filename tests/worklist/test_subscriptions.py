"""Who is told what of workitems, and what waits for whom (PS3.4 §§CC.2.3, CC.2.4), on both engines."""

import asyncio
import random
import time
from typing import Any

import msgspec
import pytest

from hounsfield.database.engine import Database
from hounsfield.dicom.dates import parse_datetime
from hounsfield.errors import BadRequest, NotFound
from hounsfield.worklist import reports, subscriptions, workitems
from hounsfield.worklist.index import Attribute
from hounsfield.worklist.reports import WORKLIST
from hounsfield.worklist.search import Condition, Equal, Scheduled
from hounsfield.worklist.subscriptions import FILTERED_WORKLIST
from tests.worklist import make
from tests.worklist.make import Dataset, element, new_uid, sequence, to_state

STATE, CANCEL, PROGRESS, ASSIGNED = 1, 2, 3, 5


class World:
    """A partition of its own, as subscribers see it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.partition = random.randrange(1_000, 2_000_000_000)

    async def create(self, **changes: Dataset | None) -> str:
        return await workitems.create(self.database, self.partition, make.workitem(**changes), new_uid())

    async def update(self, uid: str, changes: Dataset, lock: str | None = None) -> None:
        await workitems.update(self.database, self.partition, uid, lock, changes)

    async def state(self, uid: str, state: str) -> None:
        await workitems.change_state(self.database, self.partition, uid, to_state(state, "1.2"))

    async def cancel(self, uid: str, **request: Any) -> bool:
        asked = {tag.removeprefix("t"): value for tag, value in request.items()}
        return await workitems.request_cancellation(self.database, self.partition, uid, asked)

    async def subscribe(self, title: str, resource: str, *conditions: Condition) -> None:
        await subscriptions.subscribe(
            self.database, self.partition, title, resource, deletion_lock=False, conditions=conditions
        )

    async def unsubscribe(self, title: str, resource: str) -> None:
        await subscriptions.unsubscribe(self.database, self.partition, title, resource)

    async def told(self, title: str) -> list[tuple[str, int, str]]:
        """Workitem, event and state of all that waits for a subscriber; it is taken."""
        subscriber, _ = await self.connected(title)
        found = await reports.waiting(self.database, subscriber, 0, 1000)
        states = await reports.current_states(self.database, [one.workitem_id for one in found])
        datasets = [msgspec.json.decode(one.content or states[one.workitem_id]) for one in found]
        if found:
            await reports.confirmed(self.database, [(subscriber, found[-1].sequence)])
        await subscriptions.disconnect(self.database, subscriber, "token")
        return [
            (one["00001000"]["Value"][0], one["00001002"]["Value"][0], one.get("00741000", {"Value": [""]})["Value"][0])
            for one in datasets
        ]

    async def connected(self, title: str) -> tuple[int, str]:
        found = await subscriptions.connect(self.database, self.partition, title, "token")
        return found.id, "token"


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


async def test_a_subscriber_of_a_workitem_is_told_of_it_alone(world: World) -> None:
    uid, other = await world.create(), await world.create()
    await world.subscribe("ME", uid)
    await world.subscribe("ME", uid)
    assert await world.told("ME") == [(uid, STATE, "SCHEDULED")] * 2
    for one in (other, uid):
        await world.state(one, "IN PROGRESS")
    await world.update(uid, {"00741002": sequence({"00741004": element("DS", 10)})}, "1.2")
    await world.update(uid, {"00404025": sequence(make.code())}, "1.2")
    await world.update(uid, {"00404041": element("CS", "UNAVAILABLE")}, "1.2")
    await world.update(uid, {"00741204": element("LO", "of no interest")}, "1.2")
    assert await world.told("ME") == [
        (uid, STATE, "IN PROGRESS"),
        (uid, PROGRESS, ""),
        (uid, ASSIGNED, ""),
        (uid, STATE, "IN PROGRESS"),
    ]
    await world.unsubscribe("ME", uid)
    await world.update(uid, make.discontinued(), "1.2")
    await world.state(uid, "CANCELED")
    assert await world.told("ME") == []
    with pytest.raises(NotFound):
        await world.unsubscribe("ME", uid)


async def test_the_worklist_is_what_is_there_and_what_comes(world: World) -> None:
    old = [await world.create(), await world.create()]
    await world.subscribe("ME", WORKLIST)
    assert await world.told("ME") == [(uid, STATE, "SCHEDULED") for uid in old]
    new = await world.create()
    await world.cancel(old[0], t00741238=element("LT", "why"))
    assert await world.told("ME") == [(new, STATE, "SCHEDULED"), (old[0], STATE, "CANCELED")]
    await world.unsubscribe("ME", old[1])
    await world.state(old[1], "IN PROGRESS")
    await subscriptions.suspend(world.database, world.partition, "ME", WORKLIST)
    newer = await world.create()
    await world.state(new, "IN PROGRESS")
    assert await world.told("ME") == [(new, STATE, "IN PROGRESS")]
    await world.subscribe("ME", newer)
    await world.state(newer, "IN PROGRESS")
    assert await world.told("ME") == [(newer, STATE, "IN PROGRESS")] * 2
    await world.unsubscribe("ME", WORKLIST)
    await world.create()
    await world.update(newer, {"00404041": element("CS", "UNAVAILABLE")}, "1.2")
    assert await world.told("ME") == []


@pytest.mark.parametrize(
    "conditions",
    [
        (Equal(Attribute.STATION_NAME_CODE, "mine"),),
        (Scheduled("SCHEDULED"), Equal(Attribute.STATION_NAME_CODE, "mine")),
        (Scheduled(None, parse_datetime("2026"), parse_datetime("2027")), Equal(Attribute.STATION_NAME_CODE, "mine")),
    ],
)
async def test_a_filter_takes_what_meets_it_once_and_keeps_it(world: World, conditions: tuple[Condition, ...]) -> None:
    mine, theirs = sequence(make.code("mine")), sequence(make.code("theirs"))
    before = await world.create(t00404025=mine)
    await world.create(t00404025=theirs)
    await world.subscribe("ME", FILTERED_WORKLIST, *conditions)
    assert await world.told("ME") == [(before, STATE, "SCHEDULED")]
    await world.create(t00404025=theirs)
    changed = await world.create(t00404025=theirs)
    created = await world.create(t00404025=mine)
    earlier = await world.create(t00404025=mine, t00404005=element("DT", "2025"))
    await world.update(changed, {"00404025": mine})
    await world.state(changed, "IN PROGRESS")
    asks_for_the_date = Scheduled(None, parse_datetime("2026"), parse_datetime("2027")) in conditions
    assert await world.told("ME") == [
        (created, STATE, "SCHEDULED"),
        *([] if asks_for_the_date else [(earlier, STATE, "SCHEDULED")]),
        (changed, STATE, "IN PROGRESS"),
        (changed, ASSIGNED, ""),
        (changed, STATE, "IN PROGRESS"),
    ]
    await world.update(changed, {"00404025": theirs}, "1.2")
    await subscriptions.suspend(world.database, world.partition, "ME", FILTERED_WORKLIST)
    await world.create(t00404025=mine)
    assert await world.told("ME") == [(changed, ASSIGNED, "")]


async def test_a_filter_is_told_of_what_comes_to_meet_it_whatever_has_changed(world: World) -> None:
    await world.subscribe("ME", FILTERED_WORKLIST, Scheduled(None, parse_datetime("2030"), parse_datetime("2031")))
    uid = await world.create()
    await world.update(uid, {"00404005": element("DT", "20300615")})
    await world.update(uid, {"00404005": element("DT", "20300616")})
    assert await world.told("ME") == [(uid, STATE, "SCHEDULED")]
    ready, claimed = await world.create(), await world.create()
    await world.update(ready, {"00404005": element("DT", "2030"), "00404041": element("CS", "UNAVAILABLE")})
    await world.state(claimed, "IN PROGRESS")
    await world.update(
        claimed, {"00404005": element("DT", "2030"), "00741002": sequence({"00741004": element("DS", 10)})}, "1.2"
    )
    assert await world.told("ME") == [
        (ready, STATE, "SCHEDULED"),
        (claimed, STATE, "IN PROGRESS"),
        (claimed, PROGRESS, ""),
    ]


async def test_the_owner_is_told_to_cancel_only_where_somebody_listens(world: World) -> None:
    uid = await world.create()
    await world.state(uid, "IN PROGRESS")
    await world.subscribe("ME", uid)
    await world.told("ME")
    with pytest.raises(BadRequest, match=r"C312\."):
        await world.cancel(uid)
    subscriber, token = await world.connected("ME")
    assert not await world.cancel(uid, t00741238=element("LT", "why"), t0074100A=element("UR", "tel:1"))
    (waiting,) = await reports.waiting(world.database, subscriber, 0, 10)
    report = msgspec.json.decode(waiting.content or "")
    assert report["00001002"]["Value"] == [CANCEL]
    assert report["00741238"]["Value"] == ["why"]
    assert report["0074100A"]["Value"] == ["tel:1"]
    await subscriptions.disconnect(world.database, subscriber, token)
    with pytest.raises(BadRequest):
        await world.cancel(uid)


async def test_a_connection_that_was_replaced_is_no_more(world: World) -> None:
    await world.subscribe("ME", WORKLIST)
    subscriber = (await subscriptions.connect(world.database, world.partition, "ME", "one")).id
    assert await subscriptions.still_connected(world.database, [(subscriber, "one")]) == {(subscriber, "one")}
    await subscriptions.connect(world.database, world.partition, "ME", "two")
    both = [(subscriber, "one"), (subscriber, "two")]
    assert await subscriptions.still_connected(world.database, both) == {(subscriber, "two")}
    await subscriptions.disconnect(world.database, subscriber, "one")
    assert await subscriptions.still_connected(world.database, both) == {(subscriber, "two")}


async def test_a_refused_transaction_tells_nobody(world: World) -> None:
    uid = await world.create()
    await world.subscribe("ME", WORKLIST)
    await world.told("ME")
    for work in (
        world.state(uid, "COMPLETED"),
        world.update(uid, {"00100010": element("PN")}),
        world.create(t00741200=None),
    ):
        with pytest.raises(BadRequest):
            await work
    assert await world.told("ME") == []


async def test_numbers_appear_in_order_whoever_writes(world: World, other: Database) -> None:
    for title in ("A", "B", "C"):
        await world.subscribe(title, WORKLIST)
    start = await reports.newest(world.database)
    seen: list[int] = []
    done = asyncio.Event()

    async def watch() -> None:
        last = start
        while not done.is_set() or await reports.newest(other) > last:
            for one in await reports.after(other, last, 100):
                assert one.sequence > last, "a number appeared behind a later one"
                last = one.sequence
                seen.append(last)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await asyncio.gather(
        *(
            workitems.create(where, world.partition, make.workitem(), new_uid())
            for where in [world.database, other] * 10
        )
    )
    done.set()
    await watching
    assert seen == list(range(start + 1, start + 61))


async def test_what_waits_too_long_or_is_too_much_goes(world: World) -> None:
    await world.subscribe("ME", WORKLIST)
    await world.subscribe("YOU", WORKLIST)
    made = [await world.create() for _ in range(6)]
    await world.told("YOU")
    await reports.trim(world.database, max_waiting=4)
    assert [uid for uid, _, _ in await world.told("ME")] == made[2:]
    await world.create()
    old = int((time.time() - 100) * 1_000_000)
    subscriber, _ = await world.connected("YOU")
    await world.database.write(
        lambda tx: tx.execute("UPDATE worklist_report SET created = ? WHERE subscriber_id = ?", old, subscriber)
    )
    await reports.trim(world.database, max_age_seconds=50)
    assert len(await world.told("ME")) == 1
    assert await world.told("YOU") == []


@pytest.mark.parametrize("resource", [WORKLIST, FILTERED_WORKLIST, "1.2.3"])
async def test_what_nobody_subscribed_to(world: World, resource: str) -> None:
    with pytest.raises(NotFound):
        await world.unsubscribe("ME", resource)
    with pytest.raises(BadRequest if resource == "1.2.3" else NotFound):
        await subscriptions.suspend(world.database, world.partition, "ME", resource)
    with pytest.raises(NotFound):
        await subscriptions.connect(world.database, world.partition, "ME", "token")
    with pytest.raises(NotFound):
        await world.subscribe("ME", "1.2.3")
