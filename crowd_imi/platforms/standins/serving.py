"""Where a running stand-in is found, and what it prints and writes once it listens."""

from crowd_imi.records import Record

SERVING_FILE = "serving.json"
"""In the stand-in's folder; gone when it was stopped, left over when it was killed."""


class StandinServing(Record):
    """``serving.json`` of a stand-in."""

    platform: str
    url: str
    """``http://127.0.0.1:PORT``."""
    pid: int
