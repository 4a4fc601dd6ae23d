"""Every criterion, with the limits of study.toml."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from crowd_imi.criteria.attention import button_runs, catch_trials, main_accuracy, row_choices
from crowd_imi.criteria.circumstances import tile_size, time_away
from crowd_imi.criteria.pace import instruction_time, reaction_times, total_time
from crowd_imi.criteria.practice import practice_blocks
from crowd_imi.criteria.submission import Check, Criterion, Submission
from crowd_imi.study import ExclusionSection

SELECTS_ON_OUTCOME: frozenset[Criterion] = frozenset({"main_accuracy"})
"""Reported where study.toml asks for it, and never a reason to exclude: leaving out who did badly would raise every score."""


def check_all(submission: Submission, limits: ExclusionSection) -> tuple[Check, ...]:
    """What each criterion says, in the order of study.toml; those that aren't switched on say nothing.

    Who failed practice never came to the rest, so nothing else is measured of them.
    """
    if not submission.practice_passed:
        submission = replace(
            submission, answers=(), consented_at=None, instructed_at=None, practised_at=None, submitted_at=None, looks=()
        )
    return (
        catch_trials(submission, at_least=limits.min_catch_ratio),
        total_time(submission, at_least=limits.min_total_seconds, at_most=limits.max_total_seconds),
        instruction_time(submission, at_least=limits.min_instruction_seconds),
        row_choices(submission, at_least=limits.min_row_choices),
        practice_blocks(submission, at_most=limits.max_practice_blocks),
        *_switched_on(submission, limits),
    )


def counts(checks: Iterable[Check]) -> bool:
    """Whether a submission counts: no criterion that may exclude was failed."""
    return all(check.passed is not False for check in checks if check.criterion not in SELECTS_ON_OUTCOME)


def _switched_on(submission: Submission, limits: ExclusionSection) -> Iterator[Check]:
    if limits.min_reaction_ms is not None:
        yield reaction_times(submission, at_least=limits.min_reaction_ms, but=limits.max_fast_trials)
    if limits.max_button_run is not None:
        yield button_runs(submission, at_most=limits.max_button_run)
    if limits.max_away_seconds is not None:
        yield time_away(submission, at_most=limits.max_away_seconds)
    if limits.min_tile_px is not None:
        yield tile_size(submission, at_least=limits.min_tile_px)
    if limits.report_accuracy:
        yield main_accuracy(submission)
