"""What every benchmark prints: figures, the goals for them, whether they are met, and where they were measured."""

import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

Figures = Mapping[str, float]
Goals = Mapping[str, Mapping[str, float]]
"""Figure → ``{"at_least": number}`` or ``{"at_most": number}``."""


def document(figures: Figures, goals: Goals, packages: Iterable[str], **more: object) -> dict[str, Any]:
    """One benchmark's JSON document.

    Args:
        figures: what was measured.
        goals: every one names a figure.
        packages: whose versions matter.
        more: further keys.
    """
    return {
        "figures": dict(figures),
        "goals": {name: dict(goal) for name, goal in goals.items()},
        "met": met(figures, goals),
        "machine": {"processors": os.cpu_count(), "architecture": platform.machine(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        **more,
    }


def met(figures: Figures, goals: Goals) -> bool:
    """Whether every goal is met; limits are inclusive."""
    return all(
        figures[name] >= limit if kind == "at_least" else figures[name] <= limit
        for name, goal in goals.items()
        for kind, limit in goal.items()
    )
