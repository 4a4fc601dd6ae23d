"""Exclusion criteria: one function per criterion; who fails one is excluded and replaced, and is paid all the same."""

from crowd_imi.criteria.attention import catch_trials, row_choices
from crowd_imi.criteria.checks import check_all, counts
from crowd_imi.criteria.pace import instruction_time, total_time
from crowd_imi.criteria.practice import practice_blocks
from crowd_imi.criteria.submission import Check, Submission, SubmittedAnswer

__all__ = [
    "Check",
    "Submission",
    "SubmittedAnswer",
    "catch_trials",
    "check_all",
    "counts",
    "instruction_time",
    "practice_blocks",
    "row_choices",
    "total_time",
]
