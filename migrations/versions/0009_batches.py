"""batches, and the key that each file belongs to

Revision 0009, after 0008.
"""

import sqlalchemy as sa
from alembic import op

from models.database import UtcDateTime

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=26), nullable=False),
        sa.Column("job", sa.String(length=26), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.JSON(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("times", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("expires", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_batches")),
        sa.UniqueConstraint("id", name=op.f("uq_batches_id")),
    )
    op.create_index(op.f("ix_batches_key_id"), "batches", ["key_id"])
    op.create_index("ix_batches_digest_created", "batches", ["digest", "created"])
    with op.batch_alter_table("files") as table:
        table.add_column(sa.Column("key_id", sa.String(length=26), server_default="", nullable=False))
        table.create_index(op.f("ix_files_key_id"), ["key_id"])


def downgrade() -> None:
    with op.batch_alter_table("files") as table:
        table.drop_index(op.f("ix_files_key_id"))
        table.drop_column("key_id")
    op.drop_table("batches")
