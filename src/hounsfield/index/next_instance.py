"""The next instance of a series, added by one statement: SQLite's short way to what new_instances.add does.

Most instances that are stored change nothing in the rows of their study and series. For those, a view with a column
for everything there is to say of an instance stands in the writer's connection, and a trigger on it writes all rows. A
statement by itself is a transaction by itself, and leaves the interpreter once, where the statements of a transaction
leave it one after the other and wait for it each time, with the database locked (docs/architecture.md).
"""

import time

from hounsfield.database.engine import Shortcut, Value
from hounsfield.index.feed import Action
from hounsfield.index.new_instances import ROW_COLUMNS, NewInstance, row
from hounsfield.index.studies import SERIES_COLUMNS, STUDY_COLUMNS, series_row, study_row

_COLUMNS = (
    "partition_key",
    "study_uid",
    "series_uid",
    *ROW_COLUMNS,
    "metadata",
    "frames",
    "tag_generation",
    *(f"study_{column}" for column in STUDY_COLUMNS),
    *(f"series_{column}" for column in SERIES_COLUMNS),
)
_UNCHANGED = " AND ".join(
    [f"(NEW.study_{column} IS NULL OR s.{column} IS NEW.study_{column})" for column in STUDY_COLUMNS]
    + [f"(NEW.series_{column} IS NULL OR e.{column} IS NEW.series_{column})" for column in SERIES_COLUMNS]
)
"""Missing values change nothing (store.md §6)."""

# The row of the content has the number of the instance, so that this stays the last that was inserted.
_SETUP = (
    f"CREATE TEMP VIEW IF NOT EXISTS next_instance AS SELECT {', '.join(f'NULL AS {column}' for column in _COLUMNS)}",
    "CREATE TEMP TRIGGER IF NOT EXISTS add_next_instance INSTEAD OF INSERT ON next_instance BEGIN "
    f"INSERT INTO instance (partition_key, study_id, series_id, {', '.join(ROW_COLUMNS)}) "
    f"SELECT NEW.partition_key, s.id, e.id, {', '.join(f'NEW.{column}' for column in ROW_COLUMNS)} "
    "FROM study s JOIN series e ON e.study_id = s.id WHERE s.partition_key = NEW.partition_key "
    f"AND s.study_uid = NEW.study_uid AND e.series_uid = NEW.series_uid AND {_UNCHANGED}; "
    "SELECT RAISE(ABORT, 'there is something to change') WHERE changes() = 0; "
    "INSERT INTO instance_content (instance_id, metadata, frames) "
    "VALUES (last_insert_rowid(), NEW.metadata, NEW.frames); "
    "UPDATE feed_head SET sequence = sequence + 1, timestamp = max(timestamp, NEW.created) "
    "WHERE id = 1 AND tag_generation = NEW.tag_generation; "
    "SELECT RAISE(ABORT, 'the tags have changed') WHERE changes() = 0; "
    "INSERT INTO feed (sequence, timestamp, action, partition_key, study_uid, series_uid, sop_uid, version) "
    f"SELECT sequence, timestamp, {int(Action.CREATE)}, NEW.partition_key, NEW.study_uid, NEW.series_uid, NEW.sop_uid, "
    "last_insert_rowid() FROM feed_head WHERE id = 1; "
    "END",
)
_INSERT = f"INSERT INTO next_instance VALUES ({', '.join('?' * len(_COLUMNS))})"


def adding(new: NewInstance, tag_generation: int) -> Shortcut[list[bool]] | None:
    """Adds ``new``, unless it is there or has something to change beside its own rows; None where that is certain.

    Returns whether it was added, as of one instance of several.
    """
    if new.tags:
        return None

    def values() -> tuple[Value, ...]:
        return (
            new.path.partition_key,
            new.path.study_uid,
            new.path.series_uid,
            *row(new, time.time_ns() // 1000),
            new.metadata,
            new.frames,
            tag_generation,
            *study_row(new.study),
            *series_row(new.series),
        )

    return Shortcut(_SETUP, _INSERT, values, [True])
