"""Extended query tags: the tags, the values of stored instances, and what could not be indexed."""

import sqlalchemy as sa

from hounsfield.database.schema.base import Id, Key, metadata

query_tag = sa.Table(
    "query_tag",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    # Eight upper-case hexadecimal digits.
    sa.Column("path", Key, nullable=False, unique=True),
    sa.Column("vr", sa.Text, nullable=False),
    sa.Column("private_creator", sa.Text),
    # 1 study, 2 series, 3 instance
    sa.Column("level", sa.SmallInteger, nullable=False),
    # 0 adding, 1 ready, 2 deleting
    sa.Column("status", sa.SmallInteger, nullable=False),
    # Whether searches may name it: 0 or 1.
    sa.Column("enabled", sa.SmallInteger, nullable=False),
    # Rows of query_tag_error.
    sa.Column("error_count", sa.BigInteger, nullable=False),
    # The re-index that makes it ready.
    sa.Column("operation_id", Key),
    sqlite_autoincrement=True,
)

query_tag_value = sa.Table(
    "query_tag_value",
    metadata,
    # Of the study, series or instance, as the tag's level says. It comes first: by a key that begins with the tag all
    # values of a tag would be read in order of their owners rather than those searched for.
    sa.Column("object_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tag_id", sa.BigInteger, primary_key=True, autoincrement=False),
    # The instance that gave the value; only a later one replaces it.
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sa.Column("key", Key, nullable=False),
    # As answers show it.
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(
    None,
    query_tag_value.c.tag_id,
    query_tag_value.c.partition_key,
    query_tag_value.c.key,
    query_tag_value.c.object_id,
)

query_tag_name = sa.Table(
    "query_tag_name",
    metadata,
    # As person_name, for the values of person name tags.
    sa.Column("object_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tag_id", sa.BigInteger, primary_key=True, autoincrement=False),
    # 0 the name from one of its words on, 1 to 3 its groups.
    sa.Column("part", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("suffix", Key, primary_key=True),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(
    None,
    query_tag_name.c.tag_id,
    query_tag_name.c.partition_key,
    query_tag_name.c.part,
    query_tag_name.c.suffix,
    query_tag_name.c.object_id,
)

query_tag_error = sa.Table(
    "query_tag_error",
    metadata,
    sa.Column("tag_id", sa.BigInteger, primary_key=True, autoincrement=False),
    # The instance whose value is not indexed.
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(None, query_tag_error.c.tag_id, query_tag_error.c.created, query_tag_error.c.version)
