"""The first schema."""

from alembic import op

from hounsfield.database.schema import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())
    op.execute("INSERT INTO data_partition (name, created) VALUES ('Microsoft.Default', 0)")
    op.execute("INSERT INTO feed_head (id, sequence, timestamp) VALUES (1, 0, 0)")
