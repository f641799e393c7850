"""Leases of the background workers, long-running operations and the parts they are worked off in."""

import sqlalchemy as sa

from hounsfield.database.schema.base import Key, metadata

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("name", Key, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("expires", sa.BigInteger, nullable=False),
)

operation = sa.Table(
    "operation",
    metadata,
    # A GUID as 32 lower-case hex digits.
    sa.Column("id", Key, primary_key=True),
    sa.Column("kind", Key, nullable=False),
    sa.Column("status", Key, nullable=False),
    # What it is to end as although work is left: failed or canceled. NULL: it goes on.
    sa.Column("stop", Key),
    # Held until the end by one that must be alone; NULL for all others.
    sa.Column("exclusion", Key, unique=True),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("updated", sa.BigInteger, nullable=False),
    # JSON of the job.
    sa.Column("arguments", sa.Text, nullable=False),
    # Encrypted by the job; gone with the end.
    sa.Column("secret", sa.LargeBinary),
    # Written at the end; until then the parts have them.
    sa.Column("done", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("results", sa.Text),
    sa.Column("error", sa.Text),
)
sa.Index(None, operation.c.created, operation.c.id)
sa.Index(None, operation.c.status, operation.c.updated)

operation_part = sa.Table(
    "operation_part",
    metadata,
    # Parts go with the end of their operation.
    sa.Column("operation_id", Key, sa.ForeignKey("operation.id"), primary_key=True),
    # 0 is the part that makes the others.
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("arguments", sa.Text, nullable=False),
    # Where the next step begins, in the job's own words.
    sa.Column("cursor", sa.Text),
    # Steps committed so far: a step prepared twice is committed once.
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("done", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("results", sa.Text),
    # One claim's token; NULL while nobody works on it.
    sa.Column("owner", sa.Text),
    # From when on anybody may claim it: end of the lease or of the back-off. NULL: nothing is left to do.
    sa.Column("due", sa.BigInteger),
    # Failures of the step at hand.
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("updated", sa.BigInteger, nullable=False),
)
sa.Index(None, operation_part.c.due, operation_part.c.number)
