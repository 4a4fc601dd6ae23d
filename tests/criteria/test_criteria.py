from collections.abc import Sequence
from dataclasses import replace

import pytest

from crowd_imi.criteria import (
    Check,
    Look,
    Submission,
    SubmittedAnswer,
    button_runs,
    catch_trials,
    check_all,
    counts,
    instruction_time,
    main_accuracy,
    practice_blocks,
    reaction_times,
    row_choices,
    tile_size,
    time_away,
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


def answered(rows: str = "ul", confidence: int = 2, rt_ms: float | None = 2000.0, n: int = 10) -> Submission:
    """Main answers by a pattern of rows: u for upper, l for lower."""
    names = {"u": "upper", "l": "lower"}
    answers = tuple(
        SubmittedAnswer(
            kind="main", null_unit=False, row=names[rows[i % len(rows)]], correct=True, confidence=confidence, rt_ms=rt_ms
        )
        for i in range(n)
    )
    return replace(submission(), answers=answers, practised_at=START + 100_000)


def test_a_trial_answered_too_fast_is_counted_by_the_browsers_clock():
    work = answered()
    fast = tuple(replace(answer, rt_ms=1599.0) for answer in work.answers[:2])
    check = reaction_times(replace(work, answers=fast + work.answers[2:]), at_least=1600, but=1)
    assert (check.passed, check.measured, check.clock) == (False, 2, "browser")
    assert reaction_times(replace(work, answers=fast + work.answers[2:]), at_least=1600, but=2).passed
    assert reaction_times(replace(work, answers=fast + work.answers[2:]), at_least=1599, but=0).passed  # inclusive


def test_without_an_answer_nothing_was_fast_or_the_same():
    nobody = replace(submission(), answers=())
    assert reaction_times(nobody, at_least=1600, but=0).passed is None
    assert button_runs(nobody, at_most=1).passed is None


def test_the_longest_run_is_of_one_of_six_buttons():
    # upper 2, upper 2, upper 3: two buttons, so the run ends after two.
    work = answered("u", n=3)
    work = replace(work, answers=(*work.answers[:2], replace(work.answers[2], confidence=3)))
    check = button_runs(work, at_most=2)
    assert check.passed and check.measured == 2
    assert not button_runs(answered("u", n=8), at_most=7).passed


def looks(*told: tuple[str, float, float | None]) -> tuple[Look, ...]:
    """(kind, seconds after consent, tile in pixels)."""
    return tuple(Look(kind, START + int(seconds * 1000), tile) for kind, seconds, tile in told)


@pytest.mark.parametrize(
    ("told", "longest"),
    [
        ((), 0),
        ((("blur", 150, 90), ("focus", 180, 90)), 30),
        # Reported twice, as a window that is hidden loses its focus too: one time away.
        ((("blur", 150, 90), ("hidden", 151, 90), ("visible", 170, 90), ("focus", 171, 90)), 20),
        # Left during practice, which ends at 100 s, and back at 130 s: 30 of the 50 s count.
        ((("blur", 80, 90), ("focus", 130, 90)), 30),
        # Never came back before submitting at 600 s.
        ((("blur", 560, 90),), 40),
        # The page was closed and opened anew, which is no focus that anybody reports.
        ((("blur", 150, 90), ("arrived_again", 165, None)), 15),
    ],
)
def test_time_away_is_the_longest_without_focus_during_the_trials(told, longest):
    check = time_away(replace(submission(), practised_at=START + 100_000, looks=looks(*told)), at_most=30)
    assert (check.measured, check.passed, check.clock) == (longest, longest <= 30, "server")


def test_who_answers_is_back_whatever_report_was_lost():
    work = replace(answered(n=3), looks=looks(("hidden", 200, 90)))
    at = tuple(replace(answer, at=START + 1000 * seconds) for answer, seconds in zip(work.answers, (190, 210, 590), strict=True))
    assert time_away(replace(work, answers=at), at_most=30).measured == 10


def test_the_smallest_tile_of_the_trials_counts():
    # Small while instructions were read, larger when the trials began, smaller once during them.
    told = looks(("start", 50, 40.0), ("resize", 90, 96.0), ("resize", 200, 70.0), ("resize", 210, 96.0))
    check = tile_size(replace(submission(), practised_at=START + 100_000, looks=told), at_least=64)
    assert (check.passed, check.measured) == (True, 70.0)
    assert tile_size(replace(submission(), practised_at=START + 100_000, looks=()), at_least=64).passed is None


def test_optional_criteria_say_nothing_unless_switched_on():
    assert [check.criterion for check in check_all(submission(), ExclusionSection())] == [
        "catch_trials",
        "total_time",
        "instruction_time",
        "row_choices",
        "practice_blocks",
    ]
    on = ExclusionSection(min_reaction_ms=1600, max_button_run=20, max_away_seconds=60, min_tile_px=64, report_accuracy=True)
    found = [check.criterion for check in check_all(submission(), on)]
    assert found[5:] == ["reaction_times", "button_runs", "time_away", "tile_size", "main_accuracy"]


def test_the_outcome_never_excludes():
    wrong = replace(answered(), answers=tuple(replace(answer, correct=False) for answer in answered().answers))
    check = main_accuracy(wrong)
    assert (check.passed, check.measured) == (None, 0.0)
    # Not even if somebody made it fail.
    assert counts([check.model_copy(update={"passed": False})])


def test_who_failed_practice_is_measured_by_nothing_else():
    on = ExclusionSection(min_reaction_ms=1600, max_button_run=20, max_away_seconds=60, min_tile_px=64, report_accuracy=True)
    failed = submission(passed=False, blocks=3)
    assert {check.criterion: check.measured for check in check_all(failed, on) if check.measured is not None} == {
        "practice_blocks": 3
    }
