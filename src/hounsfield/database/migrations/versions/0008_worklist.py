"""The worklist."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "workitem",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.Column("uid", KEY, nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("transaction_uid", KEY, nullable=True),
        sa.Column("start", sa.BigInteger(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workitem")),
        sa.UniqueConstraint("partition_key", "uid", name=op.f("uq_workitem_partition_key_uid")),
        sqlite_autoincrement=True,
    )
    for columns in (["id"], ["state", "id"], ["start", "id"], ["state", "start", "id"]):
        op.create_index(op.f(f"ix_workitem_partition_key_{'_'.join(columns)}"), "workitem", ["partition_key", *columns])
    op.create_table(
        "workitem_content",
        sa.Column("workitem_id", ID, autoincrement=False, nullable=False),
        sa.Column("dataset", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["workitem_id"], ["workitem.id"], name=op.f("fk_workitem_content_workitem_id")),
        sa.PrimaryKeyConstraint("workitem_id", name=op.f("pk_workitem_content")),
    )
    op.create_table(
        "workitem_value",
        sa.Column("workitem_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attribute", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["workitem_id"], ["workitem.id"], name=op.f("fk_workitem_value_workitem_id")),
        sa.PrimaryKeyConstraint("workitem_id", "attribute", "key", name=op.f("pk_workitem_value")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_workitem_value_partition_key_attribute_key_workitem_id"),
        "workitem_value",
        ["partition_key", "attribute", "key", "workitem_id"],
        unique=False,
    )
    op.create_table(
        "worklist_subscriber",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.Column("ae_title", KEY, nullable=False),
        sa.Column("connection", sa.Text(), nullable=True),
        sa.Column("connected_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worklist_subscriber")),
        sa.UniqueConstraint("partition_key", "ae_title", name=op.f("uq_worklist_subscriber_partition_key_ae_title")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "worklist_subscription",
        sa.Column("subscriber_id", sa.BigInteger(), nullable=False),
        sa.Column("filtered", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.Column("deletion_lock", sa.SmallInteger(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=True),
        sa.Column("last_workitem_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["worklist_subscriber.id"], name=op.f("fk_worklist_subscription_subscriber_id")
        ),
        sa.PrimaryKeyConstraint("subscriber_id", "filtered", name=op.f("pk_worklist_subscription")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_worklist_subscription_partition_key_subscriber_id"),
        "worklist_subscription",
        ["partition_key", "subscriber_id"],
        unique=False,
    )
    op.create_table(
        "workitem_subscription",
        sa.Column("workitem_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subscriber_id", sa.BigInteger(), nullable=False),
        sa.Column("subscribed", sa.SmallInteger(), nullable=False),
        sa.Column("deletion_lock", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(["workitem_id"], ["workitem.id"], name=op.f("fk_workitem_subscription_workitem_id")),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["worklist_subscriber.id"], name=op.f("fk_workitem_subscription_subscriber_id")
        ),
        sa.PrimaryKeyConstraint("workitem_id", "subscriber_id", name=op.f("pk_workitem_subscription")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_workitem_subscription_subscriber_id_workitem_id"),
        "workitem_subscription",
        ["subscriber_id", "workitem_id"],
        unique=False,
    )
    head = op.create_table(
        "worklist_head",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worklist_head")),
    )
    op.bulk_insert(head, [{"id": 1, "sequence": 0}])
    op.create_table(
        "worklist_report",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subscriber_id", sa.BigInteger(), nullable=False),
        sa.Column("workitem_id", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["worklist_subscriber.id"], name=op.f("fk_worklist_report_subscriber_id")
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_worklist_report")),
    )
    op.create_index(
        op.f("ix_worklist_report_subscriber_id_sequence"),
        "worklist_report",
        ["subscriber_id", "sequence"],
        unique=False,
    )
    op.create_index(op.f("ix_worklist_report_created"), "worklist_report", ["created"], unique=False)
