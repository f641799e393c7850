"""Transactions on workitems against a model of them, and at the same time (PS3.4 Table CC.1.1-2), on both engines."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hounsfield.database.engine import Database
from hounsfield.errors import BadRequest, Conflict, HounsfieldError
from hounsfield.index.partitions import DEFAULT_KEY
from hounsfield.worklist import workitems
from hounsfield.worklist.index import Attribute
from hounsfield.worklist.search import Equal, Query, Scheduled, search
from tests.worklist import make
from tests.worklist.make import Dataset, element, new_uid, sequence, to_state

UIDS = ("1.2.1", "1.2.2")
STATES = ("IN PROGRESS", "COMPLETED", "CANCELED")


async def retrieved(database: Database, uid: str) -> Dataset:
    found: Dataset = msgspec.json.decode(await workitems.retrieve(database, DEFAULT_KEY, uid))
    return found


async def created(database: Database, **changes: Dataset | None) -> str:
    return await workitems.create(database, DEFAULT_KEY, make.workitem(**changes), new_uid())


@dataclass
class Model:
    """A workitem as PS3.4 and the table of worklist.md have it, in other words than the server's."""

    state: str = "SCHEDULED"
    lock: str = ""
    label: str = "worklist"
    performed: bool = False
    discontinued: bool = False

    def change(self, requested: str, uid: str) -> str:
        """What the server must say: nothing where it goes, else the end of what it says."""
        if self.state == "SCHEDULED":
            if requested != "IN PROGRESS":
                return "C301."
            self.state, self.lock = requested, uid
            return ""
        if self.lock != uid:
            by_request = self.state == "CANCELED" and not self.lock
            return "C300." if by_request and requested == "IN PROGRESS" else "C301."
        if self.state == "IN PROGRESS":
            if requested == "IN PROGRESS":
                return "C302."
            if requested == "COMPLETED" and not self.performed:
                return "'(0074,1216)' is missing."
            if requested == "CANCELED" and not self.discontinued:
                return "'(0074,1002)' is missing."
            self.state = requested
            return ""
        if self.state != requested:
            return "C300."
        return "B306." if requested == "COMPLETED" else "B304."

    def update(self, uid: str | None, label: str, extra: str) -> str:
        if self.state == "SCHEDULED":
            if uid:
                return "Invalid TransactionUID for the specified Workitem Instance UID."
        elif self.state == "IN PROGRESS":
            if uid != self.lock:
                return "The target URI did not reference a claimed Workitem."
        else:
            return f"{self.state}."
        self.label = label
        self.performed |= extra == "performed"
        self.discontinued |= extra == "discontinued"
        return ""

    def cancel(self) -> str:
        if self.state == "SCHEDULED":
            self.state, self.discontinued = "CANCELED", True
            return ""
        return {"IN PROGRESS": "C312.", "COMPLETED": "C311.", "CANCELED": "state of CANCELED."}[self.state]


STEPS = st.one_of(
    st.tuples(st.just("change"), st.sampled_from(STATES), st.sampled_from(UIDS)),
    st.tuples(
        st.just("update"),
        st.sampled_from([None, *UIDS]),
        st.sampled_from(["one", "two"]),
        st.sampled_from(["", "performed", "discontinued"]),
    ),
    st.just(("cancel",)),
)


async def said(work: Awaitable[object]) -> str:
    """What a transaction was refused with, or warned of."""
    try:
        answer = await work
        return answer if isinstance(answer, str) else ""
    except HounsfieldError as error:
        return error.message


async def do(database: Database, uid: str, step: tuple[str | None, ...]) -> str:
    if step[0] == "change":
        asked = to_state(str(step[1]), str(step[2]))
        return await said(workitems.change_state(database, DEFAULT_KEY, uid, asked))
    if step[0] == "cancel":
        return await said(workitems.request_cancellation(database, DEFAULT_KEY, uid, {}))
    more = {"": {}, "performed": make.performed(), "discontinued": make.discontinued()}[str(step[3])]
    changes = {"00741202": element("LO", step[2]), **more}
    return await said(workitems.update(database, DEFAULT_KEY, uid, step[1], changes))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=9))
async def test_any_sequence_of_transactions_goes_as_the_model_says(
    database: Database, steps: list[tuple[str | None, ...]]
) -> None:
    uid = await created(database)
    model = Model()
    for step in steps:
        before = await retrieved(database, uid)
        name, *arguments = step
        expected = getattr(model, str(name))(*arguments)
        answer = await do(database, uid, step)
        assert answer.endswith(expected) and bool(answer) == bool(expected), (step, answer, expected)
        after = await retrieved(database, uid)
        assert after["00741000"]["Value"] == [model.state]
        assert after["00741202"]["Value"] == [model.label]
        assert "00081195" not in after
        if expected:
            assert after == before, "a refusal changed something"


@pytest.mark.parametrize("state", ["SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED", "CANCELED by request"])
@pytest.mark.parametrize(
    "event",
    [("change", state, uid) for state in STATES for uid in UIDS]
    + [("cancel",)]
    + [("update", uid, "x", "") for uid in (None, *UIDS)],
)
async def test_every_state_and_event(database: Database, state: str, event: tuple[str | None, ...]) -> None:
    uid, model = await created(database), Model()
    way: list[tuple[str | None, ...]] = []
    if state == "CANCELED by request":
        way = [("cancel",)]
    elif state != "SCHEDULED":
        way = [("change", "IN PROGRESS", UIDS[0])]
        if state == "COMPLETED":
            way += [("update", UIDS[0], "x", "performed"), ("change", "COMPLETED", UIDS[0])]
        if state == "CANCELED":
            way += [("update", UIDS[0], "x", "discontinued"), ("change", "CANCELED", UIDS[0])]
    for step in way:
        assert await do(database, uid, step) == getattr(model, str(step[0]))(*step[1:]) == ""
    answer, expected = await do(database, uid, event), getattr(model, str(event[0]))(*event[1:])
    assert answer.endswith(expected) and bool(answer) == bool(expected)
    assert (await retrieved(database, uid))["00741000"]["Value"] == [model.state]


async def test_of_many_who_claim_one_gets_it_and_holds_it(database: Database, other: Database) -> None:
    uid = await created(database)
    claims = [f"1.3.{number}" for number in range(20)]
    answers = await asyncio.gather(
        *(
            said(workitems.change_state(where, DEFAULT_KEY, uid, to_state("IN PROGRESS", claim)))
            for claim, where in zip(claims, [database, other] * 10, strict=True)
        )
    )
    (winner,) = [claim for claim, answer in zip(claims, answers, strict=True) if not answer]
    assert {answer[-5:] for answer in answers if answer} == {"C301."}
    for claim in claims:
        answer = await said(workitems.update(other, DEFAULT_KEY, uid, claim, {"00741202": element("LO", claim)}))
        assert (answer == "") == (claim == winner)
    assert (await retrieved(database, uid))["00741202"]["Value"] == [winner]


async def test_of_many_who_create_one_uid_one_does(database: Database, other: Database) -> None:
    uid = new_uid()
    answers = await asyncio.gather(
        *(
            said(workitems.create(where, DEFAULT_KEY, make.workitem(t00741204=element("LO", str(number))), uid))
            for number, where in enumerate([database, other] * 10)
        )
    )
    assert sorted(set(answers)) == sorted({uid, workitems.WorkitemExists().message})
    assert answers.count(uid) == 1
    assert (await retrieved(database, uid))["00741204"]["Value"] == [str(answers.index(uid))]


async def test_updates_at_the_same_time_lose_nothing(database: Database, other: Database) -> None:
    uid = await created(database)
    tags = [f"0011{number:04X}" for number in range(16, 36)]
    await asyncio.gather(
        *(
            workitems.update(where, DEFAULT_KEY, uid, None, {tag: element("LO", tag)})
            for tag, where in zip(tags, [database, other] * 10, strict=True)
        )
    )
    found = await retrieved(database, uid)
    assert [found[tag]["Value"] for tag in tags] == [[tag] for tag in tags]


async def test_an_update_replaces_what_it_names_and_keeps_the_rest(database: Database) -> None:
    before = await retrieved(
        database, uid := await created(database, t00404025=sequence(make.code("A"), make.code("B")))
    )
    changes = {
        "00404025": sequence(make.code("C")),
        "00091001": element("AT", "00100010", "00100020"),
        "00091002": element("US", 1, 2, 3),
        "00091003": element("DS", 1.5, "2.50", None),
        "00091004": {"vr": "OB", "InlineBinary": "AAAA"},
        "00081195": element("UI", "9.9"),
    }
    await workitems.update(database, DEFAULT_KEY, uid, None, changes)
    after = await retrieved(database, uid)
    del changes["00081195"]
    assert after.pop("00404010") != before.pop("00404010")
    assert after == before | changes


async def test_partitions_know_nothing_of_each_other(database: Database) -> None:
    uid = new_uid()
    for partition in (1, 2):
        await workitems.create(database, partition, make.workitem(), uid)
    with pytest.raises(workitems.WorkitemNotFound):
        await workitems.retrieve(database, 3, uid)
    await workitems.request_cancellation(database, 2, uid, {})
    assert (await retrieved(database, uid))["00741000"]["Value"] == ["SCHEDULED"]


async def test_searches_follow_changes_of_values_that_were_not_there_before(database: Database) -> None:
    station = new_uid()[-16:]
    uid = await created(database)
    query = Query(DEFAULT_KEY, (Equal(Attribute.STATION_NAME_CODE, station),))
    assert await search(database, query) == []
    await workitems.update(database, DEFAULT_KEY, uid, None, {"00404025": sequence(make.code(station))})
    assert len(await search(database, query)) == 1
    start = Query(DEFAULT_KEY, (Scheduled("SCHEDULED"), Equal(Attribute.STATION_NAME_CODE, station)))
    assert len(await search(database, start)) == 1
    await workitems.update(database, DEFAULT_KEY, uid, None, {"00404025": sequence(make.code("other"))})
    assert await search(database, query) == []


@pytest.mark.parametrize(
    ("dataset", "uid", "reason"),
    [
        (make.workitem(), None, "'(0008,0018)' is missing"),
        (make.workitem(t00080018=element("UI", "1.x")), None, "'(0008,0018)' is not a valid UID"),
        (make.workitem(t00080018=element("UI", "1.2")), "1.3", "does not match"),
        (make.workitem(t00081195=None), "1.2", "'(0008,1195)' is missing"),
        (make.workitem(t00081195=element("UI", "1.2")), "1.2", "'(0008,1195)' must be empty"),
    ],
)
async def test_what_cannot_be_created(database: Database, dataset: Dataset, uid: str | None, reason: str) -> None:
    with pytest.raises(BadRequest) as refused:
        await workitems.create(database, DEFAULT_KEY, dataset, uid)
    assert reason in refused.value.message


async def test_a_taken_uid_is_a_conflict(database: Database) -> None:
    uid = await created(database)
    with pytest.raises(Conflict):
        await workitems.create(database, DEFAULT_KEY, make.workitem(t00080018=element("UI", uid)), None)
