"""Every criterion, with the limits of study.toml."""

from collections.abc import Iterable
from dataclasses import replace

from crowd_imi.criteria.attention import catch_trials, row_choices
from crowd_imi.criteria.pace import instruction_time, total_time
from crowd_imi.criteria.practice import practice_blocks
from crowd_imi.criteria.submission import Check, Submission
from crowd_imi.study import ExclusionSection


def check_all(submission: Submission, limits: ExclusionSection) -> tuple[Check, ...]:
    """What each criterion says, in the order of study.toml.

    Who failed practice never came to the rest, so nothing else is measured of them.
    """
    if not submission.practice_passed:
        submission = replace(submission, answers=(), consented_at=None, instructed_at=None, practised_at=None, submitted_at=None)
    return (
        catch_trials(submission, at_least=limits.min_catch_ratio),
        total_time(submission, at_least=limits.min_total_seconds, at_most=limits.max_total_seconds),
        instruction_time(submission, at_least=limits.min_instruction_seconds),
        row_choices(submission, at_least=limits.min_row_choices),
        practice_blocks(submission, at_most=limits.max_practice_blocks),
    )


def counts(checks: Iterable[Check]) -> bool:
    """Whether a submission counts: no criterion was failed."""
    return all(check.passed is not False for check in checks)
