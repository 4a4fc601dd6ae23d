"""Exclusion criteria: one function per criterion; who fails one is excluded and replaced, and is paid all the same."""

from crowd_imi.criteria.attention import button_runs, catch_trials, main_accuracy, row_choices
from crowd_imi.criteria.checks import SELECTS_ON_OUTCOME, check_all, counts
from crowd_imi.criteria.circumstances import tile_size, time_away
from crowd_imi.criteria.pace import instruction_time, reaction_times, total_time
from crowd_imi.criteria.practice import practice_blocks
from crowd_imi.criteria.submission import Check, Criterion, Look, Submission, SubmittedAnswer

__all__ = [
    "SELECTS_ON_OUTCOME",
    "Check",
    "Criterion",
    "Look",
    "Submission",
    "SubmittedAnswer",
    "button_runs",
    "catch_trials",
    "check_all",
    "counts",
    "instruction_time",
    "main_accuracy",
    "practice_blocks",
    "reaction_times",
    "row_choices",
    "tile_size",
    "time_away",
    "total_time",
]
