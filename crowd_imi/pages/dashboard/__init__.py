"""The dashboard: how a study goes, live, for the people who run it. An app and a port of its own, which changes nothing."""

from crowd_imi.pages.dashboard.app import create_app, require_password
from crowd_imi.pages.dashboard.snapshot import Snapshot, take_snapshot

__all__ = ["Snapshot", "create_app", "require_password", "take_snapshot"]
