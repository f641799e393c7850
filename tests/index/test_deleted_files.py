"""The queue of files to remove (server.md §12)."""

from hounsfield.database.engine import Database
from hounsfield.index import deleted_files
from hounsfield.index.deleted_files import DeletedFile
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
