"""Leases of the background workers."""

import sqlalchemy as sa

from hounsfield.database.schema.base import Key, metadata

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("name", Key, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("expires", sa.BigInteger, nullable=False),
)
