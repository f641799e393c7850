"""Types and conventions shared by all tables."""

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text compared byte by byte on both engines."""

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A generated number. SQLite only makes INTEGER PRIMARY KEY an alias of the row id."""
