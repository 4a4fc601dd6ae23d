"""What is killed: publishing, harvesting and paying, each in a process of its own, behind a line that is listened to.

``python -m tests.acceptance.killable`` imports what they need and then forks a process for every job, because importing takes
seconds. Such a process tells the line of every write to its databases, before and after the commit: at these moments it may
be killed too.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from http.client import HTTPConnection
from pathlib import Path
from threading import Condition, Event
from typing import Literal
from urllib.parse import urlsplit

from sqlalchemy import event
from sqlalchemy.orm import Session

from benchmarks.line import Cut, Side
from crowd_imi.errors import CrowdImiError, Undecidable
from crowd_imi.harvester import harvest
from crowd_imi.harvester.bonus_list import pay_out, plan_payout
from crowd_imi.harvester.money import Compensation, pay
from crowd_imi.plan import load_plan
from crowd_imi.platforms import mturk, prolific
from crowd_imi.platforms.opening import Choice, PlatformName, open_platform
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.records import Money
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.study import load_study

DONE, FAILED, UNDECIDABLE = 0, 1, 3
ADAPTERS = (mturk, prolific)
"""Imported here, so that not every process has to."""
PAGES = "https://pages.example.org"
REPOSITORY = Path(__file__).parents[2]
SOON = 60
"""Seconds that a machine under load may take for what is done at once."""


@dataclass(frozen=True, slots=True)
class Job:
    """One command, as it is given again after every death."""

    do: Literal["publish", "harvest", "pay", "pay-list"]
    folder: str
    platform: PlatformName
    endpoint: str
    """The line's address."""
    visit: str = ""
    name: str = ""
    amount: int = 0
    """Of a bonus, in cents."""
    file: str = ""
    """A list of bonuses."""


@dataclass(frozen=True, slots=True)
class Life:
    """How a process ended."""

    code: int
    said: str
    """Its error."""
    moments: int
    killed_at: str | None
    """The moment's name, when it was killed."""


def main() -> None:
    """Fork a process for each line that comes in; say its number, and then how it ended."""
    _warm_up()
    for line in sys.stdin:
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(reading)
            _live(Job(**json.loads(line)), writing)
        os.close(writing)
        _say(process)
        with os.fdopen(reading) as said:
            error = said.read()
        _say([os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), error])


def _warm_up() -> None:
    """What a process does once: load the schema's revisions, put together the mappings."""
    with tempfile.TemporaryDirectory() as folder:
        about = {"study": "none", "plan_sha256": "", "pack_sha256": ""}
        Store.create(*database_urls(Path(folder)), StoreKind.STUDY, about).close()
        Store.open(*database_urls(Path(folder))).close()


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _live(job: Job, said: int) -> None:
    code = DONE
    try:
        _tell_of_commits(job.endpoint)
        work(job)
    except CrowdImiError as error:
        code = UNDECIDABLE if isinstance(error, Undecidable) else FAILED
        os.write(said, f"{type(error).__name__}: {error}".encode())
    except BaseException as error:
        code = FAILED
        os.write(said, repr(error).encode())
    finally:
        os._exit(code)


def _tell_of_commits(endpoint: str) -> None:
    """Each time something was written to a database, before and after its commit."""
    line = HTTPConnection(urlsplit(endpoint).netloc)

    def tell(moment: str) -> None:
        line.request("GET", f"/moment/{moment}")
        line.getresponse().read()

    def written(session: Session, _context: object) -> None:
        session.info["written"] = True
        tell("written")

    def committed(session: Session) -> None:
        if session.info.pop("written", False):
            tell("committed")

    event.listen(Session, "after_flush", written)
    event.listen(Session, "after_commit", committed)


def work(job: Job) -> None:
    """What the command line does, without asking."""
    folder = Path(job.folder)
    study = load_study(folder)
    choice = Choice(name=job.platform, pages_url=PAGES, endpoint_url=job.endpoint)
    platform = open_platform(study, folder, choice)
    if job.do == "publish" and not study.database.exists():
        store = create_store(study, load_plan(study.plan), folder, StoreKind.STUDY)
    else:
        store = Store.open(*database_urls(folder))
    match job.do:
        case "publish":
            launch(study, store, platform, choice)
        case "harvest":
            done = harvest(study, store, platform)
            if done.refused:
                raise CrowdImiError("; ".join(done.refused))
        case "pay":
            money = Money(amount=job.amount, currency="USD")
            pay(study, store, platform, Compensation(job.visit, money, job.name, "Thank you."))
        case "pay-list":
            pay_out(study, store, platform, plan_payout(study, store, platform, Path(job.file)))


class Death:
    """Listens to a line, and kills the process behind it at a moment; without one it lets it live.

    Args:
        at: the moment's number, counted from 1.
        name: the first moment whose name matches this pattern of ``fnmatch``.
        on_the_way: the request at which it is killed isn't cut but held back until ``arrive``.
    """

    def __init__(self, at: int | None = None, *, name: str = "", on_the_way: bool = False) -> None:
        self._at, self._name, self.on_the_way = at, name, on_the_way
        self.moments = 0
        self.killed_at: str | None = None
        self.names: list[str] = []
        self._process: int | None = None
        self._changed = Condition()
        self._passed_on = 0
        self._arrives = Event()

    def begin(self, process: int) -> None:
        """The process that is to be killed."""
        with self._changed:
            self._process = process
            self._changed.notify_all()

    def __call__(self, side: Side, name: str) -> None:
        """One moment.

        Raises:
            Cut: the process is dead.
        """
        is_request = "/moment/" not in name
        with self._changed:
            if is_request and side == "after":
                self._passed_on -= 1
                self._changed.notify_all()
            if self.killed_at is not None:
                raise Cut
            self.moments += 1
            self.names.append(f"{side} {name}")
            if self.moments != self._at and not fnmatchcase(f"{side} {name}", self._name):
                self._passed_on += is_request and side == "before"
                return
            assert self._changed.wait_for(lambda: self._process is not None, SOON)
            assert self._process is not None
            os.kill(self._process, signal.SIGKILL)
            self.killed_at = f"{side} {name}"
            if not (self.on_the_way and is_request and side == "before"):
                raise Cut
            self._passed_on += 1
        assert self._arrives.wait(SOON)

    def arrive(self) -> None:
        """Let the request that was held back arrive now, long after its sender's death, and be answered."""
        self._arrives.set()
        self.wait_for_answers()

    def wait_for_answers(self) -> None:
        """Until the server has answered what was passed on to it."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._passed_on == 0, SOON)


class Mother:
    """Starts the processes.

    Args:
        environment: where they find the tokens.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "tests.acceptance.killable"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, **pipes, text=True, cwd=REPOSITORY, env={**os.environ, **environment})

    def live(self, job: Job, death: Death) -> Life:
        """Let a process do a job until it has ended or is killed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        death.begin(self._read())
        code, said = self._read()
        if not death.on_the_way:
            death.wait_for_answers()
        assert (code == -signal.SIGKILL) == (death.killed_at is not None), said
        return Life(code, said, death.moments, death.killed_at)

    def _read(self):  # what ``_say`` said
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=SOON)


if __name__ == "__main__":
    main()
