"""Posting a study: its store, its frozen lock and its places on a platform."""
