"""Alembic's entry for study.db."""

from crowd_imi.store.migrate import run_migrations
from crowd_imi.store.tables import Base

run_migrations("study", Base.metadata)
