"""A crowd at the store's level: people arrive, answer, leave and hand in without pages, on a clock that tests move."""

from pathlib import Path

from sqlalchemy import event, select
from sqlalchemy.orm import Session

from crowd_imi.allocation import Arrival, arrive, hand_in
from crowd_imi.keys import completion_code, study_key
from crowd_imi.lifecycle import VisitState, move
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import SimulatedClock, Store, StoreKind
from crowd_imi.store.tables import Answer, Person, PracticeAnswer, Trial, Verdict, Visit
from crowd_imi.study import Study
from tests.tiny import STUDY_TOML, fake_plan, write_study

S = VisitState
START = 1_800_000_000_000
SMALL = STUDY_TOML.replace("units = 6\nnull = 2\nresponses = 3", "units = 6\nresponses = 2")
"""Two arms with two tasks each: four tasks of six main and two catch trials, 150 cents each, cap 5,000."""


def save(folder: Path, store: Store, platform: LocalPlatform) -> dict[Path, bytes]:
    """All databases of a folder as they are now."""
    store.close()
    platform.close()
    return {path: path.read_bytes() for path in folder.glob("*.db*")}


def restore(folder: Path, saved: dict[Path, bytes], store: Store, platform: LocalPlatform) -> None:
    """Back to what was saved; the engines stay, because their compiled statements are what takes time."""
    store.close()
    platform.close()
    for path in folder.glob("*.db*"):
        path.unlink()
    for path, content in saved.items():
        path.write_bytes(content)


def begin(session: Session, visit: Visit, now: int) -> None:
    """Consent, read, practise; ``visit`` is loaded in a transaction that writes."""
    for state in (S.CONSENTED, S.PRACTISING, S.ANSWERING):
        move(visit, state, now)
    visit.consented_at, visit.instructed_at, visit.practised_at = now, now + 30_000, now + 60_000
    session.add(practice(visit, 1, now, correct=True))


def practice(visit: Visit, block: int, now: int, *, correct: bool) -> PracticeAnswer:
    """A practice block's one answer."""
    given = {"position": 0, "trial": 0, "row": "upper", "confidence": 3, "rt_ms": 1500.0}
    return PracticeAnswer(visit_id=visit.id, block=block, correct=correct, at=now, **given)


def answer_all(session: Session, visit: Visit, now: int, *, good: bool = True) -> None:
    """Answer every trial; ``good`` passes every criterion, else catch trials fail."""
    given = {"choice": "max", "confidence": 2, "rt_ms": 2000.0, "shown_ms": 4000.0, "at": now}
    trials = session.scalars(select(Trial).where(Trial.task_id == visit.task_id).order_by(Trial.position)).all()
    for trial in trials:
        row, correct = ("upper", "lower")[trial.position % 2], good or trial.kind == "main"
        session.add(Answer(visit_id=visit.id, position=trial.position, row=row, correct=correct, **given))
    session.flush()


def dont_wait_for_the_disk(store: Store, platform: LocalPlatform | None = None) -> None:
    """Without fsync: nothing here is about a machine that loses its power, and waiting for the disk is most of a test's time."""
    for engine in (store._engine, store._people, *([] if platform is None else [platform._engine])):
        if engine.dialect.name == "sqlite":
            engine.dispose()
            event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))


def clock() -> SimulatedClock:
    return SimulatedClock(START)


class Crowd:
    """A posted rehearsal in a folder, and everybody who takes part in it."""

    def __init__(self, study: Study, store: Store) -> None:
        """Post the study; ``store`` is a rehearsal's with a clock from ``clock``."""
        assert isinstance(store.clock, SimulatedClock)
        self.folder, self.study, self.store, self.clock = study.folder, study, store, store.clock
        self.platform = LocalPlatform(study.folder / "local.db", self.clock)
        dont_wait_for_the_disk(store, self.platform)
        self.posting = launch(study, store, self.platform, Choice(pages_url="http://127.0.0.1:1"))

    @classmethod
    def posted(cls, folder: Path, toml: str = SMALL) -> "Crowd":
        """Write, plan and post a tiny study."""
        study = write_study(folder, toml)
        return cls(study, create_store(study, fake_plan(study), folder, StoreKind.REHEARSAL, clock()))

    def save(self) -> dict[Path, bytes]:
        """All databases as they are now."""
        return save(self.folder, self.store, self.platform)

    def restore(self, saved: dict[Path, bytes]) -> None:
        """Back to what was saved."""
        restore(self.folder, saved, self.store, self.platform)

    def pass_time(self, minutes: float) -> None:
        self.clock.set(self.clock.now() + int(minutes * 60_000))

    def take(self, name: str) -> str:
        """Take a place; the platform's submission."""
        return self.platform.take(self.posting.platform_id, name).id

    def arrive(self, name: str) -> Visit:
        """Take a place and come in."""
        submission = self.take(name)
        arrival = Arrival("local", name, submission, self.posting.id, self.clock.now())
        return arrive(self.store, self.study, arrival)

    def begin(self, visit: Visit) -> None:
        """Consent, read, practise: at the trials, 60 s later."""
        with self.store.write() as session:
            begin(session, session.get_one(Visit, visit.id), self.clock.now())

    def fail_practice(self, visit: Visit) -> None:
        """Three blocks, none of them right."""
        now = self.clock.now()
        with self.store.write() as session:
            row = session.get_one(Visit, visit.id)
            for state in (S.CONSENTED, S.PRACTISING, S.FAILED_PRACTICE):
                move(row, state, now)
            row.consented_at, row.instructed_at = now, now + 30_000
            session.add_all(practice(visit, block, now, correct=False) for block in (1, 2, 3))

    def decline(self, visit: Visit) -> None:
        with self.store.write() as session:
            move(session.get_one(Visit, visit.id), S.DECLINED, self.clock.now())

    def submit(self, visit: Visit, *, good: bool = True) -> None:
        """Answer everything and submit, 10 minutes later."""
        self.answer_all(visit, good=good)
        with self.store.write() as session:
            hand_in(session, session.get_one(Visit, visit.id), self.clock.now())

    def answer_all(self, visit: Visit, *, good: bool = True) -> None:
        """Answer everything, 10 minutes later; ``good`` passes every criterion, else catch trials fail."""
        now = self.clock.now() + 600_000
        self.clock.set(now)
        with self.store.write() as session:
            answer_all(session, session.get_one(Visit, visit.id), now, good=good)

    def hand_in(self, name: str) -> None:
        """Complete on the platform."""
        self.platform.complete(self.submission_of(name), completion_code(study_key(self.study.key), self.posting.id))

    def submission_of(self, name: str) -> str:
        return next(s.id for s in self.platform.submissions(self.posting.platform_id) if s.participant == name)

    def take_part(self, name: str, *, good: bool = True) -> Visit:
        """From the first click to the last."""
        visit = self.arrive(name)
        self.begin(visit)
        self.submit(visit, good=good)
        self.hand_in(name)
        return visit

    def visit(self, visit: Visit) -> Visit:
        """The visit as it is now."""
        with self.store.read() as session:
            return session.get_one(Visit, visit.id)

    def state(self, visit: Visit) -> tuple[str, str, bool]:
        """State, payment, and whether it holds its task."""
        now = self.visit(visit)
        return now.state, now.payment, now.holds_task

    def verdict(self, visit: Visit) -> Verdict | None:
        with self.store.read() as session:
            return session.get(Verdict, visit.id)

    def free(self) -> int:
        """Free places on the platform."""
        return sum(place.free for place in self.platform.open_places())

    def paid(self) -> int:
        """What the platform's own books say, in cents."""
        return sum(payment.reward.amount for payment in self.platform.payments())

    def outline(self) -> dict[str, object]:
        """Everything that a harvest may change, for comparing two ends; times and random ids left out."""
        with self.store.read() as session:
            names = {self.people()[visit.id]: visit for visit in session.scalars(select(Visit))}
            verdicts = {verdict.visit_id: (verdict.valid, verdict.surplus) for verdict in session.scalars(select(Verdict))}
        statuses = {s.participant: s.status for s in self.platform.submissions(self.posting.platform_id)}
        return {
            "visits": {n: (v.state, v.payment, v.holds_task, v.task_id, verdicts.get(v.id)) for n, v in names.items()},
            "statuses": statuses,
            "places": self.platform.places(self.posting.platform_id),
            "paid": self.paid(),
        }

    def people(self) -> dict[str, str]:
        """Visit id → participant's name."""
        with self.store.people() as people:
            return {person.visit_id: person.platform_participant for person in people.scalars(select(Person))}
