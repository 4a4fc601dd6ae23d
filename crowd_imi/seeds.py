"""Generators of randomness, one per purpose, all from the study's seed."""

import hashlib

import numpy as np


def seed_for(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, the same on every machine and Python version."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator for one purpose, e.g. ``generator(study.seed, "tasks", arm.id)``.

    Purposes don't share a stream, so that drawing more for one leaves the others as they were.
    """
    return np.random.default_rng(seed_for(seed, *purpose))
