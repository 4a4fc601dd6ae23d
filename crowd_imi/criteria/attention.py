"""Did the participant look at the pictures?"""

from itertools import groupby

from crowd_imi.criteria.submission import Check, Submission


def catch_trials(submission: Submission, *, at_least: float) -> Check:
    """Share of catch trials that were answered correctly.

    Args:
        submission: the participant's work.
        at_least: smallest share that passes, in [0, 1]; inclusive.

    Returns:
        Nothing measured when the task has no catch trials or none was reached.

    Source:
        Zimmermann, Klein & Brendel 2023, arXiv:2307.05471: 4 of 5.
    """
    correct = [answer.correct for answer in submission.answers if answer.kind == "catch"]
    share = sum(correct) / len(correct) if correct else None
    return Check(
        criterion="catch_trials",
        passed=None if share is None else share >= at_least,
        measured=share,
        limit=f"at least {at_least:.0%} of the catch trials right",
    )


def row_choices(submission: Submission, *, at_least: int) -> Check:
    """How often the row that was chosen less often, upper or lower, was chosen in main trials on real units.

    Args:
        submission: the participant's work.
        at_least: smallest number that passes; inclusive.

    Returns:
        Nothing measured when there is no such answer.

    Source:
        Zimmermann, Klein & Brendel 2023, arXiv:2307.05471: 5.
    """
    rows = [answer.row for answer in submission.judged_answers]
    fewer = min(rows.count("upper"), rows.count("lower")) if rows else None
    return Check(
        criterion="row_choices",
        passed=None if fewer is None else fewer >= at_least,
        measured=fewer,
        limit=f"each row chosen at least {at_least} times",
    )


def button_runs(submission: Submission, *, at_most: int) -> Check:
    """The most trials in a row, catch trials among them, that were answered with one of the six buttons.

    Args:
        submission: the participant's work.
        at_most: longest run that passes; inclusive.

    Returns:
        Nothing measured when there is no answer.
    """
    runs = (len(list(run)) for _, run in groupby((answer.row, answer.confidence) for answer in submission.answers))
    longest = max(runs, default=None)
    return Check(
        criterion="button_runs",
        passed=None if longest is None else longest <= at_most,
        measured=longest,
        limit=f"the same button at most {at_most} times in a row",
    )


def main_accuracy(submission: Submission) -> Check:
    """Share of main trials on real units that were answered correctly: reported, and never failed.

    Args:
        submission: the participant's work.

    Returns:
        Nothing measured when there is no such answer.
    """
    correct = [answer.correct for answer in submission.judged_answers]
    return Check(
        criterion="main_accuracy",
        passed=None,
        measured=sum(correct) / len(correct) if correct else None,
        limit="reported only: it is the outcome, so nobody is excluded by it",
    )
