"""The real server as a child process: started, waited for, killed without warning, started again at the same address."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import requests

from crowd_imi.errors import RehearsalError
from crowd_imi.records import Serving
from crowd_imi.rehearsal.records import LeakName

PATIENCE = 60.0
"""Seconds until a server that doesn't answer is given up."""


class Server:
    """The pages and the list of places of one rehearsal, in a process group of their own."""

    def __init__(self, study: Path, name: str, leak: LeakName | None = None, *, port: int = 0) -> None:
        """Name a server; ``start`` starts it.

        Args:
            study: the study's folder.
            name: of the rehearsal.
            leak: planted in front of the pages, for the positive control.
            port: of the pages; 0 lets the system choose.
        """
        self.log = study / "rehearsals" / name / "server.log"
        self._note = study / "rehearsals" / name / "serving.json"
        self.pages_url = ""
        self.places_url = ""
        self._study = study
        self._name = name
        self._leak = leak
        self._ports = (port, 0)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until both addresses answer; the second time it takes the ports it had.

        Raises:
            RehearsalError: it doesn't come up.
        """
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        serving = self._wait_for_note(self._process)
        self.pages_url, self.places_url = serving.pages, serving.places or ""
        served = [url for url in (self.pages_url, self.places_url) if url]
        self._ports = (_port(self.pages_url), _port(self.places_url) if self.places_url else 0)
        for url in served:
            self._wait_for(self._process, f"{url}/health")

    def kill(self) -> None:
        """SIGKILL for the whole process group, as a machine that loses power does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end at once, then insist."""
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        group = process.pid
        _signal(group, how)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _signal(group, signal.SIGKILL)
            process.wait(timeout=10)

    def _command(self) -> Sequence[str]:
        pages, places = self._ports
        ports = ["--port", str(pages), "--places-port", str(places)]
        if self._leak is not None:
            module = "crowd_imi.rehearsal.leaking_server"
            return [sys.executable, "-m", module, str(self._study), self._name, self._leak, *ports]
        return [sys.executable, "-m", "crowd_imi", "serve", str(self._study), "--rehearsal", self._name, *ports, "--workers", "1"]

    def _wait_for_note(self, process: subprocess.Popen[bytes]) -> Serving:
        """What this very process wrote about itself; one that was killed leaves its note behind."""
        begin = time.monotonic()
        while time.monotonic() - begin < PATIENCE:
            self._check(process)
            if self._note.exists():
                serving = Serving.model_validate_json(self._note.read_bytes())
                if serving.pid == process.pid:
                    return serving
            time.sleep(0.05)
        raise RehearsalError(f"the server didn't listen within {PATIENCE:.0f} s; see {self.log}{self._tail()}")

    def _wait_for(self, process: subprocess.Popen[bytes], url: str) -> None:
        begin = time.monotonic()
        while time.monotonic() - begin < PATIENCE:
            self._check(process)
            try:
                if requests.get(url, timeout=5).ok:
                    return
            except requests.RequestException:
                pass  # it listens, but no worker is up yet
            time.sleep(0.05)
        raise RehearsalError(f"{url} didn't answer within {PATIENCE:.0f} s; see {self.log}{self._tail()}")

    def _check(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is not None:
            raise RehearsalError(f"the server ended with status {process.returncode}; see {self.log}{self._tail()}")

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return f" (last line: {lines[-1]})" if lines else ""


def _signal(group: int, how: signal.Signals) -> None:
    try:
        os.killpg(group, how)
    except ProcessLookupError:
        return


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1].rstrip("/"))
