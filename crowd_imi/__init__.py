"""Measure how well people understand single units of vision models."""

__version__ = "0.1.0"
