"""Which workitems have changed since whoever follows the worklist has dealt with them: DICOM Cast.

Every transaction on a workitem counts up its revision, in the same commit. The follower works from what a workitem is
when it looks, not from what was done to it, and then says up to which revision that was: what changed meanwhile goes on
waiting, and what a crash left undone still waits. A workitem the follower does not want waits for ever, at no cost.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hounsfield.database.engine import Database, Transaction
from hounsfield.worklist.dataset import Dataset, unpacked
from hounsfield.worklist.states import State

COUNTED = 100_000
"""More waiting workitems than this are not counted one by one."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A workitem that has changed."""

    id: int
    uid: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a workitem is at a revision. Times are microseconds since 1970 UTC."""

    id: int
    uid: str
    revision: int
    state: State
    is_claimed: bool
    """Whether it has, or had, an owner."""
    created: int
    modified: int
    dataset: Dataset


async def note(tx: Transaction, workitem_id: int, partition_key: int) -> None:
    """A workitem was made or has changed, in this transaction."""
    now = time.time_ns() // 1000
    await tx.execute(
        "INSERT INTO workitem_change (workitem_id, partition_key, revision, modified, waiting_since, study_uid) "
        "VALUES (?, ?, 1, ?, ?, '') ON CONFLICT (workitem_id) DO UPDATE SET "
        "revision = workitem_change.revision + 1, modified = excluded.modified, "
        f"waiting_since = {_SINCE.format(now='excluded.waiting_since')}",
        *(workitem_id, partition_key, now, now),
    )


_SINCE = (
    "CASE WHEN workitem_change.followed_revision < workitem_change.revision "
    "THEN workitem_change.waiting_since ELSE {now} END"
)
_AGAIN = f"UPDATE workitem_change SET revision = revision + 1, waiting_since = {_SINCE.format(now='?')} WHERE "


# --- for the follower ---


async def waiting(
    database: Database, partitions: Collection[str], limit: int, without: Collection[int] = ()
) -> list[Waiting]:
    """Workitems of these partitions that have changed, those that wait longest first; ``without`` are left out."""
    found: list[tuple[int, int, str]] = []
    for key in await _partition_keys(database, partitions):
        # A page is taken before it is joined: nothing must tempt a planner to join all that wait.
        found += await database.fetch(
            "SELECT c.waiting_since, c.workitem_id, w.uid FROM (SELECT waiting_since, workitem_id FROM workitem_change "
            "WHERE partition_key = ? AND followed_revision < revision ORDER BY waiting_since, workitem_id LIMIT ?) c "
            "JOIN workitem w ON w.id = c.workitem_id ORDER BY c.waiting_since, c.workitem_id",
            *(key, limit + len(without)),
            quick=True,
        )
    return [Waiting(workitem_id, uid) for _, workitem_id, uid in sorted(found) if workitem_id not in without][:limit]


async def contents(database: Database, workitem_ids: Sequence[int]) -> dict[int, Content]:
    """What workitems are now, by id."""
    if not workitem_ids:
        return {}
    rows = await database.fetch(
        "SELECT w.id, w.uid, c.revision, w.state, w.transaction_uid IS NOT NULL, w.created, c.modified, d.dataset "
        "FROM workitem w JOIN workitem_change c ON c.workitem_id = w.id "
        f"JOIN workitem_content d ON d.workitem_id = w.id WHERE w.id IN ({', '.join('?' * len(workitem_ids))})",
        *workitem_ids,
    )
    return {
        row[0]: Content(row[0], row[1], row[2], State(row[3]), bool(row[4]), row[5], row[6], unpacked(row[7]))
        for row in rows
    }


async def followed(tx: Transaction, workitem_id: int, revision: int, *, is_linked: bool = False) -> None:
    """The follower has dealt with a workitem as it was at ``revision``.

    ``is_linked``: its study was there to be referred to.
    """
    await tx.execute(
        "UPDATE workitem_change SET followed_revision = ?, is_linked = ? "
        "WHERE workitem_id = ? AND followed_revision <= ?",
        *(revision, int(is_linked), workitem_id, revision),
    )


async def about(tx: Transaction, workitem_id: int, study_uid: str) -> None:
    """Note the study that a workitem is about, before it is looked for: from here on its arrival is not missed.

    Empty: it is about none.
    """
    await tx.execute(
        "UPDATE workitem_change SET study_uid = ?, is_linked = 0 WHERE workitem_id = ? AND study_uid <> ?",
        *(study_uid, workitem_id, study_uid),
    )


async def study_is_there(tx: Transaction, study_uid: str) -> None:
    """A study can be referred to: workitems that are about it and could not are looked at again."""
    await tx.execute(_AGAIN + "study_uid = ? AND is_linked = 0", time.time_ns() // 1000, study_uid)


async def study_is_gone(tx: Transaction, study_uid: str) -> None:
    """Nothing refers to a study any more, as it is not there."""
    await tx.execute("UPDATE workitem_change SET is_linked = 0 WHERE study_uid = ? AND is_linked = 1", study_uid)


async def is_linked(database: Database, study_uid: str) -> bool:
    """Whether a workitem is about a study and could refer to it."""
    return (
        await database.fetch_one(
            "SELECT 1 FROM workitem_change WHERE study_uid = ? AND is_linked = 1 LIMIT 1", study_uid, quick=True
        )
        is not None
    )


async def again(tx: Transaction, workitem_ids: Sequence[int]) -> None:
    """Have workitems looked at again."""
    now = time.time_ns() // 1000
    await tx.execute_many(f"{_AGAIN}workitem_id = ?", [(now, workitem_id) for workitem_id in workitem_ids])


async def all_again(tx: Transaction) -> None:
    """Have all workitems looked at again that have been dealt with."""
    await tx.execute(_AGAIN + "followed_revision >= revision", time.time_ns() // 1000)


async def backlog(database: Database, partitions: Collection[str]) -> tuple[int, int | None]:
    """How many workitems wait (at most COUNTED for each partition), and since when the oldest does."""
    number, since = 0, []
    for key in await _partition_keys(database, partitions):
        row = await database.fetch_one(
            "SELECT count(*), min(waiting_since) FROM (SELECT waiting_since FROM workitem_change "
            "WHERE partition_key = ? AND followed_revision < revision ORDER BY waiting_since LIMIT ?) c",
            *(key, COUNTED),
        )
        assert row is not None
        number += row[0]
        since += [row[1]] if row[0] else []
    return number, min(since, default=None)


async def _partition_keys(database: Database, names: Collection[str]) -> list[int]:
    marks = ", ".join("?" * len(names))
    rows = await database.fetch(f"SELECT key FROM data_partition WHERE name IN ({marks})", *sorted(names), quick=True)
    return [row[0] for row in rows]
