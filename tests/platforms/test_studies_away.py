"""Whole studies on Prolific's and MTurk's stand-ins over HTTP: codes, strays, lists of bonuses, made-up ids, both books."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from benchmarks.line import Line
from crowd_imi.allocation import Arrival, arrive
from crowd_imi.errors import HarvestError, PlatformError, Refused, Unreachable
from crowd_imi.harvester import harvest
from crowd_imi.harvester.bonus_list import pay_out, plan_payout
from crowd_imi.harvester.both_books import Ledger, ledger
from crowd_imi.harvester.money import Compensation, pay
from crowd_imi.harvester.strays import pay_stray, reject_stray, stray_name
from crowd_imi.keys import completion_code, study_key
from crowd_imi.platforms.base import Ending, Platform
from crowd_imi.platforms.mturk.client import TurkRefusal
from crowd_imi.platforms.opening import Choice
from crowd_imi.platforms.prolific import ProlificPlatform
from crowd_imi.platforms.prolific_api import ProlificApi
from crowd_imi.platforms.standins.prolific.desk import Account
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.records import Money
from crowd_imi.store import StoreKind
from crowd_imi.store.money import all_intents
from crowd_imi.store.tables import Person, Visit
from crowd_imi.study import ProlificSection
from tests.contract.mturk import MturkRig, mturk
from tests.contract.prolific import TOKEN, ProlificRig, served
from tests.harvester.crowd import SMALL, Crowd, clock
from tests.tiny import fake_plan, write_study

PAGES = "https://pages.example.org"
EACH = 200
"""Cents of a reward of 1.50 with Prolific's fee of 33.3 %."""
REASON = "You handed in with a code that you had from somebody else, and never opened the study's pages; nothing was done for it."


class Away(Crowd):
    """A study that is posted on a stand-in, and everybody who takes part in it."""

    def __init__(self, folder: Path, rig: "ProlificRig | MturkRig", toml: str = SMALL) -> None:
        self.rig, self.platform, self.clock = rig, rig.platform, clock()
        self.study = write_study(folder, toml)
        self.store = create_store(self.study, fake_plan(self.study), folder, StoreKind.REHEARSAL, self.clock)
        self.posting = launch(self.study, self.store, self.platform, Choice(name=self.platform.name, pages_url=PAGES))
        self.queries: dict[str, dict[str, str]] = {}

    def arrive(self, name: str) -> Visit:
        self.queries[name] = self.rig.take(str(self.posting.platform_id), name)
        return self.come(self.queries[name])

    def come(self, query: dict[str, str]) -> Visit:
        """Somebody who says what stands in the link."""
        found = self.platform.arrive(query)
        arrival = Arrival(self.platform.name, found.participant, found.id, self.posting.id, self.clock.now())
        return arrive(self.store, self.study, arrival)

    def code(self, ending: Ending = Ending.COMPLETED) -> str:
        return completion_code(study_key(self.study.key), self.posting.id, ending)

    def take_part(self, name: str, *, good: bool = True) -> Visit:
        visit = self.arrive(name)
        self.begin(visit)
        self.submit(visit, good=good)
        finish = self.platform.finish(self.platform.arrive(self.queries[name]).id, self.code())
        assert finish is not None
        self.rig.follow(self.queries[name], finish)
        return visit

    def run(self):
        return harvest(self.study, self.store, self.platform)

    def books(self) -> Ledger:
        return ledger(self.study, self.store, self.platform)

    def intents(self) -> list[tuple[str, str, int, str]]:
        with self.store.read() as session:
            every = all_intents(session)
        return sorted((i.operation, i.subject, i.amount, i.state) for i in every if i.operation not in ("post", "places"))

    def listed(self, *lines: str, header: str = "visit,amount,reason") -> Path:
        path = self.study.folder / "bonuses.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return path

    def pay_list(self, path: Path):
        payout = plan_payout(self.study, self.store, self.platform, path)
        pay_out(self.study, self.store, self.platform, payout)
        return payout


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ProlificRig]:
    with served(tmp_path / "standin", Account(tokens=(TOKEN,), settle_seconds=0)) as url:
        rig = ProlificRig(url)
        yield rig
        rig.close()


@pytest.fixture
def away(tmp_path: Path, rig: ProlificRig) -> Away:
    return Away(tmp_path / "study", rig)


@pytest.fixture
def turk(tmp_path: Path) -> Iterator[Away]:
    with mturk(tmp_path) as rig:
        yield Away(tmp_path / "study", rig)


# Codes.


def test_who_declines_is_asked_for_the_place_and_never_paid(away: Away):
    visit = away.arrive("anna")
    away.decline(visit)
    away.rig.complete(away.queries["anna"], away.code(Ending.NO_CONSENT))
    done = away.run()
    assert away.state(visit) == ("declined", "unpaid", False) and done.paid == 0
    assert away.visit(visit).platform_state == "return_asked"
    assert away.platform.places(away.posting.platform_id) == 4  # it comes back
    away.rig.leave(away.queries["anna"])
    away.run()
    assert away.visit(visit).platform_state == "returned" and away.rig.rewards() == {}


def test_a_wrong_code_keeps_nobody_from_their_pay_and_brings_nobody_any(away: Away):
    honest = away.arrive("anna")
    away.begin(honest)
    away.submit(honest)
    away.rig.complete(away.queries["anna"], "TYPED-WRONG")
    early = away.arrive("ben")
    away.begin(early)
    away.rig.complete(away.queries["ben"], away.code())  # from somebody else, with no answer given
    guess = away.arrive("cem")
    away.rig.complete(away.queries["cem"], "GUESSED")
    assert away.run().paid == 1
    assert away.rig.rewards() == {away.queries["anna"]["SESSION_ID"]: 150}
    assert away.visit(honest).payment == "paid"
    for visit, there in ((early, "awaiting_review"), (guess, "wrong_code")):
        assert (away.visit(visit).payment, away.visit(visit).platform_state) == ("unpaid", there)


# Submissions without a visit.


def stray(away: Away, name: str) -> str:
    """Hands in without ever coming; the submission."""
    query = away.rig.take(str(away.posting.platform_id), name)
    away.rig.complete(query, away.code())
    return query["SESSION_ID"]


def test_a_stray_is_listed_and_paid_or_rejected_from_here_once(away: Away):
    paid, refused = stray(away, "anna"), stray(away, "ben")
    away.run()
    names = [entry.subject for entry in away.books().entries if entry.intent is None]
    assert len(names) == 2 and all(name.startswith("stray-") for name in names)
    assert paid not in str(away.books()) and away.books().differences == 0
    for _ in range(2):
        pay_stray(away.study, away.store, away.platform, names[0])
    reject_stray(away.study, away.store, away.platform, names[1], REASON)
    assert away.rig.rewards() == {paid: 150}
    assert away.platform.submission(refused).status == "rejected"
    assert away.intents() == [("approve", names[0], EACH, "done")]
    away.run()
    assert away.books().spent.amount == EACH and away.books().differences == 0
    with pytest.raises(HarvestError, match="without a visit here"):
        pay_stray(away.study, away.store, away.platform, "stray-0000")


def test_who_was_approved_on_prolific_itself_is_booked_as_found_and_the_cap_sees_it(tmp_path: Path, rig: ProlificRig):
    # Four tasks at 2.00, and the cap is 8.00: one that is paid beside them leaves three.
    away = Away(tmp_path / "study", rig, SMALL.replace("cap = 5000", "cap = 800"))
    rig.platform.approve(stray(away, "anna"))
    assert away.books().differences == 1
    for _ in range(2):
        away.run()
    [(operation, name, amount, state)] = away.intents()
    assert (operation, amount, state) == ("found", EACH, "done")
    assert away.books().differences == 0 and away.books().spent.amount == EACH
    with pytest.raises(HarvestError, match="nothing more is owed"):
        pay_stray(away.study, away.store, away.platform, name)
    for person in ("ben", "cem", "dora"):
        away.take_part(person)
    with pytest.raises(AssertionError, match="every place is taken"):
        away.arrive("emil")
    done = away.run()
    assert (done.paid, done.held, len(done.short), done.places) == (3, 0, 1, 4)


def test_ids_that_were_deleted_make_no_strays_that_are_booked_again(away: Away):
    away.take_part("anna")
    away.run()
    booked = away.intents()
    with away.store.people() as people:
        for person in people.scalars(select(Person)).all():
            people.delete(person)
    away.run()
    assert away.intents() == booked
    assert away.books().differences == 0
    name = stray_name(study_key(away.study.key), away.queries["anna"]["SESSION_ID"])
    with pytest.raises(HarvestError, match="without a visit here"):  # it has one
        pay_stray(away.study, away.store, away.platform, name)
    assert away.intents() == booked


def test_ids_whose_visit_never_came_about_are_a_strays(away: Away):
    handed_in = stray(away, "anna")
    with away.store.people() as people:  # the server was killed between the ids and the visit
        ids = Person(
            visit_id="never", participant="hash", platform="prolific", platform_participant="p", platform_submission=handed_in
        )
        people.add(ids)
    [entry] = [entry for entry in away.books().entries if entry.intent is None]
    pay_stray(away.study, away.store, away.platform, entry.subject)
    assert away.rig.rewards() == {handed_in: 150} and away.books().differences == 0


def test_a_stray_is_not_rejected_once_it_is_paid_and_an_open_approval_ends_with_a_rejection(
    away: Away, monkeypatch: pytest.MonkeyPatch
):
    paid, refused = stray(away, "anna"), stray(away, "ben")
    names = {submission: stray_name(study_key(away.study.key), submission) for submission in (paid, refused)}
    pay_stray(away.study, away.store, away.platform, names[paid])
    with pytest.raises(PlatformError, match=f"submission {names[paid]} is APPROVED"):
        reject_stray(away.study, away.store, away.platform, names[paid], REASON)
    with monkeypatch.context() as patch:
        patch.setattr(away.platform, "approve", lambda _: (_ for _ in ()).throw(Unreachable("no answer")))
        with pytest.raises(Unreachable):
            pay_stray(away.study, away.store, away.platform, names[refused])
    for _ in range(2):
        reject_stray(away.study, away.store, away.platform, names[refused], REASON)
    assert away.intents() == [
        ("approve", name, EACH, "done" if name == names[paid] else "refused") for name in sorted(names.values())
    ]
    with pytest.raises(PlatformError, match="is REJECTED"):
        pay_stray(away.study, away.store, away.platform, names[refused])
    assert away.rig.rewards() == {paid: 150} and away.books().differences == 0


def test_what_was_partly_paid_on_prolific_counts_at_what_was_paid(away: Away):
    visit = away.take_part("anna")
    submission = away.queries["anna"]["SESSION_ID"]
    away.rig.standin("POST", "set-status", {"submission": submission, "status": "PARTIALLY APPROVED", "paid": 60})
    away.run()
    assert away.intents() == [("approve", visit.id, 80, "done")]
    assert away.books().spent.amount == 80 and away.books().differences == 0


@pytest.mark.parametrize(("status", "places"), [("SCREENED OUT", 4), ("ON HOLD", 4), ("PROCESSING", 5)])
def test_a_seldom_status_takes_a_place_as_prolific_counts(away: Away, status: str, places: int):
    visit = away.arrive("anna")
    away.decline(visit)  # its task is open again: what is offered depends on the place alone
    away.rig.declare(away.queries["anna"]["SESSION_ID"], status)
    away.run()
    assert away.platform.places(away.posting.platform_id) == places


# Bonuses from a list.


def test_a_list_is_one_batch_and_given_again_pays_nothing(away: Away):
    visits = [away.take_part(name) for name in ("anna", "ben", "cem")]
    away.run()
    path = away.listed(*(f'{visit.id},0.{10 * number},"Fast, and careful"' for number, visit in enumerate(visits, 1)))
    payout = away.pay_list(path)
    # 10 + 20 + 30 cents, and of each a third, rounded: 3 + 7 + 10.
    assert (len(payout.bonuses), payout.money.amount, payout.fees.amount) == (3, 60, 20)
    assert len({bonus["batch"] for bonus in away.rig.books()["bonuses"]}) == 1
    again = away.pay_list(path)
    assert (again.bonuses, again.paid_before) == ((), 3)
    more = away.pay_list(away.listed(f"{visits[0].id},0.10,Another one", header="visit,amount,reason"))
    assert (len(more.bonuses), more.paid_before) == (1, 0)
    assert sorted(amount for _, amount in away.rig.bonuses()) == [10, 10, 20, 30]
    assert away.books().differences == 0


def test_submissions_may_stand_in_a_list_and_equal_lines_want_a_name(away: Away):
    away.take_part("anna")
    submission = away.queries["anna"]["SESSION_ID"]
    with pytest.raises(HarvestError, match=r"bonuses.csv:3: says the same as line 2"):
        away.pay_list(away.listed(*[f"{submission};1.00;Thanks"] * 2, header="submission;amount;reason"))
    assert away.rig.bonuses() == []
    lines = [f"{submission},1.00,Thanks,{name}" for name in ("first", "second")]
    away.pay_list(away.listed(*lines, header="submission,amount,reason,name"))
    assert away.rig.bonuses() == [(submission, 100)] * 2


def test_every_problem_of_a_list_is_told_at_once_and_nothing_is_paid(away: Away):
    visit = away.take_part("anna").id
    path = away.listed(f"{visit},1,Thanks", f"{visit},0.00,Thanks", f"{visit},1.00,", f"{visit},1.00", f"{visit},1.00,Thanks")
    with pytest.raises(HarvestError) as failure:
        away.pay_list(path)
    assert [line.partition("bonuses.csv:")[2][:1] for line in str(failure.value).splitlines()] == ["2", "3", "4", "5", ""]
    with pytest.raises(HarvestError, match="there is no visit or submission nobody"):
        away.pay_list(away.listed(f"{visit},1.00,Thanks", "nobody,1.00,Thanks"))
    with pytest.raises(HarvestError, match="must name the columns"):
        away.pay_list(away.listed(f"{visit},1.00", header="visit,amount"))
    assert away.rig.bonuses() == []


def test_a_list_over_the_cap_pays_nothing(away: Away):
    visits = [away.take_part(name).id for name in ("anna", "ben")]
    # Two rewards of 2.00 are owed: of 50.00, 46.00 are left, and two bonuses of 17.26 cost 46.02.
    with pytest.raises(HarvestError, match=r"0\.02 USD over the cap"):
        away.pay_list(away.listed(*(f"{visit},17.26,Thanks" for visit in visits)))
    assert away.rig.bonuses() == [] and away.intents() == []


@pytest.mark.parametrize("saved", ["\r\n", "\r"])
def test_a_list_that_a_spreadsheet_saved_anew_is_the_same_list(away: Away, saved: str):
    visit = away.take_part("anna").id
    path = away.listed(f'{visit},1.00,"Café\nmerci"')
    away.pay_list(path)
    text = unicodedata.normalize("NFD", path.read_text()).replace("\n", saved)
    path.write_bytes(text.encode("utf-8-sig"))
    again = away.pay_list(path)
    assert (again.bonuses, again.paid_before) == ((), 1)
    assert len(away.rig.bonuses()) == 1


@pytest.mark.parametrize("amount", ["-1.00", "1.005", "1e3", "٣.٥٠", "1,00", "99999999.99", "$1.00", "0.00", ""])
def test_what_could_be_read_in_two_ways_is_no_amount(away: Away, amount: str):
    visit = away.take_part("anna").id
    with pytest.raises(HarvestError, match="is no amount above 0 with two decimals"):
        away.pay_list(away.listed(f"{visit};{amount};Thanks", header="visit;amount;reason"))
    assert away.rig.bonuses() == []


def test_a_batch_of_which_prolific_leaves_some_out_is_not_paid(away: Away, monkeypatch: pytest.MonkeyPatch):
    visits = [away.take_part(name).id for name in ("anna", "ben")]
    path = away.listed(*(f"{visit},1.00,Thanks" for visit in visits))
    change = ProlificApi.put

    def half(api: ProlificApi, path: str, content: dict[str, object], *, method: str = "PATCH"):
        if path == "submissions/bonus-payments/":
            content = {**content, "csv_bonuses": str(content["csv_bonuses"]).splitlines()[0]}
        return change(api, path, content, method=method)

    with monkeypatch.context() as patch:
        patch.setattr(ProlificApi, "put", half)
        with pytest.raises(PlatformError, match="made bonuses of 100 of a list of 200"):
            away.pay_list(path)
    assert away.rig.bonuses() == [] and {state for *_, state in away.intents()} == {"refused"}
    away.pay_list(path)
    assert len(away.rig.bonuses()) == 2 and away.books().differences == 0


# Both books.


def test_the_books_are_compared_in_a_few_requests_whatever_the_number_of_people(away: Away):
    for name in ("anna", "ben", "cem"):
        away.take_part(name)
    away.run()
    with Line(away.rig.url) as line:
        through: Platform = ProlificPlatform(TOKEN, ProlificSection(), endpoint=line.url, first_wait=0.01)
        assert ledger(away.study, away.store, through).differences == 0
        # The study's state and currency, the list for statuses and for bonuses, and the account: who, workspace, balance.
        assert line.requests <= 8


# MTurk: ids that nobody has.


def forged(away: Away, number: int) -> dict[str, str]:
    """A link for one of our HITs with an assignment and a worker that were made up."""
    [hit] = away.rig.books()["hits"]
    ids = {"assignmentId": f"3FORGED{number:023d}", "hitId": hit["hit"], "workerId": f"AFORGED{number}"}
    return {**ids, "turkSubmitTo": away.rig.standin.url}


def test_made_up_ids_keep_real_workers_out_no_longer_than_a_visit_and_are_never_paid(turk: Away):
    made_up = [turk.come(forged(turk, number)) for number in range(4)]
    for visit in made_up[:2]:
        turk.begin(visit)
        turk.submit(visit)
    with pytest.raises(Refused, match="taken at the moment"):  # tasks under way never exceed the places there are
        turk.come(forged(turk, 5))
    with pytest.raises(Refused, match="taken at the moment"):
        turk.arrive("anna")
    turk.run()
    turk.pass_time(turk.study.file.pages.visit_minutes + 1)
    turk.run()
    assert [turk.state(visit) for visit in made_up] == [("submitted", "unpaid", False)] * 2 + [("timed_out", "unpaid", False)] * 2
    for name in ("anna", "ben", "cem", "dora"):
        visit = turk.come(turk.queries[name]) if name in turk.queries else turk.arrive(name)
        turk.begin(visit)
        turk.submit(visit)
        turk.rig.hand_in(turk.queries[name])
    done = turk.run()
    assert (done.paid, done.valid, done.complete) == (4, 4, True)
    assert len(turk.rig.rewards()) == 4 and {turk.visit(visit).payment for visit in made_up} == {"unpaid"}


def test_answers_on_mturk_count_once_the_assignment_shows_up(turk: Away):
    visit = turk.arrive("anna")
    turk.begin(visit)
    turk.submit(visit)
    turk.pass_time(turk.study.file.pages.visit_minutes + 1)
    assert turk.run().valid == 0
    assert turk.state(visit) == ("submitted", "unpaid", False)
    turk.rig.hand_in(turk.queries["anna"])
    done = turk.run()
    assert (done.valid, done.paid) == (1, 1) and turk.state(visit) == ("valid", "paid", True)


def test_a_bonus_for_who_never_handed_in_is_one_clear_line_on_mturk(turk: Away):
    visit = turk.arrive("anna")
    gift = Compensation(visit.id, Money(amount=50, currency="USD"), "extra", "Thank you.")
    for attempt in (
        lambda: pay(turk.study, turk.store, turk.platform, gift),
        lambda: turk.pay_list(turk.listed(f"{visit.id},0.50,Thanks")),
    ):
        with pytest.raises(HarvestError, match="never handed in on mturk, which pays bonuses to who handed in only"):
            attempt()
    assert turk.intents() == [] and turk.rig.bonuses() == []


def test_a_list_is_paid_one_by_one_on_mturk_and_once(turk: Away):
    visits = [turk.take_part(name) for name in ("anna", "ben")]
    turk.run()
    path = turk.listed(*(f"{visit.id},0.50,Thanks" for visit in visits))
    for _ in range(2):
        turk.pay_list(path)
    assert sorted(amount for _, amount in turk.rig.bonuses()) == [50, 50]
    assert turk.books().differences == 0


def test_what_mturk_refuses_is_told_without_its_ids_and_keeps_nobody_else_waiting(turk: Away, monkeypatch: pytest.MonkeyPatch):
    for name in ("anna", "ben"):
        turk.take_part(name)
    refused = turk.queries["anna"]["assignmentId"]
    approve = turk.platform.approve

    def refusing(submission: str) -> None:
        if submission == refused:
            raise TurkRefusal(f"assignment {refused} can't be approved", "RequestError")
        approve(submission)

    monkeypatch.setattr(turk.platform, "approve", refusing)
    done = turk.run()
    assert done.paid == 1 and len(done.refused) == 1 and refused not in done.refused[0]
