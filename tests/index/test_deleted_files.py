"""The queue of files to remove (server.md §12)."""

from hounsfield.database.engine import Database
from hounsfield.index import deleted_files
from hounsfield.index.deleted_files import Backlog, DeletedFile
from tests.factories import uid

LATE = 10**9


async def queue(database: Database, now: int) -> str:
    key = f"{uid()}.dcm"
    await database.write(lambda tx: deleted_files.queue_orphan(tx, key, now))
    return key


async def due(database: Database, now: int, max_retries: int = 5, limit: int = 100) -> list[DeletedFile]:
    return await deleted_files.due(database, now, max_retries, limit)


async def test_files_are_due_in_order_until_removed(database: Database) -> None:
    keys = [await queue(database, now) for now in (300, 100, 200, LATE)]
    assert [file.file_key for file in await due(database, 299)] == [keys[1], keys[2]]
    found = await due(database, 300)
    assert [file.file_key for file in found] == [keys[1], keys[2], keys[0]]
    assert [file.file_key for file in await due(database, 300, limit=2)] == [keys[1], keys[2]]
    await deleted_files.removed(database, found[:2])
    assert [file.file_key for file in await due(database, 300)] == [keys[0]]
    await deleted_files.removed(database, found)
    assert await due(database, 300) == []


async def test_a_failure_is_counted_and_put_off_until_there_were_too_many(database: Database) -> None:
    key = await queue(database, 400)
    for count in range(3):
        now = 400 + count * 10
        (file,) = await due(database, now, max_retries=2)
        assert (file.file_key, file.retry_count) == (key, count)
        await deleted_files.failed(database, file, now + 10)
        assert await due(database, now + 9, max_retries=2) == []
    assert await due(database, LATE - 1, max_retries=2) == []
    (file,) = await due(database, LATE - 1, max_retries=3)
    assert file.retry_count == 3
    await deleted_files.removed(database, [file])


async def test_the_backlog_counts_what_waits_and_what_was_given_up(database: Database) -> None:
    await deleted_files.removed(database, await due(database, LATE * 2, max_retries=100))
    assert await deleted_files.backlog(database, 2) == Backlog(0, 0, None)
    for now in (700, 500, 600):
        await queue(database, now)
    (oldest, *_) = await due(database, 700)
    for _ in range(3):
        await deleted_files.failed(database, oldest, 10_000)
    assert await deleted_files.backlog(database, 3) == Backlog(3, 0, 500)
    assert await deleted_files.backlog(database, 2) == Backlog(3, 1, 500)
    await deleted_files.removed(database, [oldest])
    assert await deleted_files.backlog(database, 2) == Backlog(2, 0, 600)
