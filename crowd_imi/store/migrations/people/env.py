"""Alembic's entry for people.db."""

from crowd_imi.store.migrate import run_migrations

run_migrations("people")
