"""A PostgreSQL of one's own, for benchmarks and tests: on a socket in a temporary folder, gone at the end."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Literal

from sqlalchemy import NullPool, create_engine, text


class PostgreSQL:
    """A server with one database; PostgreSQL refuses to run as root, so root starts it as another user."""

    def __init__(self, *, durable: bool) -> None:
        """Name a server; entering it makes and starts it.

        Args:
            durable: wait for the disk at every commit, as a real one does.

        Raises:
            RuntimeError: it isn't installed.
        """
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        found = str(programs[-1]) if programs else shutil.which("initdb")
        if found is None:
            raise RuntimeError("this needs PostgreSQL; run `make install`, or install Debian's package postgresql")
        self._programs = Path(found).parent
        self._folder = Path(tempfile.mkdtemp(prefix="imi-pg-"))  # a socket's path may have 107 characters
        self._owner = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        shutil.chown(self._folder, self._owner)
        safety = "on" if durable else "off"
        settings = f"-c listen_addresses='' -c fsync={safety} -c synchronous_commit={safety} -c max_connections=100"
        self._options = f"-k {self._folder} {settings}"
        self.url = f"postgresql+psycopg://imi@/postgres?host={self._folder}"

    def __enter__(self) -> "PostgreSQL":
        try:
            self._run("initdb", "-U", "imi", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            self.start()
        except RuntimeError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", self._options, "start")

    def stop(self, how: Literal["fast", "immediate"]) -> None:
        """Stop it: ``fast`` ends every connection; ``immediate`` is a crash, which the next start recovers from."""
        self._run("pg_ctl", "-m", how, "stop")

    def new_schema(self) -> str:
        """Make an empty schema.

        Returns:
            Its URL.
        """
        name = f"t{uuid.uuid4().hex}"
        # No connection is kept, as some tests end every connection.
        server = create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with server.connect() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        return f"{self.url}&options=-csearch_path%3D{name}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", self._owner, "--", *command]
        done = subprocess.run(command, cwd=self._folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}")
