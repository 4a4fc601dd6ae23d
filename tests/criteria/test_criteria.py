from collections.abc import Sequence
from dataclasses import replace

import pytest

from crowd_imi.criteria import (
    Check,
    Submission,
    SubmittedAnswer,
    catch_trials,
    check_all,
    counts,
    instruction_time,
    practice_blocks,
    row_choices,
    total_time,
)
from crowd_imi.criteria.pace import VERDICT_MS
from crowd_imi.pages.view import TimingView
from crowd_imi.study import ExclusionSection

START = 1_700_000_000_000


def submission(
    catch: Sequence[int] = (1, 1, 1, 1, 1),
    upper: int = 20,
    lower: int = 20,
    null_upper: int = 0,
    null_lower: int = 0,
    blocks: int = 1,
    passed: bool = True,
    seconds: float | None = 600,
    instructions: float | None = 60,
) -> Submission:
    def answers(kind, null, row, n):
        return [SubmittedAnswer(kind=kind, null_unit=null, row=row, correct=True) for _ in range(n)]

    return Submission(
        answers=tuple(
            answers("main", False, "upper", upper)
            + answers("main", False, "lower", lower)
            + answers("main", True, "upper", null_upper)
            + answers("main", True, "lower", null_lower)
            + [SubmittedAnswer(kind="catch", null_unit=False, row="upper", correct=bool(right)) for right in catch]
        ),
        practice_blocks=blocks,
        practice_passed=passed,
        consented_at=START,
        instructed_at=None if instructions is None else START + int(instructions * 1000),
        submitted_at=None if seconds is None else START + int(seconds * 1000),
    )


def test_four_of_five_catch_trials_is_enough():
    # 4/5 = 0.8, and the limit is inclusive.
    check = catch_trials(submission(catch=[1, 1, 1, 1, 0]), at_least=0.8)
    assert check.passed and check.measured == 0.8


@pytest.mark.parametrize(("right", "of"), [(4, 5), (8, 10), (12, 15), (16, 20)])
def test_eighty_percent_passes_whatever_the_number(right, of):
    assert catch_trials(submission(catch=[1] * right + [0] * (of - right)), at_least=0.8).passed


def test_three_of_five_catch_trials_is_too_few():
    check = catch_trials(submission(catch=[1, 1, 1, 0, 0]), at_least=0.8)
    assert check == Check(
        criterion="catch_trials", passed=False, measured=0.6, limit="at least 80% of the catch trials right", clock=None
    )


def test_a_task_without_catch_trials_is_not_judged_by_them():
    check = catch_trials(submission(catch=[]), at_least=0.8)
    assert check.passed is None and check.measured is None


@pytest.mark.parametrize(
    ("seconds", "passed"), [(134.999, False), (135, True), (600, True), (2500, True), (2500.001, False), (None, None)]
)
def test_total_time_is_inclusive_on_both_sides(seconds, passed):
    check = total_time(submission(seconds=seconds), at_least=135, at_most=2500)
    assert check.passed is passed and check.measured == seconds and check.clock == "server"
    assert check.limit == "135 to 2500 s from consent to submission, without delays of storing"


def timed(at: Sequence[float], saving: Sequence[float | None], practised: float = 100) -> Submission:
    """Answers that were stored at these seconds after consent; ``saving`` is what each says of the one before it, in seconds."""
    answers = [
        SubmittedAnswer(
            kind="main",
            null_unit=False,
            row="upper",
            correct=True,
            at=START + int(when * 1000),
            saving_ms=None if said is None else said * 1000,
        )
        for when, said in zip(at, saving, strict=True)
    ]
    whole = submission(seconds=600)
    return replace(whole, answers=tuple(answers), practised_at=START + int(practised * 1000))


@pytest.mark.parametrize(
    ("at", "saving", "left_out"),
    [
        ([110, 120, 130], [None, 0.05, 0.35], 0),  # everybody waits 0.35 s
        ([110, 120, 130], [None, 4.35, 2.35], 6),
        ([110, 120, 130], [None, None, 2.35], 2),  # after a reload nobody knows
        # The first answer was being stored between 100 (practice was passed) and 120 at the most.
        ([110, 120, 130], [None, 1000, 0], 20),
        # What was said of the second is bounded by 130, and begins where the first one's delay ends.
        ([110, 120, 130], [None, 1000, 1000], 30),
        ([110, 120, 130], [None, 5.35, 1000], 5 + 20),  # 110 to 130
        ([110], [None], 0),
        ([], [], 0),
    ],
)
def test_total_time_leaves_out_what_storing_delayed_as_far_as_the_servers_clock_allows(at, saving, left_out):
    check = total_time(timed(at, saving), at_least=135, at_most=2500)
    assert check.measured == pytest.approx(600 - left_out)


def test_a_broken_connection_doesnt_exclude_and_an_invented_one_leaves_the_trials_out_at_most():
    # 2,900 s, of which the connection was gone for 600.
    slow = replace(timed([200, 900, 2900], [None, 600.35, 0.1]), submitted_at=START + 2_900_000)
    check = total_time(slow, at_least=135, at_most=2500)
    assert check.passed and check.measured == pytest.approx(2300)
    liar = replace(timed([200, 900, 2900], [None, 99_999, 99_999]), submitted_at=START + 2_900_000)
    # From the end of practice at 100 s to the last answer at 2,900 s.
    assert total_time(liar, at_least=135, at_most=2500).measured == pytest.approx(100)


def test_the_wait_that_everybody_has_is_the_pages_own():
    assert TimingView().verdict_ms == VERDICT_MS


@pytest.mark.parametrize(("seconds", "passed"), [(14.999, False), (15, True), (None, None)])
def test_instruction_time_is_inclusive(seconds, passed):
    check = instruction_time(submission(instructions=seconds), at_least=15)
    assert check.passed is passed and check.measured == seconds and check.clock == "server"


@pytest.mark.parametrize(("upper", "lower", "passed"), [(35, 5, True), (5, 35, True), (36, 4, False), (40, 0, False)])
def test_each_row_is_chosen_often_enough(upper, lower, passed):
    check = row_choices(submission(upper=upper, lower=lower), at_least=5)
    assert check.passed is passed and check.measured == min(upper, lower)


def test_null_units_say_nothing_about_rows():
    # Ten lower choices on null units don't make up for one on real ones.
    assert row_choices(submission(upper=19, lower=1, null_lower=10), at_least=5).measured == 1
    assert row_choices(submission(upper=0, lower=0, null_upper=40), at_least=5).passed is None


def test_catch_trials_say_nothing_about_rows():
    # The five catch trials of ``submission`` are all answered in the upper row.
    assert row_choices(submission(upper=0, lower=20), at_least=1).passed is False


@pytest.mark.parametrize(("blocks", "solved", "passed"), [(1, True, True), (3, True, True), (4, True, False), (3, False, False)])
def test_practice_needs_a_block_without_mistakes_within_the_limit(blocks, solved, passed):
    check = practice_blocks(submission(blocks=blocks, passed=solved), at_most=3)
    assert check.passed is passed and check.measured == blocks


def test_a_good_submission_counts():
    checks = check_all(submission(), ExclusionSection())
    assert [check.criterion for check in checks] == [
        "catch_trials",
        "total_time",
        "instruction_time",
        "row_choices",
        "practice_blocks",
    ]
    assert counts(checks)


@pytest.mark.parametrize(
    ("spoiled", "criterion"),
    [
        ({"catch": [0, 0, 1, 1, 1]}, "catch_trials"),
        ({"seconds": 100}, "total_time"),
        ({"instructions": 3}, "instruction_time"),
        ({"upper": 40, "lower": 0}, "row_choices"),
        ({"blocks": 4}, "practice_blocks"),
    ],
)
def test_one_failed_criterion_is_enough_to_be_excluded(spoiled, criterion):
    checks = check_all(submission(**spoiled), ExclusionSection())
    assert not counts(checks)
    assert [check.criterion for check in checks if check.passed is False] == [criterion]


def test_who_failed_practice_is_excluded_and_nothing_else_is_measured():
    checks = check_all(submission(catch=[], upper=0, lower=0, blocks=3, passed=False, seconds=None), ExclusionSection())
    assert not counts(checks)
    assert {check.criterion: check.measured for check in checks} == {
        "catch_trials": None,
        "total_time": None,
        "instruction_time": None,
        "row_choices": None,
        "practice_blocks": 3,
    }


def test_limits_come_from_the_study():
    lenient = ExclusionSection(min_catch_ratio=0.2, min_total_seconds=1, min_instruction_seconds=0, min_row_choices=0)
    assert counts(check_all(submission(catch=[1, 0, 0, 0, 0], seconds=2, instructions=0.5, upper=40, lower=0), lenient))
