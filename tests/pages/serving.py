"""``crowd-imi serve`` in a process of its own, as tests start it."""

import json
import subprocess
import sys
from pathlib import Path

PATIENCE = 60


class Server:
    """``crowd-imi serve`` in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.log = folder / "server.log"
        command = [sys.executable, "-m", "crowd_imi", "--log-level", "debug", *options, "--json"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("}"):
                break
        if not lines:
            self.stop()
        assert lines, self.log.read_text()
        self.serving = json.loads("".join(lines))

    def workers(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def stop(self) -> int:
        self.process.terminate()
        status = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return status
