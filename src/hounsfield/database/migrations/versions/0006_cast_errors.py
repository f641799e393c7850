"""DICOM Cast: pace, requests to try failed entries again, rows on their way to Azure tables."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("cast_status", sa.Column("rate", sa.Float(), server_default="0", nullable=False))
    op.add_column("cast_status", sa.Column("table_store_error", sa.Text(), nullable=True))
    op.add_column("cast_error", sa.Column("copied", sa.SmallInteger(), server_default="0", nullable=False))
    op.create_index(op.f("ix_cast_error_copied_row_key"), "cast_error", ["copied", "row_key"], unique=False)
    op.create_index(
        op.f("ix_cast_error_study_uid_table_name_sequence_timestamp_row_key"),
        "cast_error",
        ["study_uid", "table_name", "sequence", "timestamp", "row_key"],
        unique=False,
    )
    op.create_table(
        "cast_error_removed",
        sa.Column("row_key", KEY, nullable=False),
        sa.Column("table_name", KEY, nullable=False),
        sa.Column("partition_key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("row_key", name=op.f("pk_cast_error_removed")),
    )
    op.create_table(
        "cast_retry",
        sa.Column("table_name", KEY, nullable=False),
        sa.Column("study_uid", KEY, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("table_name", "study_uid", name=op.f("pk_cast_retry")),
    )
