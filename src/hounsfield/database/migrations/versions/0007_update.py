"""Bulk update: versions of an instance, and the study whose versions are being made."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("instance", sa.Column("version", sa.BigInteger(), nullable=True))
    op.add_column("instance", sa.Column("first_key", sa.Text(), nullable=True))
    op.add_column("instance", sa.Column("first_size", sa.BigInteger(), nullable=True))
    op.create_table(
        "instance_version",
        sa.Column("version", ID, autoincrement=False, nullable=False),
        sa.Column("instance_id", sa.BigInteger(), nullable=False),
        sa.Column("file_key", sa.Text(), nullable=False),
        sa.Column("file_size", sa.BigInteger(), nullable=True),
        sa.Column("metadata", sa.LargeBinary(), nullable=True),
        sa.Column("frames", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_instance_version")),
    )
    op.create_index(op.f("ix_instance_version_instance_id"), "instance_version", ["instance_id"], unique=False)
    op.create_table(
        "study_update",
        sa.Column("operation_id", sa.Text(), nullable=False),
        sa.Column("study_id", sa.BigInteger(), nullable=False),
        sa.Column("first_version", sa.BigInteger(), nullable=False),
        sa.Column("last_version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("operation_id", name=op.f("pk_study_update")),
    )
