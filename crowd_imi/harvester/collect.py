"""What the platform says now: everything, or, between two times of reading everything, only what it told by itself.

Events are hints: each names a submission to look at, may come twice, in any order, or never. So nothing is concluded from an
event itself, and every submission is read again at the stated interval.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crowd_imi.errors import PlatformError, Unreachable
from crowd_imi.harvester.elsewhere import note_untold
from crowd_imi.keys import study_key
from crowd_imi.platforms.base import Platform, PlatformSubmission
from crowd_imi.store import Store
from crowd_imi.store.notices import Notices, note, submission_mark, take_untaken, untaken
from crowd_imi.store.submissions import settled_visits, submission_ids
from crowd_imi.study import Study

if TYPE_CHECKING:
    from crowd_imi.platforms.mturk.notifications import Notice as TurkNotice
    from crowd_imi.platforms.mturk.notifications import NoticeQueue

HANDED_IN = "AssignmentSubmitted"
"""Mechanical Turk's word for what is listed from then on."""


@dataclass(slots=True)
class Known:
    """What earlier rounds of this process read; a new process begins by reading everything."""

    listed: dict[str, dict[str, PlatformSubmission]] = field(default_factory=dict)
    """Posting (the platform's id) → submission → what the platform said of it."""

    def read(self, platform: Platform, posting: str, told: Collection[str] | None) -> dict[str, PlatformSubmission]:
        """A posting's submissions.

        Args:
            platform: is asked.
            posting: its id there.
            told: read these anew and take the others as they were; None reads all.

        Raises:
            PlatformError: the platform can't be read.
        """
        before = self.listed.get(posting)
        if told is None or before is None:
            found = {submission.id: submission for submission in platform.submissions(posting)}
        else:
            found = dict(before)
            for identity in sorted(told):
                submission = _one(platform, identity)
                if submission is not None and submission.posting == posting:
                    found[identity] = submission
        self.listed[posting] = found
        return found


class Inbox:
    """Where events come in: what the pages' server has written down, and for Mechanical Turk an SQS queue.

    Args:
        study: by whose key submissions are known in notices.
        store: its.
        platform: where it is posted.
        queue: asked for more each time.
    """

    def __init__(self, study: Study, store: Store, platform: Platform, queue: "NoticeQueue | None" = None) -> None:
        self._key, self._store, self._platform, self._queue = study_key(study.key), store, platform, queue
        self._waiting = Notices(frozenset(), frozenset())

    def news(self) -> frozenset[str]:
        """The submissions that something was told about since rounds looked at them.

        Events of submissions without a visit (somebody has taken a place and isn't here yet) say nothing that can't wait, and
        those of submissions that are paid and approved say what we have just done. Those of another study's postings are counted.

        Raises:
            Unreachable: the queue gave no answer; what is written down here already is known all the same.
        """
        try:
            if self._queue is not None:
                with self._queue.taken() as notices:
                    self._write_down(notices)
        finally:
            with self._store.read() as session:
                self._waiting = untaken(session)
        if not self._waiting.ids:
            return frozenset()
        with self._store.people() as people:
            ids = submission_ids(people, self._platform.name)
        with self._store.read() as session:
            settled = settled_visits(session)
        open_ones = (submission for visit, submission in ids.items() if visit not in settled)
        about = frozenset(one for one in open_ones if submission_mark(self._key, one) in self._waiting.submissions)
        if not about:
            self.looked()
        return about

    def _write_down(self, notices: "Sequence[TurkNotice]") -> None:
        if not notices:
            return
        with self._store.people() as people:
            here = set(submission_ids(people, self._platform.name).values())
        for notice in notices:
            if notice.event == HANDED_IN or notice.submission in here:
                note(self._store, self._key, notice.mark, notice.submission)
            else:
                note_untold(self._store, self._key, notice.mark)

    def looked(self) -> None:
        """A round that began after ``news`` is through: what was told by then needn't be looked at again."""
        if self._waiting.ids:
            with self._store.write() as session:
                take_untaken(session, self._waiting, self._store.now())


def _one(platform: Platform, submission: str) -> PlatformSubmission | None:
    try:
        return platform.submission(submission)
    except Unreachable:
        raise
    except PlatformError:  # Mechanical Turk doesn't show who is still at it
        return None
