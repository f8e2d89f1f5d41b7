"""evals, their runs and output items, and the tool calls of answers

Revision 0007, after 0006.
"""

import sqlalchemy as sa
from alembic import op

from models.database import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("answers") as answers:
        answers.add_column(sa.Column("tool_calls", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "evals",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("updated", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_evals")),
        sa.UniqueConstraint("id", name=op.f("uq_evals_id")),
    )
    op.create_index("ix_evals_digest_created", "evals", ["digest", "created"])
    op.create_table(
        "eval_runs",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("eval_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("job", sa.String(length=26), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=True),
        sa.Column("task_hash", sa.String(length=64), nullable=True),
        sa.Column("evaluation_id", sa.String(length=26), nullable=True),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["eval_id"], ["evals.id"], name=op.f("fk_eval_runs_eval_id_evals")),
        sa.ForeignKeyConstraint(["task_hash"], ["tasks.hash"], name=op.f("fk_eval_runs_task_hash_tasks")),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluations.id"], name=op.f("fk_eval_runs_evaluation_id_evaluations")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_eval_runs")),
        sa.UniqueConstraint("id", name=op.f("uq_eval_runs_id")),
    )
    op.create_index("ix_eval_runs_digest_created", "eval_runs", ["digest", "created"])
    op.create_index("ix_eval_runs_eval_id_number", "eval_runs", ["eval_id", "number"])
    op.create_table(
        "eval_items",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=8), nullable=False),
        sa.Column("answer_id", sa.String(length=26), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["eval_runs.id"], name=op.f("fk_eval_items_run_id_eval_runs")),
        sa.ForeignKeyConstraint(["answer_id"], ["answers.id"], name=op.f("fk_eval_items_answer_id_answers")),
        sa.PrimaryKeyConstraint("run_id", "place", name=op.f("pk_eval_items")),
    )
    op.create_index("ix_eval_items_run_id_status", "eval_items", ["run_id", "status"])


def downgrade() -> None:
    op.drop_table("eval_items")
    op.drop_table("eval_runs")
    op.drop_table("evals")
    with op.batch_alter_table("answers") as answers:
        answers.drop_column("tool_calls")
