"""Alembic's entry: runs the revisions on the connection that `lifecycle.postgres.migrate` opened.

There is no offline mode and no engine here: one way in, with one set of time-outs and one lock.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
