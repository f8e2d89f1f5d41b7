"""the audit log, weights of aliases, requests to stop an engine

Revision 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

import models.database

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("created", models.database.UtcDateTime(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("key_id", sa.String(length=26), nullable=True),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("target", sa.String(length=255), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_target"), ["target"], unique=False)

    with op.batch_alter_table("aliases", schema=None) as batch_op:
        batch_op.add_column(sa.Column("weights", sa.JSON(none_as_null=True), nullable=True))
    with op.batch_alter_table("demands", schema=None) as batch_op:
        batch_op.add_column(sa.Column("wanted", sa.String(length=16), server_default="run", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("demands", schema=None) as batch_op:
        batch_op.drop_column("wanted")
    with op.batch_alter_table("aliases", schema=None) as batch_op:
        batch_op.drop_column("weights")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_target"))
    op.drop_table("audit")
