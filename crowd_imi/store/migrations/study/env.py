"""Alembic's entry for study.db."""

from crowd_imi.store.migrate import run_migrations

run_migrations("study")
