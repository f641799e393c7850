"""Workitems that follow into FHIR: which have changed, and errors of those that cannot be written."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "workitem_change",
        sa.Column("workitem_id", ID, autoincrement=False, nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("modified", sa.BigInteger(), nullable=False),
        sa.Column("followed_revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_since", sa.BigInteger(), nullable=False),
        sa.Column("study_uid", KEY, nullable=False),
        sa.Column("is_linked", sa.SmallInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["workitem_id"], ["workitem.id"], name=op.f("fk_workitem_change_workitem_id")),
        sa.PrimaryKeyConstraint("workitem_id", name=op.f("pk_workitem_change")),
    )
    op.create_index(
        op.f("ix_workitem_change_partition_key_waiting_since_workitem_id"),
        "workitem_change",
        ["partition_key", "waiting_since", "workitem_id"],
        unique=False,
        sqlite_where=sa.text("followed_revision < revision"),
        postgresql_where=sa.text("followed_revision < revision"),
    )
    op.create_index(op.f("ix_workitem_change_study_uid"), "workitem_change", ["study_uid"], unique=False)
    op.execute(
        "INSERT INTO workitem_change (workitem_id, partition_key, revision, modified, waiting_since, study_uid) "
        "SELECT id, partition_key, 1, created, created, '' FROM workitem"
    )
    op.add_column("cast_error", sa.Column("workitem_id", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_cast_error_workitem_id"), "cast_error", ["workitem_id"], unique=False)
    op.add_column("cast_status", sa.Column("workitem_error", sa.Text(), nullable=True))
