"""The embedded FHIR store: resources, their history, and the values they are searched by.

The index tables hold nothing for a deleted resource. ``parameter`` numbers are those of fhir/search_parameters.py.
"""

import sqlalchemy as sa

from hounsfield.database.schema.base import Id, Key, metadata

fhir_head = sa.Table(
    "fhir_head",
    metadata,
    # One row, made by the first write. Updating it is the lock that orders all FHIR writes, held to the commit.
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    # Microseconds, whole milliseconds; never goes back.
    sa.Column("updated", sa.BigInteger, nullable=False),
)

fhir_resource = sa.Table(
    "fhir_resource",
    metadata,
    # The sequence of the write that made it: the default order of searches.
    sa.Column("key", Id, primary_key=True, autoincrement=False),
    # "Patient/4f0c", the form references use.
    sa.Column("name", Key, nullable=False, unique=True),
    sa.Column("type", sa.SmallInteger, nullable=False),
    sa.Column("deleted", sa.SmallInteger, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("updated", sa.BigInteger, nullable=False),
    # Compressed body of the current version (fhir/content.py); NULL when deleted.
    sa.Column("content", sa.LargeBinary),
)
sa.Index(None, fhir_resource.c.type, fhir_resource.c.deleted, fhir_resource.c.key)
sa.Index(None, fhir_resource.c.type, fhir_resource.c.deleted, fhir_resource.c.updated, fhir_resource.c.key)

fhir_history = sa.Table(
    "fhir_history",
    metadata,
    sa.Column("sequence", Id, primary_key=True, autoincrement=False),
    sa.Column("resource_key", sa.BigInteger, sa.ForeignKey("fhir_resource.key"), nullable=False),
    sa.Column("type", sa.SmallInteger, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("updated", sa.BigInteger, nullable=False),
    # 0 create, 1 update, 2 delete
    sa.Column("method", sa.SmallInteger, nullable=False),
    # A former version, usually only its difference from the next (fhir/content.py); NULL for the current one.
    sa.Column("content", sa.LargeBinary),
    sa.UniqueConstraint("resource_key", "version"),
)
sa.Index(None, fhir_history.c.type, fhir_history.c.sequence)

fhir_token = sa.Table(
    "fhir_token",
    metadata,
    sa.Column("resource_key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("parameter", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("code", Key, primary_key=True),
    # Empty where there is none.
    sa.Column("system", Key, primary_key=True),
    sqlite_with_rowid=False,
)
sa.Index(None, fhir_token.c.parameter, fhir_token.c.code, fhir_token.c.system, fhir_token.c.resource_key)

fhir_string = sa.Table(
    "fhir_string",
    metadata,
    sa.Column("resource_key", sa.BigInteger, nullable=False),
    sa.Column("parameter", sa.SmallInteger, nullable=False),
    # Without case and accents, cut to a length that fits an index.
    sa.Column("folded", Key, nullable=False),
    sa.Column("exact", Key, nullable=False),
)
sa.Index(None, fhir_string.c.parameter, fhir_string.c.folded, fhir_string.c.resource_key)
sa.Index(None, fhir_string.c.resource_key, fhir_string.c.parameter, fhir_string.c.folded)

fhir_date = sa.Table(
    "fhir_date",
    metadata,
    sa.Column("resource_key", sa.BigInteger, nullable=False),
    sa.Column("parameter", sa.SmallInteger, nullable=False),
    # The period the value stands for: from low up to, not including, high.
    sa.Column("low", sa.BigInteger, nullable=False),
    sa.Column("high", sa.BigInteger, nullable=False),
)
sa.Index(None, fhir_date.c.parameter, fhir_date.c.low, fhir_date.c.resource_key)
sa.Index(None, fhir_date.c.parameter, fhir_date.c.high, fhir_date.c.resource_key)
sa.Index(None, fhir_date.c.resource_key, fhir_date.c.parameter, fhir_date.c.low, fhir_date.c.high)

fhir_reference = sa.Table(
    "fhir_reference",
    metadata,
    sa.Column("resource_key", sa.BigInteger, primary_key=True, autoincrement=False),
    # 0 for every reference of the resource, whatever the element: what guards deletes.
    sa.Column("parameter", sa.SmallInteger, primary_key=True, autoincrement=False),
    # "Patient/4f0c", or a URL of some other server.
    sa.Column("target", Key, primary_key=True),
    sqlite_with_rowid=False,
)
sa.Index(None, fhir_reference.c.target, fhir_reference.c.parameter, fhir_reference.c.resource_key)
