"""The link platform: participants whom the researcher invites, each by a signed link, or all by one open link.

A link leads to a first page (``/join``) with a button, and only that takes a place: the scanners of mail programs follow
every link in a message, and would begin visits whose time is over when the person comes.

Nothing here knows who anybody is. An invitation stands for a person by a keyed hash, and is stored once the person comes;
the list that the researcher keeps joins the two. No money moves either: what the books call approved is to be paid by the
lab.
"""

import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit, urlunsplit

from itsdangerous import BadSignature, URLSafeSerializer
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.errors import BadLink, NoPlace, PostingPaused
from crowd_imi.keys import keyed_hash
from crowd_imi.platforms.base import UNPAID_ENDINGS, Account, Ending, Finish, PlatformSubmission, PostingState
from crowd_imi.platforms.own_books import (
    HANDED_IN,
    OCCUPYING,
    BonusRow,
    OwnBooks,
    PaymentRow,
    PostingRow,
    SubmissionRow,
    as_submission,
    taken_places,
)
from crowd_imi.records import Money
from crowd_imi.store.clock import Clock
from crowd_imi.study import LinkSection

OPEN_LINK_WARNING = (
    "an open link can't tell whether somebody comes twice: who opens it again is a new participant, and is paid again"
)
"""Said wherever an open link is made."""

_PAIR = TypeAdapter(tuple[str, str])
_VISITOR = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Invitation:
    """What stands for one person, and the link that is sent to them."""

    id: str
    url: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one participant stands in the books."""

    status: str
    to_pay: Money
    """Reward and bonuses that were approved; the lab pays them."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What somebody who handed in is shown."""

    code: str
    participant: str


class LinkPlatform(OwnBooks):
    """Who is invited takes one place, whenever they come and however often they open their link.

    Args:
        path: the platform's SQLite file, made when missing.
        key: the study's; links are signed with it.
        section: ``[link]`` of study.toml.
        base_url: where the task pages are.
        clock: whose time the books show; a rehearsal hands its own in.
    """

    name = "link"

    def __init__(self, path: Path, key: bytes, section: LinkSection, base_url: str, clock: Clock | None = None) -> None:
        super().__init__(path, clock)
        self._key = key
        self._section = section
        self._base_url = base_url.rstrip("/")
        self._invitations = URLSafeSerializer(key, salt="invitation")
        self._open_links = URLSafeSerializer(key, salt="open link")
        self._completions = URLSafeSerializer(key, salt="completion")

    def account(self) -> Account:
        return Account(name="your own participants: no money moves, the books say whom you owe what", balance=None)

    # Links.

    def invite(self, posting: str, people: Sequence[str]) -> tuple[Invitation, ...]:
        """One invitation for each person: the same each time, and nothing of the person can be read from it.

        Raises:
            PlatformError: there is no such posting.
        """
        with self._read() as session:
            self._posting(session, posting)
        return tuple(self._invitation(posting, person) for person in people)

    def _invitation(self, posting: str, person: str) -> Invitation:
        invitation = keyed_hash(self._key, "invitation", person)[:16]  # of the study: nobody takes part under two postings
        token = str(self._invitations.dumps([posting, invitation]))
        return Invitation(invitation, f"{self._base_url}/join?{urlencode({'invitation': token})}")

    def open_link(self, posting: str) -> str | None:
        """The link for everybody; None when the study has none (``link.open``).

        Raises:
            PlatformError: there is no such posting.
        """
        with self._read() as session:
            self._posting(session, posting)
        if not self._section.open:
            return None
        return f"{self._base_url}/join?{urlencode({'open': str(self._open_links.dumps(posting))})}"

    def entry(self, query: Mapping[str, str]) -> dict[str, str]:
        """What the first page's button sends on to ``arrive``: of an open link, each visitor gets an id there.

        Raises:
            BadLink: nobody here signed the link.
            NoPlace: who comes has no place, and none is free.
        """
        entry = {name: query[name] for name in ("invitation", "open") if name in query}
        if "open" in entry:
            entry["visitor"] = secrets.token_hex(8)
        posting, participant = self._comer(entry)
        with self._read() as session:
            row = session.get(SubmissionRow, self._submission_id(posting, participant))
            if row is None or row.status not in OCCUPYING:
                _require_place(session, self._posting(session, posting))
        return entry

    def handed_in(self, query: Mapping[str, str]) -> str | None:
        """The submission of an invited person who has handed in, and opens the link again.

        Raises:
            BadLink: nobody here signed the link.
        """
        if "invitation" not in query:
            return None
        posting, participant = self._comer(query)
        with self._read() as session:
            row = session.get(SubmissionRow, self._submission_id(posting, participant))
        return row.id if row is not None and row.status in HANDED_IN else None

    def _comer(self, query: Mapping[str, str]) -> tuple[str, str]:
        """The posting and the participant of a link."""
        try:
            if "invitation" in query:
                posting, participant = _PAIR.validate_python(self._invitations.loads(query["invitation"]))
            elif "open" in query and self._section.open and _VISITOR.fullmatch(query.get("visitor", "")):
                posting = str(self._open_links.loads(query["open"]))
                # A hash, so that nobody can choose the id of somebody who was invited.
                participant = keyed_hash(self._key, "visitor", posting, query["visitor"])[:16]
            else:
                raise BadLink("the link holds no invitation of this study")
        except (BadSignature, ValidationError):
            raise BadLink("the link isn't one of this study's, or was changed on its way") from None
        with self._read() as session:
            if session.get(PostingRow, posting) is None:
                raise BadLink("the link belongs to no posting of the link platform")
        return posting, participant

    def _submission_id(self, posting: str, participant: str) -> str:
        """The same each time: as the submissions' primary key, it lets nobody in twice."""
        return keyed_hash(self._key, "submission", posting, participant)[:16]

    # The participant's way through.

    def arrive(self, query: Mapping[str, str]) -> PlatformSubmission:
        """The submission of who comes, with a place if it has none.

        One whose place was taken back (no task was free, or the time was over) takes a place again: the visit decides
        whether it may go on.

        Raises:
            BadLink: nobody here signed the link.
            NoPlace: who comes has no place, and none is free.
        """
        posting, participant = self._comer(query)
        submission = self._submission_id(posting, participant)
        with self._read() as session:
            row = session.get(SubmissionRow, submission)
            if row is not None and row.status in OCCUPYING:
                return as_submission(row)
        with self._write() as session:
            row = session.get(SubmissionRow, submission)
            if row is None:
                row = SubmissionRow(id=submission, posting_id=posting, participant=participant, status="", taken_at=0)
            if row.status not in OCCUPYING:
                _require_place(session, self._posting(session, posting))
                row.status, row.taken_at = "active", self._clock.now()
                session.add(row)
            return as_submission(row)

    def finish(self, submission: str, completion_code: str, ending: Ending = Ending.COMPLETED) -> Finish | None:
        """Who didn't begin gives the place back by this; everybody else hands in, and sees the posting's one code."""
        if ending in UNPAID_ENDINGS:
            self.give_back(submission)
            return None
        return Finish(url=self._hand_in(submission, completion_code if ending is Ending.COMPLETED else None))

    def _hand_in(self, submission: str, code: str | None = None) -> str:
        with self._write() as session:
            row = self._submission(session, submission)
            # Late ones count as well: their answers are stored, and they are paid.
            if row.status not in HANDED_IN:
                row.status = "awaiting_review"
            participant = row.participant
            code = code or self._posting(session, row.posting_id).completion_code
        if self._section.return_url is not None:
            return _with_parameters(self._section.return_url, code=code, participant=participant)
        token = str(self._completions.dumps(submission))
        return f"{self._base_url}/finished?{urlencode({'token': token})}"

    def finish_url(self, submission: str) -> str:
        """Where ``finish`` sends somebody who hands in."""
        return self._hand_in(submission)

    def completion(self, token: str) -> Completion:
        """What the last page shows to who handed in.

        Raises:
            BadLink: nobody here signed the token.
        """
        try:
            submission = str(self._completions.loads(token))
        except BadSignature:
            raise BadLink("this isn't a link to a last page of this study") from None
        with self._read() as session:
            row = session.get(SubmissionRow, submission)
            if row is None or row.status not in HANDED_IN:
                raise BadLink("nothing was handed in under this link")
            return Completion(self._posting(session, row.posting_id).completion_code, row.participant)

    # For the researcher.

    def standings(self, posting: str) -> dict[str, Standing]:
        """Invitation → where it stands; who hasn't come isn't listed.

        Raises:
            PlatformError: there is no such posting.
        """
        with self._read() as session:
            currency = self._posting(session, posting).currency
            rows = session.scalars(select(SubmissionRow).where(SubmissionRow.posting_id == posting)).all()
            owed: Counter[str] = Counter()
            for note in (*session.scalars(select(PaymentRow)), *session.scalars(select(BonusRow))):
                owed[note.submission_id] += note.amount
        return {row.participant: Standing(row.status, Money(amount=owed[row.id], currency=currency)) for row in rows}


def _require_place(session: Session, posting: PostingRow) -> None:
    if posting.state == PostingState.PAUSED:
        raise PostingPaused(f"posting {posting.id} is paused: it takes nobody new until it is resumed")
    if posting.state != PostingState.OPEN:
        raise NoPlace(f"posting {posting.id} is {posting.state}: it takes nobody new")
    if taken_places(session, posting.id) >= posting.places:
        raise NoPlace(f"posting {posting.id}: all of its {posting.places} places are taken")


def _with_parameters(url: str, **parameters: str) -> str:
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, urlencode(parameters)) if part)
    return urlunsplit(parts._replace(query=query))
