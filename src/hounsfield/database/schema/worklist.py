"""The worklist: workitems, their contents, and the values searches compare."""

import sqlalchemy as sa

from hounsfield.database.schema.base import Id, Key, metadata

workitem = sa.Table(
    "workitem",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sa.Column("uid", Key, nullable=False),
    # Procedure Step State as DICOM writes it.
    sa.Column("state", Key, nullable=False),
    # The owner's lock; NULL while there is none.
    sa.Column("transaction_uid", Key),
    # Scheduled Procedure Step Start DateTime: microseconds since year 1, as written.
    sa.Column("start", sa.BigInteger),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("partition_key", "uid"),
    sqlite_autoincrement=True,
)
sa.Index(None, workitem.c.partition_key, workitem.c.id)
sa.Index(None, workitem.c.partition_key, workitem.c.state, workitem.c.id)
sa.Index(None, workitem.c.partition_key, workitem.c.start, workitem.c.id)
sa.Index(None, workitem.c.partition_key, workitem.c.state, workitem.c.start, workitem.c.id)

workitem_content = sa.Table(
    "workitem_content",
    metadata,
    sa.Column("workitem_id", Id, sa.ForeignKey("workitem.id"), primary_key=True, autoincrement=False),
    # DICOM JSON, compressed (zlib), without the Transaction UID.
    sa.Column("dataset", sa.LargeBinary, nullable=False),
)

workitem_value = sa.Table(
    "workitem_value",
    metadata,
    sa.Column("workitem_id", sa.BigInteger, sa.ForeignKey("workitem.id"), primary_key=True, autoincrement=False),
    # worklist.index.Attribute
    sa.Column("attribute", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("key", Key, primary_key=True),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(
    None,
    workitem_value.c.partition_key,
    workitem_value.c.attribute,
    workitem_value.c.key,
    workitem_value.c.workitem_id,
)

workitem_change = sa.Table(
    "workitem_change",
    metadata,
    # How far whoever follows the worklist is with each workitem; made and counted up by every transaction on it.
    sa.Column("workitem_id", Id, sa.ForeignKey("workitem.id"), primary_key=True, autoincrement=False),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("modified", sa.BigInteger, nullable=False),
    # Of the follower, DICOM Cast: the revision it has dealt with, and since when a later one waits for it.
    sa.Column("followed_revision", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("waiting_since", sa.BigInteger, nullable=False),
    # The study the workitem is about (empty: none), and whether it was there to be referred to.
    sa.Column("study_uid", Key, nullable=False),
    sa.Column("is_linked", sa.SmallInteger, nullable=False, server_default="0"),
)
_waits = sa.text("followed_revision < revision")
sa.Index(
    None,
    workitem_change.c.partition_key,
    workitem_change.c.waiting_since,
    workitem_change.c.workitem_id,
    sqlite_where=_waits,
    postgresql_where=_waits,
)
sa.Index(None, workitem_change.c.study_uid)

worklist_subscriber = sa.Table(
    "worklist_subscriber",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sa.Column("ae_title", Key, nullable=False),
    # The connection it listens on, and until when that is known to be there.
    sa.Column("connection", sa.Text),
    sa.Column("connected_until", sa.BigInteger, nullable=False, server_default="0"),
    sa.UniqueConstraint("partition_key", "ae_title"),
    sqlite_autoincrement=True,
)

worklist_subscription = sa.Table(
    "worklist_subscription",
    metadata,
    # To all workitems of the subscriber's partition, present and to come, or to those that meet a filter.
    sa.Column("subscriber_id", sa.BigInteger, sa.ForeignKey("worklist_subscriber.id"), primary_key=True),
    sa.Column("filtered", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sa.Column("deletion_lock", sa.SmallInteger, nullable=False),
    # JSON [[attribute, value], …]; NULL where not filtered.
    sa.Column("filter", sa.Text),
    # Suspended: only workitems up to this id.
    sa.Column("last_workitem_id", sa.BigInteger),
    sqlite_with_rowid=False,
)
sa.Index(None, worklist_subscription.c.partition_key, worklist_subscription.c.subscriber_id)

workitem_subscription = sa.Table(
    "workitem_subscription",
    metadata,
    # Comes before what the subscriber has for the whole worklist.
    sa.Column("workitem_id", sa.BigInteger, sa.ForeignKey("workitem.id"), primary_key=True, autoincrement=False),
    sa.Column("subscriber_id", sa.BigInteger, sa.ForeignKey("worklist_subscriber.id"), primary_key=True),
    # 0 wants no reports of this one, 1 does
    sa.Column("subscribed", sa.SmallInteger, nullable=False),
    sa.Column("deletion_lock", sa.SmallInteger, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(None, workitem_subscription.c.subscriber_id, workitem_subscription.c.workitem_id)

worklist_head = sa.Table(
    "worklist_head",
    metadata,
    # One row. Updating it is the lock under which numbers of reports are drawn, held to the commit.
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
)

worklist_report = sa.Table(
    "worklist_report",
    metadata,
    # Until its subscriber has it.
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("subscriber_id", sa.BigInteger, sa.ForeignKey("worklist_subscriber.id"), nullable=False),
    sa.Column("workitem_id", sa.BigInteger, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    # DICOM JSON; NULL: the workitem's state when it is sent.
    sa.Column("content", sa.Text),
)
sa.Index(None, worklist_report.c.subscriber_id, worklist_report.c.sequence)
sa.Index(None, worklist_report.c.created)
