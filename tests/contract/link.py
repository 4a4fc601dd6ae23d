"""The link platform: its books are a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from crowd_imi.platforms.base import Finish, Platform
from crowd_imi.platforms.link import LinkPlatform
from crowd_imi.study import LinkSection
from tests.contract.books import BrokenBooks

if TYPE_CHECKING:
    from tests.contract.rigs import Rig


class LinkRig:
    """Everybody is invited; who follows the link takes a place."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "link.db"
        self._books = BrokenBooks(self._path)
        self.platform = self._open()

    def _open(self) -> LinkPlatform:
        return LinkPlatform(self._path, b"the key of a study", LinkSection(), "https://pages.example.org")

    def again(self) -> Platform:
        return self._open()

    def take(self, posting: str, participant: str) -> dict[str, str]:
        [invitation] = self.platform.invite(posting, [participant])
        return self.platform.entry(dict(parse_qsl(urlsplit(invitation.url).query)))

    def hand_in(self, query: dict[str, str]) -> None:
        self.platform.finish_url(self.platform.arrive(query).id)

    def follow(self, query: dict[str, str], finish: Finish) -> None:
        """The books know of it already."""

    def leave(self, query: dict[str, str]) -> None:
        self.platform.give_back(self.platform.arrive(query).id)

    def postings(self) -> list[str]:
        return list(self.platform.postings())

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
def link(folder: Path) -> "Iterator[Rig]":
    rig = LinkRig(folder)
    yield rig
    rig.fail()
    rig.platform.close()
