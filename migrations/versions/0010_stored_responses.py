"""stored responses beside stored chat completions, and the response that each one continues

Revision 0010, after 0009.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "stored_completions", sa.Column("kind", sa.String(length=16), nullable=False, server_default="completion")
    )
    op.add_column("stored_completions", sa.Column("previous_id", sa.String(length=255), nullable=True))


def downgrade() -> None:
    op.execute("DELETE FROM stored_completions WHERE kind <> 'completion'")
    op.drop_column("stored_completions", "previous_id")
    op.drop_column("stored_completions", "kind")
