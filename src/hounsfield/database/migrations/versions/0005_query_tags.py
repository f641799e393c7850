"""Extended query tags."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("feed_head", sa.Column("tag_generation", sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "query_tag",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("path", KEY, nullable=False),
        sa.Column("vr", sa.Text(), nullable=False),
        sa.Column("private_creator", sa.Text(), nullable=True),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("enabled", sa.SmallInteger(), nullable=False),
        sa.Column("error_count", sa.BigInteger(), nullable=False),
        sa.Column("operation_id", KEY, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_query_tag")),
        sa.UniqueConstraint("path", name=op.f("uq_query_tag_path")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "query_tag_value",
        sa.Column("object_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tag_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("object_id", "tag_id", name=op.f("pk_query_tag_value")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_query_tag_value_tag_id_partition_key_key_object_id"),
        "query_tag_value",
        ["tag_id", "partition_key", "key", "object_id"],
        unique=False,
    )
    op.create_table(
        "query_tag_name",
        sa.Column("object_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tag_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("part", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("suffix", KEY, nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("object_id", "tag_id", "part", "suffix", name=op.f("pk_query_tag_name")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_query_tag_name_tag_id_partition_key_part_suffix_object_id"),
        "query_tag_name",
        ["tag_id", "partition_key", "part", "suffix", "object_id"],
        unique=False,
    )
    op.create_table(
        "query_tag_error",
        sa.Column("tag_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tag_id", "version", name=op.f("pk_query_tag_error")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_query_tag_error_tag_id_created_version"),
        "query_tag_error",
        ["tag_id", "created", "version"],
        unique=False,
    )
