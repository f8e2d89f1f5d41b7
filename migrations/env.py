"""Alembic's door: runs the migrations over the connection that `models.database` hands in.

It imports the rooms' tables, so that a new migration can be written from what they say.
"""

from importlib import import_module

from alembic import context

from models.database import MIGRATIONS, Base

for room in ("models", "serve", "train", "evals", "ui"):
    if (MIGRATIONS.parent / room / "tables.py").is_file():
        import_module(f"{room}.tables")

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
