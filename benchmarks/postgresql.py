"""A PostgreSQL of one's own for a benchmark: on a socket in a temporary folder, with fsync on, gone at the end."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a server, and give the URL of its only database.

    Raises:
        RuntimeError: it isn't installed, or doesn't start.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = str(programs[-1]) if programs else shutil.which("initdb")
    if found is None:
        raise RuntimeError("this needs PostgreSQL; run `make install`, or install Debian's package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="imi-pg-"))  # a socket's path may have 107 characters
    owner = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    shutil.chown(folder, owner)

    def run(program: str, *arguments: str) -> None:
        command = [str(Path(found).parent / program), "-D", str(folder / "data"), *arguments]
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            command = ["runuser", "-u", owner, "--", *command]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}")

    try:
        run("initdb", "-U", "imi", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=on -c synchronous_commit=on -c max_connections=100"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://imi@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-m", "fast", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
