"""Ways in which books that are a file fail, by the file itself: nothing is patched in between."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

LOCKED_SECONDS = 0.3
FULL = "database or disk is full"


class BrokenBooks:
    """Another program that holds a SQLite file, or a file that takes no writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fail(self, *faults: str) -> None:
        """``locked``: somebody else writes for a while. ``write-refused``: no write is taken until this is called without."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as books:
            tables = [name for (name,) in books.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                for how in ("INSERT", "UPDATE"):
                    books.execute(f"DROP TRIGGER IF EXISTS refuse_{how}_{table}")
                    if "write-refused" in faults:
                        refusing = f"BEGIN SELECT RAISE(ABORT, '{FULL}'); END"
                        books.execute(f"CREATE TRIGGER refuse_{how}_{table} BEFORE {how} ON {table} {refusing}")
        if "locked" in faults:
            holds = threading.Event()
            threading.Thread(target=self._hold, args=(holds,), daemon=True).start()
            assert holds.wait(10)

    def _hold(self, holds: threading.Event) -> None:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as books:
            books.execute("BEGIN IMMEDIATE")
            holds.set()
            time.sleep(LOCKED_SECONDS)
            books.execute("ROLLBACK")

    def declare(self, submission: str, status: str) -> None:
        with closing(sqlite3.connect(self._path)) as books, books:
            books.execute("UPDATE submission SET status = ? WHERE id = ?", (status, submission))
