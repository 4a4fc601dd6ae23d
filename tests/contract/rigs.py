"""A platform with both of its sides, as the contract suite wants it: the adapter here, its people and books there."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from crowd_imi.platforms.base import Ending, Finish, Platform, PostingRequest
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.records import Money
from tests.contract.books import BrokenBooks
from tests.contract.link import link
from tests.contract.mturk import mturk
from tests.contract.prolific import prolific

CURRENCY = "USD"
REWARD = 150
CODE = "C0DE123456"
OTHER_CODES = {Ending.NO_CONSENT: "N0C0NSENT", Ending.FAILED_PRACTICE: "PRACT1CE", Ending.INCOMPATIBLE_DEVICE: "DEV1CE"}
ARRIVAL = "https://pages.example.org/arrive"


def request(intent: str = "intent-1", places: int = 3) -> PostingRequest:
    return PostingRequest(
        intent=intent,
        title="Which image fits?",
        description="Look at pictures and choose which of two fits better, 45 times.",
        arrival_url=ARRIVAL,
        reward=Money(amount=REWARD, currency=CURRENCY),
        places=places,
        minutes=10.0,
        completion_code=CODE,
        other_codes=OTHER_CODES,
    )


class Rig(Protocol):
    """One platform under test."""

    platform: Platform

    def again(self) -> Platform:
        """Another adapter for the same platform, as a process that is started after a crash makes it."""
        ...

    def take(self, posting: str, participant: str) -> dict[str, str]:
        """Somebody takes a place; returns the parameters of the link that they follow."""
        ...

    def hand_in(self, query: dict[str, str]) -> None:
        """Somebody hands in, as the adapter's ``finish`` says."""
        ...

    def follow(self, query: dict[str, str], finish: Finish) -> None:
        """Somebody's browser goes where the pages send it at the end."""
        ...

    def leave(self, query: dict[str, str]) -> None:
        """Somebody gives the place back."""
        ...

    def postings(self) -> list[str]:
        """Ids of all postings in the platform's own books."""
        ...

    def rewards(self) -> dict[str, int]:
        """Submission → minor units paid for it, by the platform's own books."""
        ...

    def bonuses(self) -> list[tuple[str, int]]:
        """(submission, minor units) of every bonus in the platform's own books."""
        ...

    def fail(self, *faults: str) -> None:
        """Let the next requests of the adapter fail, one fault each, of ``FAULTS``; none ends what was begun."""
        ...

    def declare(self, submission: str, status: str) -> None:
        """Give a submission a status of the platform's own that nobody here has heard of."""
        ...


BY_NETWORK = ("throttle", "error", "cut-before", "cut-after")
BY_FILE = ("locked", "write-refused")
FAULTS = {"prolific": BY_NETWORK, "mturk": BY_NETWORK, "local": BY_FILE, "link": BY_FILE}
"""What can go wrong between an adapter and its platform. Books that are a file may be locked for a while, or refuse a write, as a
full disk does. An answer from a file can't get lost without its reader: such deaths are in tests/harvester/test_killed.py."""


class LocalRig:
    """The local platform: its books are a file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "local.db"
        self._books = BrokenBooks(self._path)
        self.platform = LocalPlatform(self._path)
        self.platform.set_base_url("http://127.0.0.1:1")

    def again(self) -> Platform:
        return LocalPlatform(self._path)

    def take(self, posting: str, participant: str) -> dict[str, str]:
        taken = self.platform.take(posting, participant)
        return {"participant": participant, "submission": taken.id, "posting": posting}

    def hand_in(self, query: dict[str, str]) -> None:
        self.platform.finish(query["submission"], CODE)
        self.platform.complete(query["submission"], CODE)

    def follow(self, query: dict[str, str], finish: Finish) -> None:
        self.platform.complete(query["submission"], parse_qs(urlsplit(finish.url).query)["code"][0])

    def leave(self, query: dict[str, str]) -> None:
        self.platform.give_back(query["submission"])

    def postings(self) -> list[str]:
        return [place.posting for place in self.platform.listed_places()]

    def rewards(self) -> dict[str, int]:
        return {payment.submission: payment.reward.amount for payment in self.platform.payments()}

    def bonuses(self) -> list[tuple[str, int]]:
        return [
            (submission.id, bonus.amount.amount)
            for posting in self.postings()
            for submission in self.platform.submissions(posting)
            for bonus in self.platform.bonuses(submission.id)
        ]

    def fail(self, *faults: str) -> None:
        self._books.fail(*faults)

    def declare(self, submission: str, status: str) -> None:
        self._books.declare(submission, status)


@contextmanager
def local(folder: Path) -> Iterator[Rig]:
    rig = LocalRig(folder)
    yield rig
    rig.fail()
    rig.platform.close()


RIGS: dict[str, Callable[[Path], AbstractContextManager[Rig]]] = {
    "local": local,
    "link": link,
    "prolific": prolific,
    "mturk": mturk,
}
"""Every platform; a new one is entered here."""
