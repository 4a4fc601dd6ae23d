"""The command line, ``crowd-imi``: a thin layer over the stages."""

from crowd_imi.cli.app import main

__all__ = ["main"]
