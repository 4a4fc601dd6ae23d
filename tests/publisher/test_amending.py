"""A pilot, an extension and a void through the local platform: what comes about, killed at any moment, and bad input."""

import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from crowd_imi.allocation import Arrival, arrive, hand_in
from crowd_imi.cli.app import app
from crowd_imi.design.amended import pilot_tasks, prepare
from crowd_imi.design.plan import make_plan
from crowd_imi.errors import PlatformError, PublishError, Refused
from crowd_imi.harvester import harvest, status
from crowd_imi.keys import completion_code, study_key
from crowd_imi.lifecycle import VisitState, move
from crowd_imi.pack import MadeAnew, Pack, revision_path
from crowd_imi.plan import Amendment, load_plan
from crowd_imi.platforms.base import PostingState
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.amending import carry_out, extension, finish, offer_for, voiding
from crowd_imi.publisher.launch import add_pilot, create_store, launch
from crowd_imi.publisher.lock import load_lock
from crowd_imi.publisher.pay import duration, pay_per_hour
from crowd_imi.publisher.prereg import preregistration
from crowd_imi.publisher.steering import steer
from crowd_imi.scoring.mis import score
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.store.exports import exported_answers
from crowd_imi.store.postings import postings
from crowd_imi.store.tables import Answer, Posting, Task, Trial, Visit
from crowd_imi.store.tasks import amendments
from crowd_imi.study import Study, load_study
from tests.harvester.crowd import restore, save
from tests.harvester.death import Death, DyingPlatform, DyingStore, Killed
from tests.tiny import STUDY_TOML, approve, write_pack, write_study

SMALL = (
    STUDY_TOML.replace('[[arms]]\nmodel = "toy"\ncondition = "synthetic"\nunits = 6\nresponses = 2\n', "")
    .replace("units = 6\nnull = 2\nresponses = 3", "units = 6\nresponses = 2")
    .replace("min_total_seconds = 60", "min_total_seconds = 0\nmin_instruction_seconds = 0")
)
"""One arm of two tasks, each with all six units and two catch trials, 1.50 each."""
ARM = "toy-natural-easy"
UNIT = "toy/layer1/1"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = write_study(tmp_path_factory.mktemp("amending"), SMALL)
    write_pack(study)
    make_plan(study)
    approve(study)
    return study.folder


@pytest.fixture
def study(planned: Path, tmp_path: Path) -> Study:
    import shutil

    shutil.copytree(planned, tmp_path / "study")
    return load_study(tmp_path / "study")


@pytest.fixture(autouse=True)
def the_killed_process_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_process(pid: int, signal: int) -> None:
        raise ProcessLookupError(pid)

    monkeypatch.setattr(os, "kill", no_such_process)


class Run:
    """A study on the local platform, and who takes part."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.platform = LocalPlatform(study.folder / "local.db")
        self.store = (
            Store.open(*database_urls(study.folder))
            if study.database.exists()
            else create_store(study, load_plan(study.plan), study.folder, StoreKind.STUDY)
        )

    def publish(self) -> "Run":
        launch(self.study, self.store, self.platform, Choice())
        return self

    def pilot(self, count: int) -> "Run":
        wanted = Amendment(name="pilot", kind="pilot", at=datetime.now(UTC), tasks=pilot_tasks(self.study.file, count))
        add_pilot(self.store, *prepare(self.study, (), wanted), self.study.file.study.seed)
        launch(self.study, self.store, self.platform, Choice(), "pilot")
        return self

    def posting(self, label: str = "main") -> Posting:
        with self.store.read() as session:
            return postings(session, label)[0]

    def places(self, label: str = "main") -> int:
        return self.platform.places(str(self.posting(label).platform_id))

    def arrive(self, name: str, label: str = "main") -> Visit:
        posting = self.posting(label)
        taken = self.platform.take(str(posting.platform_id), name)
        return arrive(self.store, self.study, Arrival("local", name, taken.id, posting.id, self.store.now()))

    def take_part(self, name: str, label: str = "main", *, minutes: float = 10) -> Visit:
        visit = self.arrive(name, label)
        self.answer(visit, name, minutes=minutes)
        return visit

    def answer(self, visit: Visit, name: str, *, minutes: float = 10) -> None:
        end = visit.arrived_at + round(minutes * 60_000)
        with self.store.write() as session:
            row = session.get_one(Visit, visit.id)
            for state in (VisitState.CONSENTED, VisitState.PRACTISING, VisitState.ANSWERING):
                move(row, state, end)
            row.consented_at = row.instructed_at = row.practised_at = visit.arrived_at
            for trial in session.scalars(select(Trial).where(Trial.task_id == row.task_id)):
                given = Answer(visit_id=visit.id, position=trial.position, row=("upper", "lower")[trial.position % 2])
                given.choice, given.correct, given.confidence, given.at = "max", True, 2, end
                given.rt_ms = given.shown_ms = 4000.0
                session.add(given)
            session.flush()
            hand_in(session, row, end)
        posting = self.posting(visit.label)
        submission = next(
            s.id for s in self.platform.submissions(str(posting.platform_id)) if s.participant == name and s.status == "active"
        )
        self.platform.complete(submission, completion_code(study_key(self.study.key), posting.id))

    def harvest(self):
        return harvest(self.study, self.store, self.platform)

    def amend(self, amendment: Amendment, store: object = None, platform: object = None) -> None:
        store, platform = store or self.store, platform or self.platform
        offer = offer_for(self.study, self.store, self.platform, amendment)
        carry_out(self.study, store, platform, *self.prepared(amendment), offer)  # type: ignore[arg-type]

    def prepared(self, amendment: Amendment):
        with self.store.read() as session:
            earlier = amendments(session)
        return prepare(self.study, earlier, anew(self.study, amendment))

    def extension(self, responses: int) -> Amendment | None:
        return extension(self.study, self.store, self.platform, responses, ())

    def tasks(self, label: str = "main") -> list[Task]:
        with self.store.read() as session:
            return list(session.scalars(select(Task).where(Task.label == label).order_by(Task.number)))

    def shown(self, *, label: str = "main") -> Counter[tuple[str, int]]:
        """(unit, batch) → how often tasks that are handed out show it."""
        chosen = select(Trial.unit, Trial.batch).join(Task, Task.id == Trial.task_id)
        with self.store.read() as session:
            rows = session.execute(chosen.where(Trial.kind == "main", Task.label == label, Task.retired_at.is_(None)))
            return Counter((unit, batch) for unit, batch in rows)


def anew(study: Study, amendment: Amendment) -> Amendment:
    """As ``factory.anew.make_anew`` without a network: the same images, dealt to the panels in another order."""
    if not amendment.units:
        return amendment
    import hashlib

    pack = Pack(study.pack)
    arms = {}
    for one in amendment.units:
        unit = next(unit for unit in pack.manifest.arm(one.arm).units if unit.unit.key == one.unit)
        turned = [*unit.panels[1:], unit.panels[0]]
        panels = tuple(panel.model_copy(update={"batch": batch}) for batch, panel in enumerate(turned))
        arms[one.arm] = (unit.model_copy(update={"panels": panels}),)
    content = MadeAnew(arms=arms, sources={}).model_dump_json().encode()
    path = revision_path(study.pack, amendment.name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return amendment.model_copy(update={"panels_sha256": hashlib.sha256(content).hexdigest()})


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_pilot_is_paid_and_validated_and_in_no_analysis(study: Study):
    run = Run(study).pilot(2)
    assert run.places("pilot") == 2 and len(run.tasks("pilot")) == 2
    run.take_part("anna", "pilot", minutes=9)
    run.take_part("ben", "pilot", minutes=15)
    done = run.harvest()
    assert (done.valid, done.paid, done.complete) == (2, 2, True)
    run.publish()
    assert run.places() == 2
    with pytest.raises(Refused, match="already taken part"):
        run.arrive("anna")
    visit = run.take_part("carl")
    run.harvest()
    now = status(study, run.store, run.platform)
    assert now.pilot is not None and (now.pilot.valid, sum(arm.valid for arm in now.arms)) == (2, 1)
    assert score(study, run.store).groups[0].responses == 6  # of carl alone
    with run.store.read() as session:
        assert set(exported_answers(session)["participant"]) == {visit.participant}
    # 1.50 for the median of 9 and 15 minutes: 12.
    assert (duration(study).minutes, duration(study).pilot) == (12.0, 2)
    assert pay_per_hour(study).amount == 750
    lock = load_lock(study)
    assert lock is not None and [amendment.kind for amendment in lock.amendments] == ["pilot"]
    assert "A pilot with 2 tasks of its own" in preregistration(study, load_plan(study.plan), 0)


def test_until_the_study_is_posted_status_is_about_the_pilot(study: Study):
    study.toml.write_text(study.toml.read_text().replace("min_total_seconds = 0", "min_total_seconds = 60"))
    study = load_study(study.folder)
    run = Run(study).pilot(2)
    run.take_part("anna", "pilot", minutes=0.1)  # too quick
    now = status(study, run.store, run.platform)
    assert (now.posted, now.places, now.places_free) == (False, 2, 1)
    assert now.next == ("the next harvest judges 1 and pays 1", "waiting for 1 to come")
    run.harvest()
    now = status(study, run.store, run.platform)
    assert now.excluded_by == {"total_time": 1} and now.attrition[0].came == 1
    assert now.next == ("waiting for 1 to come",)  # who doesn't count isn't replaced
    run.publish()
    now = status(study, run.store, run.platform)
    assert (now.posted, now.places, now.excluded_by, now.attrition[0].came) == (True, 2, {}, 0)


def test_a_pilot_is_about_so_many_people_and_replaces_only_who_leaves(study: Study):
    study.toml.write_text(study.toml.read_text().replace("min_total_seconds = 0", "min_total_seconds = 60"))
    run = Run(load_study(study.folder)).pilot(2)
    leaves = run.arrive("leaves", "pilot")
    with run.store.write() as session:
        move(session.merge(leaves), VisitState.RETURNED, run.store.now())
    for name in ("anna", "ben"):
        run.take_part(name, "pilot", minutes=0.1)  # too quick: neither counts
        done = run.harvest()
    assert (done.short, done.complete) == ((), True)
    assert run.places("pilot") == 2  # who left gave the place back, and nobody else is replaced
    with pytest.raises(PlatformError, match="every place is taken"):
        run.arrive("carl", "pilot")
    now = status(run.study, run.store, run.platform)
    assert now.next == ("nothing more: the pilot has had its 2 people, and 0 of them would count in the study",)
    assert (now.pilot.valid, now.pilot.excluded, now.spent.amount) == (0, 2, 2 * 150)
    run.publish()  # the study itself has all of its attempts
    assert run.places() == len(run.tasks())


def test_a_pilot_killed_at_any_moment_is_posted_once_and_the_study_beside_it(study: Study, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Store, "place_mark", lambda self: "the same file, whose content is put back")
    run = Run(study)
    start = save(study.folder, run.store, run.platform)
    wanted = Amendment(name="pilot", kind="pilot", at=datetime.now(UTC), tasks=pilot_tasks(study.file, 1))
    amendment, tasks = prepare(study, (), wanted)

    def post(store: Store, platform: LocalPlatform) -> None:
        add_pilot(store, amendment, tasks, study.file.study.seed)
        launch(study, store, platform, Choice(), "pilot")

    moment, killed = 0, True
    while killed:
        restore(study.folder, start, run.store, run.platform)
        (study.folder / "study.lock").unlink(missing_ok=True)
        death = Death(moment)
        try:
            post(DyingStore(run.store, death), DyingPlatform(run.platform, death))
            killed = False
        except Killed:
            post(run.store, run.platform)
            moment += 1
        assert [run.platform.places(each) for each in run.platform.postings()] == [1], f"killed at moment {moment}"
        assert len(run.tasks("pilot")) == 1 and len(run.tasks()) == 2
        found = load_lock(study)
        assert found is not None and [one.kind for one in found.amendments] == ["pilot"]
        run.publish()
        assert [run.platform.places(each) for each in run.platform.postings()] == [1, 2], f"killed at moment {moment}"
    assert moment > 12


def test_pilot_and_study_share_no_sprite(study: Study):
    run = Run(study).pilot(2)
    with run.store.read() as session:
        sprites = list(session.scalars(select(Trial.sprite)))
    assert len(sprites) == len(set(sprites)) == 4 * 8
    assert all((study.sprites / sprite).exists() for sprite in sprites)
    make_plan(study)  # brings back what is lost, and removes nothing that a task shows
    assert all((study.sprites / sprite).exists() for sprite in sprites)


def test_the_cap_holds_pilot_and_study_together(study: Study):
    # Two tasks and one pilot at 1.50.
    study.toml.write_text(study.toml.read_text().replace("cap = 5000", "cap = 449"))
    run = Run(load_study(study.folder)).pilot(1)
    with pytest.raises(PublishError, match=r"1\.50 USD are spent or promised already.* at least 450"):
        run.publish()


def test_a_pilot_that_was_stopped_before_it_was_full_keeps_no_money_for_who_never_came(study: Study):
    # Three rewards: one of the pilot's two people came, and the study has two tasks.
    study.toml.write_text(study.toml.read_text().replace("cap = 5000", "cap = 450"))
    run = Run(load_study(study.folder)).pilot(2)
    run.take_part("anna", "pilot")
    run.harvest()
    steer(run.study, run.store, run.platform, PostingState.STOPPED)
    run.publish()
    done = run.harvest()
    assert (done.short, done.complete, run.places()) == ((), False, 2)
    run.take_part("ben")
    assert not run.harvest().complete
    run.take_part("carl")
    done = run.harvest()
    assert (done.valid, done.paid, done.short, done.complete) == (1, 1, (), True)
    assert status(run.study, run.store, run.platform).complete


def test_who_the_pilot_may_still_pay_is_counted_in_the_pilot_and_in_the_study_alike(study: Study):
    # Four rewards for a pilot of two and a study of two; Anna hands in without finishing and may be approved.
    study.toml.write_text(study.toml.read_text().replace("cap = 5000", "cap = 600"))
    run = Run(load_study(study.folder)).pilot(2)
    anna = run.arrive("anna", "pilot")
    run.take_part("ben", "pilot")
    run.publish()
    with run.store.write() as session:
        move(session.get_one(Visit, anna.id), VisitState.RETURNED, run.store.now())
    posting = run.posting("pilot")
    submission = next(s.id for s in run.platform.submissions(str(posting.platform_id)) if s.participant == "anna")
    run.platform.complete(submission, completion_code(study_key(study.key), posting.id))
    # Ben, Anna perhaps, who comes in her place, and one of the study's two: the pilot has the money first.
    before = status(run.study, run.store, run.platform)
    done = run.harvest()
    after = status(run.study, run.store, run.platform)
    for now in (before, after):
        assert now.pilot is not None and (now.pilot.open, now.pilot.short) == (1, 0)
        assert (sum(arm.open for arm in now.arms), sum(arm.short for arm in now.arms)) == (1, 1)
    assert len(done.short) == 1 and run.places("pilot") == 3


def test_an_extension_goes_on_with_the_panels_and_the_same_seed_gives_the_same_tasks(study: Study):
    run = Run(study).publish()
    amendment = run.extension(4)
    assert amendment is not None and sum(amendment.tasks.values()) == 2
    assert run.prepared(amendment) == run.prepared(amendment)
    run.amend(amendment)
    # 4 responses of 4 panels: each panel of each unit once.
    assert set(run.shown().values()) == {1} and len(run.shown()) == 24
    assert run.places() == 4 and len(run.tasks()) == 4
    assert run.extension(4) is None
    for name in ("anna", "ben", "carl", "dora"):
        run.take_part(name)
    assert run.harvest().complete
    assert score(study, run.store).groups[0].responses == 24
    assert "from 2 to 4" in preregistration(study, load_plan(study.plan), 0)
    with run.store.read() as session:
        catch = list(session.scalars(select(Trial.sprite).where(Trial.kind == "catch")))
    assert len(set(catch)) == 8


def test_a_voided_panel_is_set_aside_and_replaced(study: Study):
    run = Run(study).publish()
    done, under_way = run.take_part("anna"), run.arrive("ben")
    run.harvest()
    run.amend(voiding(study, run.store, run.platform, units=[UNIT], reason="shows a wound"))
    assert [task.number for task in run.tasks() if task.retired_at is None] == [3, 4]
    assert run.places() == 4
    run.answer(under_way, "ben")
    for name in ("carl", "dora"):
        run.take_part(name)
    last = run.harvest()
    assert last.complete and last.paid == 3
    units = score(study, run.store).units.set_index("unit")
    assert units.loc[UNIT, "responses"] == 2 and units.loc["toy/layer0/0", "responses"] == 4
    with run.store.read() as session:
        answers = exported_answers(session)
    voided = answers[answers["voided"] & (answers["kind"] == "main")]
    assert set(voided["unit"]) == {UNIT} and set(voided["participant"]) == {done.participant, under_way.participant}
    assert set(answers.loc[(answers["unit"] == UNIT) & ~answers["voided"], "revision"]) == {2}
    assert "(shows a wound): the panels of toy/layer1/1" in preregistration(study, load_plan(study.plan), 0)
    make_plan(study)


def test_a_voided_task_is_laid_out_anew(study: Study):
    run = Run(study).publish()
    run.take_part("anna")
    run.harvest()
    with run.store.read() as session:
        held = session.scalars(select(Task.number).join(Visit, Visit.task_id == Task.id)).one()
    before = run.shown()
    run.amend(voiding(study, run.store, run.platform, task=f"{ARM}/{held}"))
    assert run.shown() == before and run.places() == 3
    run.take_part("ben")
    run.harvest()
    assert score(study, run.store).groups[0].responses == 6
    with pytest.raises(PublishError, match="took its place already"):
        voiding(study, run.store, run.platform, task=f"{ARM}/{held}")


@pytest.mark.parametrize("kind", ["extend", "void"])
def test_killed_at_any_moment_and_run_again_nothing_comes_twice(study: Study, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Store, "place_mark", lambda self: "the same file, whose content is put back")
    run = Run(study).publish()
    run.take_part("anna")
    run.harvest()
    start = save(study.folder, run.store, run.platform)
    lock = (study.folder / "study.lock").read_bytes()
    moment, killed = 0, True
    while killed:
        restore(study.folder, start, run.store, run.platform)
        (study.folder / "study.lock").write_bytes(lock)
        amendment = run.extension(4) if kind == "extend" else voiding(study, run.store, run.platform, units=[UNIT])
        assert amendment is not None
        death = Death(moment)
        try:
            run.amend(amendment, DyingStore(run.store, death), DyingPlatform(run.platform, death))
            killed = False
        except Killed:
            finish(study, run.store, run.platform)
            with run.store.read() as session:
                came_about = bool(amendments(session))
            if not came_about:
                run.amend(amendment)
            moment += 1
        # Two tasks more: an extension's, or in the place of two, of which nobody has the one.
        assert (len(run.tasks()), run.places()) == (4, 4 if kind == "extend" else 3), f"killed at moment {moment}"
        found = load_lock(study)
        assert found is not None and [one.kind for one in found.amendments] == [kind]
        run.harvest()
        assert run.places() == (4 if kind == "extend" else 3)
    assert moment > 8


def test_an_extension_over_the_cap_is_refused_before_anything_is_written(study: Study):
    study.toml.write_text(study.toml.read_text().replace("cap = 5000", "cap = 599"))
    run = Run(load_study(study.folder)).publish()
    amendment = run.extension(4)
    assert amendment is not None
    with pytest.raises(PublishError, match=r"3\.00 USD are spent or promised already.*at least 600"):
        run.amend(amendment)
    assert len(run.tasks()) == 2 and run.places() == 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["publish", "--pilot", "0"], 2, ""),
        (["publish", "--pilot", "3", "--yes"], 1, "a pilot of 3 is larger than the study, which has 2 tasks"),
        (["extend", "--responses", "4", "--yes"], 1, "isn't published yet"),
        (["void", "--unit", UNIT, "--yes"], 1, "isn't published yet"),
        (["void", "--yes"], 2, ""),
        (["void", "--unit", UNIT, "--task", f"{ARM}/1"], 2, ""),
        (["void", "--unit", UNIT, "--rehearsal", "first"], 2, ""),
    ],
)
def test_what_is_asked_wrongly_of_a_study_that_is_not_published_changes_nothing(study: Study, arguments, status: int, said: str):
    done = command(arguments[0], study.folder, *arguments[1:])
    assert done.exit_code == status and said in done.output, done.output
    assert not study.database.exists()


def test_what_is_asked_wrongly_of_a_published_study_changes_nothing(study: Study):
    assert command("publish", study.folder, "--yes").exit_code == 0
    for arguments, said in (
        (["publish", "--pilot", "1", "--yes"], "a pilot comes before it"),
        (["extend", "--responses", "1", "--yes"], "have 2 in the plan already"),
        (["extend", "--responses", "4", "--arm", "other", "--yes"], "there is no arm other"),
        (["extend", "--responses", "4", "--json"], "say --yes together with --json"),
        (["void", "--unit", "toy/layer9/9", "--yes"], "no task asks about it"),
        (["void", "--task", "nonsense", "--yes"], "written arm/number"),
        (["void", "--task", f"{ARM}/9", "--yes"], "there is no such task"),
    ):
        done = command(arguments[0], study.folder, *arguments[1:])
        assert done.exit_code == 1 and said in done.output, done.output
    run = Run(study)
    assert len(run.tasks()) == 2 and run.places() == 2
    assert command("extend", study.folder, "--responses", "2", "--yes").exit_code == 0


def test_a_rehearsal_is_never_amended(study: Study):
    store = create_store(study, load_plan(study.plan), study.rehearsal("first"), StoreKind.REHEARSAL)
    platform = LocalPlatform(study.rehearsal("first") / "local.db")
    with pytest.raises(PublishError, match="this is a rehearsal"):
        voiding(study, store, platform, units=[UNIT])
    store.close()


def test_the_commands_extend_and_void_as_a_user_types_them(study: Study):
    for arguments in (["publish", "--pilot", "1"], ["publish"], ["extend", "--responses", "4"], ["void", "--task", f"{ARM}/1"]):
        done = command(arguments[0], study.folder, *arguments[1:], "--yes", "--json")
        assert done.exit_code == 0, done.output
    run = Run(study)
    assert (run.places("pilot"), run.places(), len(run.tasks())) == (1, 4, 5)
    assert command("harvest", study.folder).exit_code == 0
    assert run.places() == 4
