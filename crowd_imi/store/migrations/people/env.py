"""Alembic's entry for people.db."""

from crowd_imi.store.migrate import run_migrations
from crowd_imi.store.tables import PeopleBase

run_migrations("people", PeopleBase.metadata)
