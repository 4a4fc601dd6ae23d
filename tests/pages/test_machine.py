"""Every order of what can happen in a visit: answers, reloads, second tabs, timeouts, returns, and others who want its task.

The study has one task, so whoever else comes gets the one that the visit has lost, or none.

After each step, whatever came before it:

1. Stored answers are those that were acknowledged, in order, one row each, unchanged; the same holds for practice.
2. No reply is a 5xx; every refusal has a code and a sentence, and stores nothing.
3. The view says the same as the store: how many answers, how many right, and the layout that was shown first.
4. A tab that isn't the newest can do nothing.
5. The task is held by one visit at most, also by a late one that wants it back, and a visit's state only moves along
   ``lifecycle.FOLLOWS``. Whoever comes is let in if nobody holds it or finished it late, and only then.
6. A visit is submitted only when everything is answered, and once.

At the end the visit, if it isn't over, can be finished.
"""

import copy
import itertools

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import and_, delete, event, func, or_, select, update

from crowd_imi.allocation import release_expired
from crowd_imi.lifecycle import FOLLOWS, HOLDS_TASK, UNDER_WAY, VisitState, move
from crowd_imi.pages.pace import Pace
from crowd_imi.store.tables import Answer, Event, PageTime, Person, PracticeAnswer, Visit
from tests.pages.visitor import Visitor, right_row, wrong_row
from tests.tiny import STUDY_TOML

EXAMPLES, STEPS = 50, 15
SOAK_EXAMPLES, SOAK_BATCHES = 10_000, 4
TWO_ARMS = STUDY_TOML[STUDY_TOML.index("[[arms]]") : STUDY_TOML.index("[panels]")]
ONE_ARM = '[[arms]]\nmodel = "toy"\ncondition = "natural"\nunits = 2\nresponses = 1\n\n'
SHORT = (
    STUDY_TOML.replace(TWO_ARMS, ONE_ARM)
    .replace("trials = 6\ncatch = 2", "trials = 2\ncatch = 1")
    .replace("min_row_choices = 1", "min_row_choices = 0")
)
"""One task of three trials."""
TRIALS = 3
OVER = ("declined", "failed_practice", "done", "incompatible")
TABLES = (Answer, PracticeAnswer, Event, PageTime, Visit)

rows = st.sampled_from(["upper", "lower"])
confidences = st.integers(1, 3)


class Machine(RuleBasedStateMachine):
    """One visit of one participant, who may open it again, and others beside it; ``run`` is set by the test."""

    run = None
    names = itertools.count()
    lost_to_others = 0
    """Visits that were submitted late, when somebody else had their task."""

    @initialize()
    def arrive(self):
        self.name = f"person-{next(self.names)}"
        self.submission = self.run.take(self.name)
        self.taken = [self.submission]
        self.tab = Visitor(self.run.app)
        assert self.tab.arrive(self.name, self.submission, self.run.posting).status_code == 303
        with self.run.store.read() as session:
            self.visit = session.scalars(select(Visit.id)).one()
        self.neighbour = None
        self.old = []
        self.answers, self.practice = [], []
        self.layout, self.state, self.submitted_at = None, "arrived", None

    def teardown(self):
        if getattr(self, "tab", None) is not None:
            self.finish()
            with self.run.store.write() as session:
                for table in TABLES:
                    session.execute(delete(table))
            with self.run.store.people() as people:
                people.execute(delete(Person))
            for submission in self.taken:
                self.run.platform.release(submission)

    def ask(self, send, tab=None):
        """One request; what is refused has a reason and changes nothing."""
        reply = send(tab or self.tab)
        assert reply.status_code < 500, reply.text
        if reply.status_code >= 400:
            assert reply.json["code"] and reply.json["error"].endswith("."), reply.text
        return reply

    def view(self):
        reply = self.ask(lambda tab: tab.get("/api/visit"))
        return reply.json if reply.status_code == 200 else None

    @rule(agree=st.booleans())
    def consent(self, agree):
        view = self.view()
        if view is not None:
            body = {"agree": agree, "version": view["texts"]["consent"]["version"]}
            self.ask(lambda tab: tab.post("/api/consent", body))

    @rule()
    def agree(self):
        self.consent(True)

    @rule()
    def read_instructions(self):
        self.ask(Visitor.read_instructions)

    @rule(right=st.booleans())
    def practise(self, right):
        view = self.view()
        if view is None or not view["practice"]:
            return
        block, position = view["practice"], view["practice"]["position"]
        row = (right_row if right else wrong_row)(block["trials"][position])
        if self.ask(lambda tab: tab.practise(block, position, row)).status_code == 200:
            self.practice.append((block["block"], position, row))

    @rule()
    def practise_well(self):
        for _ in range(5):
            self.practise(True)

    @rule()
    def come_to_the_trials(self):
        self.agree()
        self.read_instructions()
        self.practise_well()

    @rule(row=rows, confidence=confidences)
    def answer(self, row, confidence):
        reply = self.ask(lambda tab: tab.answer(len(self.answers), row, confidence))
        if reply.status_code == 200:
            self.answers.append((row, confidence))
            assert reply.json["answered"] == len(self.answers)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def answer_again(self, data):
        position = data.draw(st.integers(0, len(self.answers) - 1))
        reply = self.ask(lambda tab: tab.answer(position, *self.answers[position]))
        assert reply.status_code == (200 if self.view() else reply.status_code)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def change_an_answer(self, data):
        position = data.draw(st.integers(0, len(self.answers) - 1))
        row, confidence = self.answers[position]
        other = data.draw(st.sampled_from([("lower" if row == "upper" else "upper", confidence), (row, confidence % 3 + 1)]))
        assert self.ask(lambda tab: tab.answer(position, *other)).status_code in (409, 410)

    @rule(ahead=st.integers(1, 50), row=rows)
    def skip(self, ahead, row):
        assert self.ask(lambda tab: tab.answer(len(self.answers) + ahead, row)).status_code in (409, 410)

    @rule()
    def submit(self):
        reply = self.ask(lambda tab: tab.post("/api/submit", {"feedback": "fine"}))
        assert reply.status_code != 200 or len(self.answers) == TRIALS

    @rule()
    def reload(self):
        self.view()

    @rule()
    def second_tab(self):
        other = Visitor(self.run.app)
        if other.arrive(self.name, self.submission, self.run.posting).status_code == 303:
            self.old.append(self.tab)
            self.tab = other

    @precondition(lambda self: self.old)
    @rule(data=st.data(), row=rows)
    def use_an_old_tab(self, data, row):
        old = data.draw(st.sampled_from(self.old))
        sends = [lambda tab: tab.get("/api/visit"), lambda tab: tab.answer(len(self.answers), row), Visitor.read_instructions]
        reply = self.ask(data.draw(st.sampled_from(sends)), old)
        assert (reply.status_code, reply.json["code"]) == (401, "ended")

    @rule()
    def time_out(self):
        with self.run.store.write() as session:
            release_expired(session, 0, self.run.store.now() + 1)

    @rule()
    def give_back(self):
        self.leave(Visit.id == self.visit)

    @rule()
    def somebody_else_comes(self):
        finished = select(Answer.visit_id).group_by(Answer.visit_id).having(func.count() == TRIALS)
        # An arrival first takes in who answered everything late, and gives back the task.
        may_hold = or_(Visit.holds_task, and_(Visit.state == "timed_out", Visit.id.in_(finished)))
        with self.run.store.read() as session:
            held = session.scalar(select(func.count()).where(may_hold))
        name = f"neighbour-{next(self.names)}"
        submission = self.run.platform.take(self.run.posting, name).id
        other = Visitor(self.run.app)
        reply = other.arrive(name, submission, self.run.posting)
        assert reply.status_code == (409 if held else 303), reply.text
        if held:
            self.run.platform.release(submission)
            return
        self.taken.append(submission)
        self.neighbour = other

    @precondition(lambda self: self.neighbour)
    @rule()
    def somebody_else_finishes(self):
        view = self.neighbour.get("/api/visit")
        if view.status_code == 200 and view.json["step"] == "consent":
            self.neighbour.answer_all()
            assert self.ask(lambda tab: tab.post("/api/submit", {"feedback": ""}), self.neighbour).status_code == 200

    @rule()
    def somebody_else_leaves(self):
        self.leave(Visit.id != self.visit)

    def leave(self, who):
        with self.run.store.write() as session:
            for visit in session.scalars(select(Visit).where(who)):
                if VisitState.RETURNED in FOLLOWS[VisitState(visit.state)]:
                    move(visit, VisitState.RETURNED, self.run.store.now())

    @invariant()
    def the_store_holds_what_was_acknowledged(self):
        with self.run.store.read() as session:
            chosen = select(Answer).where(Answer.visit_id == self.visit)
            answers = session.scalars(chosen.order_by(Answer.position)).all()
            tried = select(PracticeAnswer).where(PracticeAnswer.visit_id == self.visit)
            practice = session.scalars(tried.order_by(PracticeAnswer.block, PracticeAnswer.position)).all()
            visit = session.get_one(Visit, self.visit)
        assert [(answer.row, answer.confidence) for answer in answers] == self.answers
        assert [answer.position for answer in answers] == list(range(len(self.answers)))
        assert [(answer.block, answer.position, answer.row) for answer in practice] == self.practice
        assert reachable(self.state, visit.state), (self.state, visit.state)
        assert visit.submitted_at is None or len(self.answers) == TRIALS
        assert self.submitted_at in (None, visit.submitted_at)
        if visit.state == "submitted" != self.state:
            type(self).lost_to_others += not visit.holds_task
        self.state, self.submitted_at = visit.state, visit.submitted_at

    @invariant()
    def the_view_says_the_same(self):
        view = self.view()
        if view is None:
            assert self.state in ("timed_out", "returned") and not self.answers
            return
        assert view["answered"] == len(self.answers)
        shown = view["main"]
        right = sum(row == right_row(trial) for trial, (row, _) in zip(shown, self.answers, strict=False))
        assert view["correct"] == right
        self.layout = self.layout or copy.deepcopy(shown)
        assert shown == self.layout

    @invariant()
    def the_task_has_one_holder(self):
        with self.run.store.read() as session:
            visits = session.scalars(select(Visit)).all()
        assert sum(visit.holds_task for visit in visits) <= 1
        for visit in visits:
            assert not visit.holds_task or visit.state in HOLDS_TASK
            assert visit.holds_task or visit.state not in UNDER_WAY

    def finish(self):
        """Whatever came before, whoever may go on comes to the end."""
        view = self.view()
        while view is not None and view["step"] not in OVER:
            match view["step"]:
                case "consent":
                    self.consent(True)
                case "instructions":
                    self.read_instructions()
                case "practice":
                    self.practise(True)
                case "main":
                    self.answer("upper", 2)
                case "feedback":
                    self.submit()
            before, view = view, self.view()
            assert view != before, before["step"]
        self.the_store_holds_what_was_acknowledged()


def reachable(before, after):
    """Whether one state leads to another, in any number of steps."""
    seen, new = {VisitState(before)}, {VisitState(before)}
    while new:
        new = {state for each in new for state in FOLLOWS[each]} - seen
        seen |= new
    return VisitState(after) in seen


def explore(make_run, monkeypatch, examples, batch=0):
    monkeypatch.setattr(Pace, "take", lambda *_: None)
    run = make_run(SHORT)
    run.platform.set_places(run.posting, STEPS)  # more than tasks: it is the pages that turn people away
    with run.store.write() as session:
        session.execute(update(Visit).values(state="arrived"))
    # Thousands of transactions that nobody needs after a power cut.
    for engine in (run.store._engine, run.store._people, run.platform._engine):
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        engine.dispose()
    machine = type("VisitMachine", (Machine,), {"run": run})
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(batch)(machine), settings=chosen)
    return machine


def test_every_order_of_events_keeps_what_was_acknowledged(make_run, monkeypatch):
    explore(make_run, monkeypatch, EXAMPLES)


@pytest.mark.soak
@pytest.mark.parametrize("batch", range(1, SOAK_BATCHES + 1))
def test_ten_thousand_orders_of_events_keep_what_was_acknowledged(make_run, monkeypatch, batch):
    machine = explore(make_run, monkeypatch, SOAK_EXAMPLES // SOAK_BATCHES, batch)
    assert machine.lost_to_others >= 20  # what happens so rarely did happen
