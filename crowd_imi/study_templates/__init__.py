"""Commented study.toml files to start from: ``default``, ``demo`` and ``imi`` (the published experiment)."""

from enum import StrEnum
from pathlib import Path


class TemplateName(StrEnum):
    """Which file to start from."""

    DEFAULT = "default"
    DEMO = "demo"
    """What `crowd-imi demo` runs."""
    IMI = "imi"
    """Zimmermann, Klein & Brendel 2023: nine models, 23 arms."""


def template(name: TemplateName) -> str:
    """The text of a commented study.toml."""
    return (Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8")
