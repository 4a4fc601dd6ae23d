"""Practice: again in another order until a block is all right, or the last allowed one is failed."""

from sqlalchemy import select

from crowd_imi.store.tables import PracticeAnswer, Visit
from tests.pages.visitor import wrong_row


def begin(run, person="ann"):
    visitor = run.visitor(person)
    visitor.consent()
    visitor.read_instructions()
    return visitor


def fail_block(visitor, block):
    """All right but the first one; returns the last reply."""
    visitor.practise(block, 0, wrong_row(block["trials"][0]))
    for position in range(1, len(block["trials"])):
        reply = visitor.practise(block, position)
    return reply.json


def test_five_right_answers_lead_to_the_trials(run_anywhere):
    visitor = begin(run_anywhere)
    block = visitor.view()["practice"]
    replies = [visitor.practise(block, position).json for position in range(5)]
    assert [reply["step"] for reply in replies] == ["practice"] * 4 + ["main"]
    assert all(reply["correct"] and reply["practice"] is None for reply in replies)
    with run_anywhere.store.read() as session:
        visit = session.scalars(select(Visit)).one()
        trials = session.scalars(select(PracticeAnswer.trial)).all()
    assert (visit.state, sorted(trials)) == ("answering", [0, 1, 2, 3, 4])
    assert visit.practised_at is not None


def test_one_wrong_answer_repeats_the_block_in_another_order(run):
    visitor = begin(run)
    first = visitor.view()["practice"]
    reply = fail_block(visitor, first)
    second = reply["practice"]
    assert (reply["step"], second["block"], second["position"]) == ("practice", 2, 0)
    assert {trial["sprite"] for trial in second["trials"]} == {trial["sprite"] for trial in first["trials"]}
    assert second["trials"] != first["trials"]
    assert visitor.view()["practice"] == second


def test_the_last_allowed_block_failed_ends_the_visit_and_shows_the_way_to_the_pay(run):
    visitor = begin(run)
    for _ in range(3):  # exclusion.max_practice_blocks
        reply = fail_block(visitor, visitor.view()["practice"])
    assert (reply["step"], reply["practice"]) == ("failed_practice", None)
    assert reply["completion"]["url"].startswith("http://127.0.0.1:1/complete?")
    view = visitor.view()
    assert (view["step"], view["completion"]) == ("failed_practice", reply["completion"])
    with run.store.read() as session:
        visit = session.scalars(select(Visit)).one()
    assert (visit.state, visit.holds_task) == ("failed_practice", False)
    assert visitor.answer(0, "upper").status_code == 409


def test_a_reload_in_the_middle_goes_on_at_the_same_trial(run):
    visitor = begin(run)
    block = visitor.view()["practice"]
    visitor.practise(block, 0)
    visitor.practise(block, 1)
    assert visitor.view()["practice"] == {**block, "position": 2}


def test_repeating_an_answer_gets_the_same_reply_and_another_value_is_refused(run_anywhere):
    visitor = begin(run_anywhere)
    block = visitor.view()["practice"]
    wrong = wrong_row(block["trials"][0])
    first = visitor.practise(block, 0, wrong)
    assert visitor.practise(block, 0, wrong).json == first.json
    assert visitor.practise(block, 0).json["code"] == "already-answered"
    for position in range(1, 5):
        last = visitor.practise(block, position)
    assert last.json["practice"]["block"] == 2
    assert visitor.practise(block, 4).json == last.json
    with run_anywhere.store.read() as session:
        assert len(session.scalars(select(PracticeAnswer)).all()) == 5


def test_answers_out_of_order_are_refused(run):
    visitor = begin(run)
    block = visitor.view()["practice"]
    assert visitor.practise(block, 1).json["code"] == "out-of-order"
    assert visitor.practise({**block, "block": 2}, 0).json["code"] == "out-of-order"


def test_nobody_practises_before_the_instructions_or_after_the_practice(run):
    visitor = run.visitor("ann")
    block = visitor.view()["practice"]
    assert visitor.practise(block, 0).json["code"] == "out-of-order"
    visitor.begin_trials()
    assert visitor.practise({**block, "block": 2}, 0).json["code"] == "out-of-order"
