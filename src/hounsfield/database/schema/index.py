"""Partitions, studies, series, instances, person names, the change feed, deleted files waiting for cleanup."""

import sqlalchemy as sa

from hounsfield.database.schema.base import Id, Key, metadata

partition = sa.Table(
    "data_partition",
    metadata,
    sa.Column("key", Id, primary_key=True, autoincrement=True),
    sa.Column("name", Key, nullable=False, unique=True),
    sa.Column("created", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

study = sa.Table(
    "study",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sa.Column("study_uid", Key, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("patient_id", sa.Text),
    sa.Column("patient_id_key", Key),
    sa.Column("patient_name", sa.Text),
    sa.Column("patient_name_key", Key),
    sa.Column("patient_birth_date", Key),
    sa.Column("accession_number", sa.Text),
    sa.Column("accession_number_key", Key),
    sa.Column("referring_physician_name", sa.Text),
    sa.Column("referring_physician_name_key", Key),
    sa.Column("study_date", Key),
    sa.Column("study_description", sa.Text),
    sa.Column("study_description_key", Key),
    sa.Column("study_time", sa.Text),
    # Microseconds since midnight.
    sa.Column("study_time_key", sa.BigInteger),
    # StudyID, which the site gave; not the id.
    sa.Column("study_id_text", sa.Text),
    sa.Column("study_id_text_key", Key),
    sa.Column("patient_sex", sa.Text),
    sa.Column("patient_sex_key", Key),
    sa.UniqueConstraint("partition_key", "study_uid"),
    sqlite_autoincrement=True,
)
for _column in (
    "patient_id_key",
    "patient_name_key",
    "patient_birth_date",
    "accession_number_key",
    "referring_physician_name_key",
    "study_date",
    "study_description_key",
    "study_time_key",
    "study_id_text_key",
    "patient_sex_key",
):
    sa.Index(None, study.c.partition_key, study.c[_column], study.c.id)
sa.Index(None, study.c.partition_key, study.c.id)

series = sa.Table(
    "series",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sa.Column("study_id", sa.BigInteger, sa.ForeignKey("study.id"), nullable=False),
    sa.Column("series_uid", Key, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("modality", sa.Text),
    sa.Column("modality_key", Key),
    sa.Column("performed_procedure_step_start_date", Key),
    sa.Column("manufacturer_model_name", sa.Text),
    sa.Column("manufacturer_model_name_key", Key),
    sa.Column("performed_procedure_step_start_time", sa.Text),
    sa.Column("performed_procedure_step_start_time_key", sa.BigInteger),
    sa.Column("series_number", sa.BigInteger),
    sa.Column("series_description", sa.Text),
    sa.Column("series_description_key", Key),
    # What table request_attribute holds, as JSON.
    sa.Column("request_attributes", sa.Text),
    sa.UniqueConstraint("study_id", "series_uid"),
    sqlite_autoincrement=True,
)
for _column in (
    "series_uid",
    "modality_key",
    "performed_procedure_step_start_date",
    "manufacturer_model_name_key",
    "performed_procedure_step_start_time_key",
    "series_number",
    "series_description_key",
):
    sa.Index(None, series.c.partition_key, series.c[_column], series.c.id)
sa.Index(None, series.c.partition_key, series.c.id)
# ModalitiesInStudy: studies in order of their ids.
sa.Index(None, series.c.partition_key, series.c.modality_key, series.c.study_id)
sa.Index(None, series.c.study_id, series.c.modality_key)

request_attribute = sa.Table(
    "request_attribute",
    metadata,
    # An item of RequestAttributesSequence.
    sa.Column("series_id", sa.BigInteger, sa.ForeignKey("series.id"), primary_key=True, autoincrement=False),
    sa.Column("item", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sa.Column("scheduled_procedure_step_id_key", Key),
    sa.Column("requested_procedure_id_key", Key),
    sqlite_with_rowid=False,
)
for _column in ("scheduled_procedure_step_id_key", "requested_procedure_id_key"):
    sa.Index(
        f"ix_request_attribute_{_column}",
        request_attribute.c.partition_key,
        request_attribute.c[_column],
        request_attribute.c.series_id,
    )

instance = sa.Table(
    "instance",
    metadata,
    # The id is the instance's version (the reference's watermark): server-wide, increasing, never reused.
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sa.Column("study_id", sa.BigInteger, sa.ForeignKey("study.id"), nullable=False),
    sa.Column("series_id", sa.BigInteger, sa.ForeignKey("series.id"), nullable=False),
    sa.Column("sop_uid", Key, nullable=False),
    sa.Column("transfer_syntax", sa.Text, nullable=False),
    sa.Column("file_key", sa.Text, nullable=False),
    sa.Column("file_size", sa.BigInteger, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    # Of the file as it was received, where another was made of it; its key where it was kept.
    sa.Column("received_syntax", sa.Text),
    sa.Column("received_size", sa.BigInteger),
    sa.Column("original_key", sa.Text),
    sa.Column("sop_class_uid", Key),
    sa.Column("instance_number", sa.BigInteger),
    # What a bulk update made of it: a version of instance_version, whose file the instance has now; null while it is
    # as it was stored. Then the file it was stored as.
    sa.Column("version", sa.BigInteger),
    sa.Column("first_key", sa.Text),
    sa.Column("first_size", sa.BigInteger),
    sa.UniqueConstraint("series_id", "sop_uid"),
    sqlite_autoincrement=True,
)
# Each of these costs every store.
sa.Index(None, instance.c.study_id, instance.c.id)
sa.Index(None, instance.c.partition_key, instance.c.id)
sa.Index(None, instance.c.partition_key, instance.c.sop_uid, instance.c.id)
sa.Index(None, instance.c.partition_key, instance.c.sop_class_uid, instance.c.id)
sa.Index(None, instance.c.partition_key, instance.c.instance_number, instance.c.id)

instance_content = sa.Table(
    "instance_content",
    metadata,
    sa.Column("instance_id", Id, sa.ForeignKey("instance.id"), primary_key=True, autoincrement=False),
    # DICOM JSON of the dataset, raw deflate ended by a sync flush: fragments of a series join into one stream.
    sa.Column("metadata", sa.LargeBinary, nullable=False),
    # dicom.frames.FrameIndex, or null where the instance has no frames.
    sa.Column("frames", sa.LargeBinary),
)

instance_version = sa.Table(
    "instance_version",
    metadata,
    # Versions made by bulk updates: the one an instance has now, those being made, and those before that readers may
    # still be at. From the same sequence as the ids of instances.
    sa.Column("version", Id, primary_key=True, autoincrement=False),
    sa.Column("instance_id", sa.BigInteger, nullable=False),
    sa.Column("file_key", sa.Text, nullable=False),
    # These as in instance_content; null until they are made.
    sa.Column("file_size", sa.BigInteger),
    sa.Column("metadata", sa.LargeBinary),
    sa.Column("frames", sa.LargeBinary),
)
sa.Index(None, instance_version.c.instance_id)

study_update = sa.Table(
    "study_update",
    metadata,
    # The study that an operation makes new versions of, and which these are.
    sa.Column("operation_id", sa.Text, primary_key=True),
    sa.Column("study_id", sa.BigInteger, nullable=False),
    sa.Column("first_version", sa.BigInteger, nullable=False),
    sa.Column("last_version", sa.BigInteger, nullable=False),
)

person_name = sa.Table(
    "person_name",
    metadata,
    sa.Column("study_id", sa.BigInteger, sa.ForeignKey("study.id"), primary_key=True, autoincrement=False),
    # What of which name: index.studies.PERSON_NAMES, NAME_GROUPS.
    sa.Column("attribute", sa.SmallInteger, primary_key=True, autoincrement=False),
    # The folded name from one of its words on (dicom.person_name.suffixes), or one of its groups (group_keys).
    sa.Column("suffix", Key, primary_key=True),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(None, person_name.c.partition_key, person_name.c.attribute, person_name.c.suffix, person_name.c.study_id)

feed = sa.Table(
    "feed",
    metadata,
    sa.Column("sequence", Id, primary_key=True, autoincrement=False),
    sa.Column("timestamp", sa.BigInteger, nullable=False),
    # 0 create, 1 delete, 2 update
    sa.Column("action", sa.SmallInteger, nullable=False),
    sa.Column("partition_key", sa.Integer, nullable=False),
    sa.Column("study_uid", Key, nullable=False),
    sa.Column("series_uid", Key, nullable=False),
    sa.Column("sop_uid", Key, nullable=False),
    # Version this event produced or removed.
    sa.Column("version", sa.BigInteger, nullable=False),
)
sa.Index(None, feed.c.timestamp, feed.c.sequence)

feed_head = sa.Table(
    "feed_head",
    metadata,
    # One row. Updating it is the lock under which sequences and timestamps are drawn, held to the commit.
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("timestamp", sa.BigInteger, nullable=False),
    # Raised whenever an extended query tag is added or removed: a store that sees another than it knows begins anew.
    sa.Column("tag_generation", sa.BigInteger, nullable=False, server_default="0"),
)

deleted_file = sa.Table(
    "deleted_file",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("file_key", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.BigInteger, nullable=False),
    sa.Column("cleanup_after", sa.BigInteger, nullable=False),
    sa.Column("retry_count", sa.Integer, nullable=False),
    sqlite_autoincrement=True,
)
sa.Index(None, deleted_file.c.cleanup_after)
