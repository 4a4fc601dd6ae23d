"""Answers: one row per trial, in order, judged on the server, never changed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from crowd_imi.store.tables import Answer, Visit
from tests.pages.visitor import right_row, wrong_row


def answers(run):
    with run.store.read() as session:
        return session.scalars(select(Answer).order_by(Answer.position)).all()


@pytest.fixture
def visitor(run_anywhere):
    return run_anywhere.visitor("ann")


def test_correctness_is_computed_on_the_server(run_anywhere, visitor):
    trials = visitor.begin_trials()["main"]
    right = visitor.answer(0, right_row(trials[0]), 3)
    wrong = visitor.answer(1, wrong_row(trials[1]), 1)
    assert right.json == {"correct": True, "answered": 1, "correct_count": 1, "step": "main"}
    assert wrong.json == {"correct": False, "answered": 2, "correct_count": 1, "step": "main"}
    first, second = answers(run_anywhere)
    assert (first.row, first.choice, first.correct, first.confidence) == (right_row(trials[0]), "max", True, 3)
    assert (second.row, second.choice, second.correct, second.confidence) == (wrong_row(trials[1]), "min", False, 1)
    assert (first.rt_ms, first.shown_ms, first.saving_ms) == (1800.25, 4000, None)


def test_the_last_answer_leads_to_the_feedback(visitor):
    trials = visitor.begin_trials()["main"]
    for trial in trials:
        reply = visitor.answer(trial["position"], right_row(trial))
    assert reply.json == {"correct": True, "answered": 8, "correct_count": 8, "step": "feedback"}
    assert visitor.answer(8, "upper").json["code"] == "out-of-order"


def test_a_repeat_gets_the_same_reply_and_one_row(run_anywhere, visitor):
    row = right_row(visitor.begin_trials()["main"][0])
    first = visitor.answer(0, row)
    assert visitor.answer(0, row).json == first.json
    assert len(answers(run_anywhere)) == 1


def test_another_value_is_refused_and_the_first_one_stays(run_anywhere, visitor):
    row = right_row(visitor.begin_trials()["main"][0])
    visitor.answer(0, row, 3)
    for other in ((row, 2), ("lower" if row == "upper" else "upper", 3)):
        reply = visitor.answer(0, *other)
        assert (reply.status_code, reply.json["code"]) == (409, "already-answered")
    [stored] = answers(run_anywhere)
    assert (stored.row, stored.confidence) == (row, 3)


def test_the_same_answer_sent_many_times_at_once_is_one_row(run_anywhere, visitor):
    row = right_row(visitor.begin_trials()["main"][0])
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: visitor.answer(0, row).json, range(6)))
    assert replies == [{"correct": True, "answered": 1, "correct_count": 1, "step": "main"}] * 6
    assert len(answers(run_anywhere)) == 1


def test_a_trial_cant_be_skipped(visitor):
    visitor.begin_trials()
    reply = visitor.answer(1, "upper")
    assert (reply.status_code, reply.json["code"]) == (409, "out-of-order")


def test_nobody_answers_before_the_practice_or_after_submitting(run_anywhere, visitor):
    assert visitor.answer(0, "upper").json["code"] == "out-of-order"
    visitor.answer_all()
    visitor.post("/api/submit", {"feedback": ""})
    stored = answers(run_anywhere)
    assert visitor.answer(8, "upper").json["code"] == "out-of-order"
    # A repeat whose first reply got lost is still acknowledged.
    assert visitor.answer(7, stored[7].row).json["correct"]


def test_who_goes_on_after_the_time_is_over_may_finish(run_anywhere, visitor):
    trials = visitor.begin_trials()["main"]
    visitor.answer(0, right_row(trials[0]))
    from crowd_imi.allocation import release_expired

    with run_anywhere.store.write() as session:
        release_expired(session, 0, run_anywhere.store.now() + 1)
    assert visitor.answer(1, right_row(trials[1])).json["answered"] == 2
    with run_anywhere.store.read() as session:
        assert session.scalars(select(Visit)).one().state == "timed_out"


GOOD = {"position": 0, "row": "upper", "confidence": 1, "rt_ms": 1.0, "shown_ms": 1.0, "saving_ms": None}
BAD = {
    "another row": {"row": "left"},
    "confidence 0": {"confidence": 0},
    "confidence 4": {"confidence": 4},
    "confidence as text": {"confidence": "1"},
    "a negative time": {"rt_ms": -1},
    "a time without an end": {"rt_ms": 1e300},
    "no number": {"rt_ms": None},
    "its own verdict": {"correct": True},
    "a huge position": {"position": 10**9},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_what_isnt_an_answer_is_refused_with_one_sentence(run, change):
    visitor = run.visitor("ann")
    visitor.begin_trials()
    reply = visitor.post("/api/answers", {**GOOD, **change})
    assert (reply.status_code, reply.json["code"]) == (400, "bad-request")
    assert reply.json["error"].endswith(".")
    assert answers(run) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"position": NaN}'])
def test_what_isnt_json_is_refused(run, body):
    visitor = run.visitor("ann")
    reply = visitor.client.post("/api/answers", data=body, headers={"X-Visit-Token": visitor.token})
    assert (reply.status_code, reply.json["code"]) == (400, "bad-request")
