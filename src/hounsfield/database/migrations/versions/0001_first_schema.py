"""The first schema."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "cast_error",
        sa.Column("row_key", KEY, nullable=False),
        sa.Column("table_name", KEY, nullable=False),
        sa.Column("partition_key", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("series_uid", sa.Text(), nullable=False),
        sa.Column("instance_uid", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("exception", sa.Text(), nullable=False),
        sa.Column("retry_number", sa.Integer(), nullable=True),
        sa.Column("once", KEY, nullable=True),
        sa.PrimaryKeyConstraint("row_key", name=op.f("pk_cast_error")),
        sa.UniqueConstraint("table_name", "once", name=op.f("uq_cast_error_table_name_once")),
    )
    op.create_index(
        op.f("ix_cast_error_table_name_sequence_timestamp_row_key"),
        "cast_error",
        ["table_name", "sequence", "timestamp", "row_key"],
        unique=False,
    )
    op.create_table(
        "cast_state",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("synced_sequence", sa.BigInteger(), nullable=False),
        sa.Column("synced_date", sa.BigInteger(), nullable=False),
        sa.Column("finished", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cast_state")),
    )
    op.create_table(
        "cast_status",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("fhir_endpoint", sa.Text(), nullable=False),
        sa.Column("dicom_web_endpoint", sa.Text(), nullable=False),
        sa.Column("current_entry", sa.Text(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("heartbeat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cast_status")),
    )
    op.create_table(
        "cast_updated_instance",
        sa.Column("study_uid", KEY, nullable=False),
        sa.Column("sop_uid", KEY, nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=True),
        sa.Column("study_description", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("study_uid", "sop_uid", name=op.f("pk_cast_updated_instance")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "data_partition",
        sa.Column("key", ID, autoincrement=True, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_data_partition")),
        sa.UniqueConstraint("name", name=op.f("uq_data_partition_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "deleted_file",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("file_key", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.BigInteger(), nullable=False),
        sa.Column("cleanup_after", sa.BigInteger(), nullable=False),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deleted_file")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_deleted_file_cleanup_after"), "deleted_file", ["cleanup_after"], unique=False)
    op.create_table(
        "feed",
        sa.Column("sequence", ID, autoincrement=False, nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.SmallInteger(), nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.Column("study_uid", KEY, nullable=False),
        sa.Column("series_uid", KEY, nullable=False),
        sa.Column("sop_uid", KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_feed")),
    )
    op.create_index(op.f("ix_feed_timestamp_sequence"), "feed", ["timestamp", "sequence"], unique=False)
    op.create_table(
        "feed_head",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feed_head")),
    )
    op.create_table(
        "fhir_date",
        sa.Column("resource_key", sa.BigInteger(), nullable=False),
        sa.Column("parameter", sa.SmallInteger(), nullable=False),
        sa.Column("low", sa.BigInteger(), nullable=False),
        sa.Column("high", sa.BigInteger(), nullable=False),
    )
    op.create_index(
        op.f("ix_fhir_date_parameter_high_resource_key"),
        "fhir_date",
        ["parameter", "high", "resource_key"],
        unique=False,
    )
    op.create_index(
        op.f("ix_fhir_date_parameter_low_resource_key"), "fhir_date", ["parameter", "low", "resource_key"], unique=False
    )
    op.create_index(
        op.f("ix_fhir_date_resource_key_parameter_low_high"),
        "fhir_date",
        ["resource_key", "parameter", "low", "high"],
        unique=False,
    )
    op.create_table(
        "fhir_head",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fhir_head")),
    )
    op.create_table(
        "fhir_reference",
        sa.Column("resource_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("parameter", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("target", KEY, nullable=False),
        sa.PrimaryKeyConstraint("resource_key", "parameter", "target", name=op.f("pk_fhir_reference")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_fhir_reference_target_parameter_resource_key"),
        "fhir_reference",
        ["target", "parameter", "resource_key"],
        unique=False,
    )
    op.create_table(
        "fhir_resource",
        sa.Column("key", ID, autoincrement=False, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("type", sa.SmallInteger(), nullable=False),
        sa.Column("deleted", sa.SmallInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_fhir_resource")),
        sa.UniqueConstraint("name", name=op.f("uq_fhir_resource_name")),
    )
    op.create_index(
        op.f("ix_fhir_resource_type_deleted_key"), "fhir_resource", ["type", "deleted", "key"], unique=False
    )
    op.create_index(
        op.f("ix_fhir_resource_type_deleted_updated_key"),
        "fhir_resource",
        ["type", "deleted", "updated", "key"],
        unique=False,
    )
    op.create_table(
        "fhir_string",
        sa.Column("resource_key", sa.BigInteger(), nullable=False),
        sa.Column("parameter", sa.SmallInteger(), nullable=False),
        sa.Column("folded", KEY, nullable=False),
        sa.Column("exact", KEY, nullable=False),
    )
    op.create_index(
        op.f("ix_fhir_string_parameter_folded_resource_key"),
        "fhir_string",
        ["parameter", "folded", "resource_key"],
        unique=False,
    )
    op.create_index(
        op.f("ix_fhir_string_resource_key_parameter_folded"),
        "fhir_string",
        ["resource_key", "parameter", "folded"],
        unique=False,
    )
    op.create_table(
        "fhir_token",
        sa.Column("resource_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("parameter", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("code", KEY, nullable=False),
        sa.Column("system", KEY, nullable=False),
        sa.PrimaryKeyConstraint("resource_key", "parameter", "code", "system", name=op.f("pk_fhir_token")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_fhir_token_parameter_code_system_resource_key"),
        "fhir_token",
        ["parameter", "code", "system", "resource_key"],
        unique=False,
    )
    op.create_table(
        "lease",
        sa.Column("name", KEY, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )
    op.create_table(
        "study",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.Column("study_uid", KEY, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=True),
        sa.Column("patient_id_key", KEY, nullable=True),
        sa.Column("patient_name", sa.Text(), nullable=True),
        sa.Column("patient_name_key", KEY, nullable=True),
        sa.Column("patient_birth_date", KEY, nullable=True),
        sa.Column("accession_number", sa.Text(), nullable=True),
        sa.Column("accession_number_key", KEY, nullable=True),
        sa.Column("referring_physician_name", sa.Text(), nullable=True),
        sa.Column("referring_physician_name_key", KEY, nullable=True),
        sa.Column("study_date", KEY, nullable=True),
        sa.Column("study_description", sa.Text(), nullable=True),
        sa.Column("study_description_key", KEY, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint("partition_key", "study_uid", name=op.f("uq_study_partition_key_study_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_study_partition_key_accession_number_key_id"),
        "study",
        ["partition_key", "accession_number_key", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_study_partition_key_patient_birth_date_id"),
        "study",
        ["partition_key", "patient_birth_date", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_study_partition_key_patient_id_key_id"),
        "study",
        ["partition_key", "patient_id_key", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_study_partition_key_patient_name_key_id"),
        "study",
        ["partition_key", "patient_name_key", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_study_partition_key_referring_physician_name_key_id"),
        "study",
        ["partition_key", "referring_physician_name_key", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_study_partition_key_study_date_id"), "study", ["partition_key", "study_date", "id"], unique=False
    )
    op.create_index(
        op.f("ix_study_partition_key_study_description_key_id"),
        "study",
        ["partition_key", "study_description_key", "id"],
        unique=False,
    )
    op.create_table(
        "fhir_history",
        sa.Column("sequence", ID, autoincrement=False, nullable=False),
        sa.Column("resource_key", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.SmallInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.SmallInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["resource_key"], ["fhir_resource.key"], name=op.f("fk_fhir_history_resource_key")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_fhir_history")),
        sa.UniqueConstraint("resource_key", "version", name=op.f("uq_fhir_history_resource_key_version")),
    )
    op.create_index(op.f("ix_fhir_history_type_sequence"), "fhir_history", ["type", "sequence"], unique=False)
    op.create_table(
        "person_name",
        sa.Column("study_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attribute", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("suffix", KEY, nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_person_name_study_id")),
        sa.PrimaryKeyConstraint("study_id", "attribute", "suffix", name=op.f("pk_person_name")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_person_name_partition_key_attribute_suffix"),
        "person_name",
        ["partition_key", "attribute", "suffix"],
        unique=False,
    )
    op.create_table(
        "series",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.BigInteger(), nullable=False),
        sa.Column("series_uid", KEY, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=True),
        sa.Column("modality_key", KEY, nullable=True),
        sa.Column("performed_procedure_step_start_date", KEY, nullable=True),
        sa.Column("manufacturer_model_name", sa.Text(), nullable=True),
        sa.Column("manufacturer_model_name_key", KEY, nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_series_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("study_id", "series_uid", name=op.f("uq_series_study_id_series_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_series_partition_key_manufacturer_model_name_key_id"),
        "series",
        ["partition_key", "manufacturer_model_name_key", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_series_partition_key_modality_key_id"), "series", ["partition_key", "modality_key", "id"], unique=False
    )
    op.create_index(
        op.f("ix_series_partition_key_performed_procedure_step_start_date_id"),
        "series",
        ["partition_key", "performed_procedure_step_start_date", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_series_partition_key_series_uid_id"), "series", ["partition_key", "series_uid", "id"], unique=False
    )
    op.create_index(op.f("ix_series_study_id_modality_key"), "series", ["study_id", "modality_key"], unique=False)
    op.create_table(
        "instance",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.BigInteger(), nullable=False),
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("sop_uid", KEY, nullable=False),
        sa.Column("transfer_syntax", sa.Text(), nullable=False),
        sa.Column("file_key", sa.Text(), nullable=False),
        sa.Column("file_size", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_instance_series_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_instance_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint("series_id", "sop_uid", name=op.f("uq_instance_series_id_sop_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_instance_partition_key_sop_uid_id"), "instance", ["partition_key", "sop_uid", "id"], unique=False
    )
    op.create_index(op.f("ix_instance_study_id_id"), "instance", ["study_id", "id"], unique=False)
    op.create_table(
        "instance_content",
        sa.Column("instance_id", ID, autoincrement=False, nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.Column("frames", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_instance_content_instance_id")),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_instance_content")),
    )
    op.execute(f"INSERT INTO data_partition (name, created) VALUES ('Microsoft.Default', {time.time_ns() // 1000})")
    op.execute("INSERT INTO feed_head (id, sequence, timestamp) VALUES (1, 0, 0)")
