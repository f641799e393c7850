"""The transactions on single workitems (PS3.18 §11.4–11.8), each one unit of work.

The row of a workitem is locked before it is looked at, so of those who claim one at the same time exactly one gets it,
and nobody decides on what another is changing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hounsfield.database.engine import Database, Transaction, Value
from hounsfield.dicom import uid as uids
from hounsfield.errors import BadRequest, Conflict, NotFound
from hounsfield.worklist import changes, index, reports, states, subscriptions
from hounsfield.worklist import dataset as datasets
from hounsfield.worklist.cancellation import canceled
from hounsfield.worklist.dataset import (
    MODIFICATION_DATE_TIME,
    PROCEDURE_STEP_STATE,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    TRANSACTION_UID,
    WORKLIST_LABEL,
    Dataset,
    element,
    has_value,
    text,
)
from hounsfield.worklist.index import index_values
from hounsfield.worklist.requirements import CANCELED, COMPLETED, CREATE, UPDATE, RequirementNotMet, require
from hounsfield.worklist.states import State

PUSH_SOP_CLASS = "1.2.840.10008.5.1.4.34.6.1"
"""Unified Procedure Step - Push: what every workitem is an instance of."""
DEFAULT_WORKLIST = "worklist"
"""Worklist Label of a new workitem."""
_CLAIMABLE = (State.IN_PROGRESS, State.COMPLETED, State.CANCELED)


class WorkitemExists(Conflict):
    """The UID is taken in the partition."""

    def __init__(self) -> None:
        super().__init__("The workitem instance already exists. Try creating using a different UID.")


class WorkitemNotFound(NotFound):
    """There is no such workitem in the partition."""

    def __init__(self) -> None:
        super().__init__("The workitem instance is not found.")


@dataclass(frozen=True, slots=True)
class Workitem:
    """A workitem as the database has it."""

    id: int
    partition_key: int
    uid: str
    state: State
    lock: str | None
    """The Transaction UID of its owner."""
    dataset: Dataset


async def create(database: Database, partition_key: int, dataset: Dataset, uid: str | None) -> str:
    """Create a workitem and return its UID. ``uid`` is what the URL says, if it does.

    Raises BadRequest for a dataset that breaks a rule, WorkitemExists.
    """
    new = dict(dataset)
    uid = _agreed_uid(new, uid)
    new[SOP_INSTANCE_UID] = element("UI", uid)
    new[SOP_CLASS_UID] = element("UI", PUSH_SOP_CLASS)
    new[MODIFICATION_DATE_TIME] = element("DT", datasets.now())
    new[WORKLIST_LABEL] = element("LO", DEFAULT_WORKLIST)
    new[PROCEDURE_STEP_STATE] = element("CS", State.SCHEDULED.value)
    require(new, CREATE)
    del new[TRANSACTION_UID]
    values, content = index_values(new), datasets.packed(new)

    async def unit(tx: Transaction) -> None:
        row = await tx.fetch_one(
            "INSERT INTO workitem (partition_key, uid, state, start, created) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (partition_key, uid) DO NOTHING RETURNING id",
            partition_key,
            uid,
            State.SCHEDULED.value,
            values.start,
            time.time_ns() // 1000,
        )
        if row is None:
            raise WorkitemExists
        await tx.execute("INSERT INTO workitem_content (workitem_id, dataset) VALUES (?, ?)", row[0], content)
        await index.write(tx, row[0], partition_key, values)
        await changes.note(tx, row[0], partition_key)
        report = reports.state_report(uid, new)
        await subscriptions.publish(tx, partition_key, row[0], State.SCHEDULED, values, [report])

    await database.write(unit)
    return uid


def _agreed_uid(dataset: Dataset, uid: str | None) -> str:
    """The UID that URL and dataset agree on. Raises BadRequest."""
    inside = uids.normalise(text(dataset, SOP_INSTANCE_UID))
    if uid is None:
        if not inside:
            raise RequirementNotMet(SOP_INSTANCE_UID, "The required tag '{tag}' is missing.")
        if not uids.is_valid(inside):
            raise RequirementNotMet(SOP_INSTANCE_UID, "The value for tag '{tag}' is not a valid UID.")
        return inside
    if inside and inside != uid:
        raise BadRequest("SOPInstanceUID in the payload does not match the workitem query parameter.")
    return uid


async def retrieve(database: Database, partition_key: int, uid: str) -> bytes:
    """The workitem's dataset as JSON. Raises WorkitemNotFound."""
    row = await database.fetch_one(
        "SELECT c.dataset FROM workitem w JOIN workitem_content c ON c.workitem_id = w.id "
        "WHERE w.partition_key = ? AND w.uid = ?",
        partition_key,
        uid,
        quick=True,
    )
    if row is None:
        raise WorkitemNotFound
    return datasets.as_json(row[0])


async def update(
    database: Database, partition_key: int, uid: str, transaction_uid: str | None, changes: Dataset
) -> None:
    """Put the attributes of ``changes`` in place of those the workitem has.

    ``transaction_uid``: of whoever owns it, None where nobody claims to. Raises BadRequest and Conflict.
    """

    async def unit(tx: Transaction) -> None:
        found = await _locked(tx, partition_key, uid)
        if found is None:
            raise states.NotClaimed
        states.require_updatable(found.state, found.lock, transaction_uid)
        given = {key: value for key, value in changes.items() if key != TRANSACTION_UID}
        given[MODIFICATION_DATE_TIME] = element("DT", datasets.now())
        require(given, UPDATE)
        changed = found.dataset | given
        await _save(tx, found, changed, reports.change_reports(uid, found.dataset, changed))

    await database.write(unit)


async def change_state(database: Database, partition_key: int, uid: str, request: Dataset) -> str | None:
    """Have a workitem claimed, completed or canceled by its owner.

    ``request`` holds Transaction UID and Procedure Step State. Returns a warning where it is in that final state
    already, and nothing changes. Raises BadRequest, WorkitemNotFound.
    """
    transaction_uid, requested = _asked_state(request)

    async def unit(tx: Transaction) -> str | None:
        found = await _locked(tx, partition_key, uid)
        if found is None:
            raise WorkitemNotFound
        warning = states.change(found.state, found.lock, requested, transaction_uid)
        if warning is not None:
            return warning
        if requested is not State.IN_PROGRESS:
            require(found.dataset, COMPLETED if requested is State.COMPLETED else CANCELED)
        changed = found.dataset | {PROCEDURE_STEP_STATE: element("CS", requested.value)}
        report = reports.state_report(uid, changed)
        await _save(tx, found, changed, [report], state=requested, lock=transaction_uid)
        return None

    return await database.write(unit)


def _asked_state(request: Dataset) -> tuple[str, State]:
    """Transaction UID and state of a request to change the state. Raises BadRequest."""
    for key in (TRANSACTION_UID, PROCEDURE_STEP_STATE):
        if key not in request:
            raise RequirementNotMet(key, "The required tag '{tag}' is missing.")
        if not has_value(request[key]):
            raise RequirementNotMet(key, "The value for tag '{tag}' is missing.")
    transaction_uid = uids.normalise(text(request, TRANSACTION_UID))
    if not uids.is_valid(transaction_uid):
        raise RequirementNotMet(TRANSACTION_UID, "The value for tag '{tag}' is not a valid UID.")
    state = text(request, PROCEDURE_STEP_STATE)
    if state not in _CLAIMABLE:
        raise RequirementNotMet(
            PROCEDURE_STEP_STATE, "The value for tag '{tag}' must be IN PROGRESS, COMPLETED or CANCELED."
        )
    return transaction_uid, State(state)


async def request_cancellation(database: Database, partition_key: int, uid: str, request: Dataset) -> bool:
    """Cancel a workitem that nobody has claimed; have the owner of another told, where somebody listens.

    Returns whether it is canceled. Raises WorkitemNotFound, BadRequest, AlreadyCanceled.
    """

    async def unit(tx: Transaction) -> bool:
        found = await _locked(tx, partition_key, uid)
        if found is None:
            raise WorkitemNotFound
        subscribers = await subscriptions.recipients(tx, partition_key, found.id)
        listens = await subscriptions.is_anyone_connected(tx, subscribers)
        states.require_cancelable(found.state, owner_listens=listens)
        if found.state is State.IN_PROGRESS:
            await reports.queue(tx, found.id, subscribers, [reports.cancel_report(uid, request)])
            return False
        changed = canceled(found.dataset, request)
        await _save(tx, found, changed, [reports.state_report(uid, changed)], state=State.CANCELED)
        return True

    return await database.write(unit)


async def _locked(tx: Transaction, partition_key: int, uid: str) -> Workitem | None:
    """The workitem, which nobody else changes until the transaction ends."""
    # On SQLite there is but one writer. Contents are read once the row is ours, as they may be changed until then.
    lock = " FOR UPDATE" if tx.dialect == "postgresql" else ""
    row = await tx.fetch_one(
        f"SELECT id, state, transaction_uid FROM workitem WHERE partition_key = ? AND uid = ?{lock}", partition_key, uid
    )
    if row is None:
        return None
    content = await tx.fetch_one("SELECT dataset FROM workitem_content WHERE workitem_id = ?", row[0])
    assert content is not None
    return Workitem(row[0], partition_key, uid, State(row[1]), row[2], datasets.unpacked(content[0]))


async def _save(
    tx: Transaction,
    found: Workitem,
    changed: Dataset,
    told: Sequence[str],
    *,
    state: State | None = None,
    lock: str | None = None,
) -> None:
    """Store a changed workitem, with its new state and owner if it has one, and what subscribers are ``told``."""
    values = index_values(changed)
    new: list[Value] = [(state or found.state).value, lock or found.lock, values.start]
    await tx.execute("UPDATE workitem SET state = ?, transaction_uid = ?, start = ? WHERE id = ?", *new, found.id)
    await tx.execute(
        "UPDATE workitem_content SET dataset = ? WHERE workitem_id = ?", datasets.packed(changed), found.id
    )
    await index.write(tx, found.id, found.partition_key, values)
    await changes.note(tx, found.id, found.partition_key)
    await subscriptions.publish(tx, found.partition_key, found.id, state or found.state, values, told)
