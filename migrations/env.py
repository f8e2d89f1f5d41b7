"""Alembic's environment: runs the migrations over the connection passed by `models.database`.

It imports the rooms' tables so that new migrations can be generated from them.
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
