"""stored chat completions, and feedback on answers

Revision 0008, after 0007.
"""

import sqlalchemy as sa
from alembic import op

from models.database import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stored_completions",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("place", sa.String(length=26), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("key_id", sa.String(length=26), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("expires", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stored_completions")),
        sa.UniqueConstraint("place", name=op.f("uq_stored_completions_place")),
    )
    op.create_index(op.f("ix_stored_completions_model"), "stored_completions", ["model"])
    op.create_index(op.f("ix_stored_completions_expires"), "stored_completions", ["expires"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("key_id", sa.String(length=26), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("answer_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("correction", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("source_kind", sa.String(length=16), nullable=False),
        sa.Column("source_id", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
    )
    op.create_index(op.f("ix_feedback_answer_id"), "feedback", ["answer_id"])
    op.create_index("ix_feedback_key_id_idempotency_key", "feedback", ["key_id", "idempotency_key"], unique=True)


def downgrade() -> None:
    op.drop_table("feedback")
    op.drop_table("stored_completions")
