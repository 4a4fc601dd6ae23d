"""Lays out tasks and mints sprites."""
