"""Collects, checks, settles and replaces."""
