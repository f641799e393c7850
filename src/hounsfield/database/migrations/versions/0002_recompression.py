"""What an instance was before it was recompressed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("instance", sa.Column("received_syntax", sa.Text(), nullable=True))
    op.add_column("instance", sa.Column("received_size", sa.BigInteger(), nullable=True))
    op.add_column("instance", sa.Column("original_key", sa.Text(), nullable=True))
