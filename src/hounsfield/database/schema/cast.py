"""DICOM Cast: position, errors, what the worker is doing."""

import sqlalchemy as sa

from hounsfield.database.schema.base import Key, metadata

cast_state = sa.Table(
    "cast_state",
    metadata,
    # One row, made when the first entry is finished.
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("synced_sequence", sa.BigInteger, nullable=False),
    sa.Column("synced_date", sa.BigInteger, nullable=False),
    # Entries after synced_sequence that are finished already, as JSON [[first, last], …].
    sa.Column("finished", sa.Text, nullable=False),
)

cast_status = sa.Table(
    "cast_status",
    metadata,
    # One row: what the active worker says of itself, for other processes to read.
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("fhir_endpoint", sa.Text, nullable=False),
    sa.Column("dicom_web_endpoint", sa.Text, nullable=False),
    # JSON as GET /cast/status answers it, or NULL.
    sa.Column("current_entry", sa.Text),
    sa.Column("last_error", sa.Text),
    # A status not refreshed for long is that of a dead worker.
    sa.Column("heartbeat", sa.BigInteger, nullable=False),
    # Entries dealt with per second, lately.
    sa.Column("rate", sa.Float, nullable=False, server_default="0"),
    # JSON: why rows cannot be copied to Azure tables, or NULL.
    sa.Column("table_store_error", sa.Text),
    # JSON: why workitems cannot be cast, or NULL.
    sa.Column("workitem_error", sa.Text),
)

cast_error = sa.Table(
    "cast_error",
    metadata,
    sa.Column("row_key", Key, primary_key=True),
    sa.Column("table_name", Key, nullable=False),
    sa.Column("partition_key", sa.Text, nullable=False),
    sa.Column("timestamp", sa.BigInteger, nullable=False),
    sa.Column("study_uid", sa.Text, nullable=False),
    sa.Column("series_uid", sa.Text, nullable=False),
    sa.Column("instance_uid", sa.Text, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("exception", sa.Text, nullable=False),
    # Only in TransientRetryExceptionTable.
    sa.Column("retry_number", sa.Integer),
    # What makes a row the same as one written before a crash; NULL: every row counts.
    sa.Column("once", Key),
    # Whether the row, as it is, is in the Azure table of the same name; 0 for ever where there is none.
    sa.Column("copied", sa.SmallInteger, nullable=False, server_default="0"),
    # Of a workitem, which has no sequence (0); NULL: of a change feed entry.
    sa.Column("workitem_id", sa.BigInteger),
    sa.UniqueConstraint("table_name", "once"),
)
sa.Index(None, cast_error.c.workitem_id)
sa.Index(None, cast_error.c.table_name, cast_error.c.sequence, cast_error.c.timestamp, cast_error.c.row_key)
sa.Index(
    None,
    cast_error.c.study_uid,
    cast_error.c.table_name,
    cast_error.c.sequence,
    cast_error.c.timestamp,
    cast_error.c.row_key,
)
sa.Index(None, cast_error.c.copied, cast_error.c.row_key)

cast_failure = sa.Table(
    "cast_failure",
    metadata,
    # How often casting came to a standstill since the database was made; no row means never.
    sa.Column("reason", Key, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)

cast_error_removed = sa.Table(
    "cast_error_removed",
    metadata,
    # Rows that are gone here and still have to go from the Azure table.
    sa.Column("row_key", Key, primary_key=True),
    sa.Column("table_name", Key, nullable=False),
    sa.Column("partition_key", sa.Text, nullable=False),
)

cast_retry = sa.Table(
    "cast_retry",
    metadata,
    # Somebody wants the rows that a table has up to a time tried again; an empty study_uid means all studies.
    sa.Column("table_name", Key, primary_key=True),
    sa.Column("study_uid", Key, primary_key=True),
    sa.Column("created", sa.BigInteger, nullable=False),
)

cast_updated_instance = sa.Table(
    "cast_updated_instance",
    metadata,
    # Only studies that were ever bulk updated: which values their instances have now (dicom-cast.md §4.3).
    sa.Column("study_uid", Key, primary_key=True),
    sa.Column("sop_uid", Key, primary_key=True),
    sa.Column("accession_number", sa.Text),
    sa.Column("study_description", sa.Text),
    sqlite_with_rowid=False,
)
