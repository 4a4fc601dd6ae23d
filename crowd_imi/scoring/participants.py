"""What became of participants and of the money, in tables."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from crowd_imi.ledger.books import SPENDING
from crowd_imi.lifecycle import UNDER_WAY, VisitState
from crowd_imi.records import Money
from crowd_imi.study import StudyFile

MINUTE_MS = 60_000

CRITERION_NAMES: Mapping[str, str] = {
    "catch_trials": "catch trials",
    "total_time": "total time",
    "instruction_time": "time on the instructions",
    "row_choices": "same row too often",
    "practice_blocks": "practice",
    "reaction_times": "answers too fast",
    "button_runs": "same button in a row",
    "time_away": "window left for long",
    "tile_size": "pictures too small",
    "main_accuracy": "right main trials (reported only)",
}
"""What the criteria are called for people."""

FLOW: Mapping[str, str] = {
    "arrived": "arrived",
    "declined": "declined",
    "failed_practice": "failed practice",
    "returned": "left or gave back",
    "timed_out": "out of time",
    "under_way": "still at it",
    "submitted": "submitted",
    "waiting": "not judged yet",
    "excluded": "excluded",
    "surplus": "surplus",
    "valid": "valid",
}
"""Columns of ``flow`` and what they are called for people.

arrived = declined + failed_practice + returned + timed_out + under_way + submitted, and
submitted = waiting + excluded + surplus + valid. Surplus: submitted when the task already had its valid response.
"""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """What one criterion excluded."""

    criterion: str
    limit: str
    """What it asks for, in words."""
    failed: int
    """Submissions that failed it."""
    alone: int
    """Submissions that failed it and no other."""


@dataclass(frozen=True, slots=True)
class Spending:
    """Where the money went, the pilot's too; platforms' fees are in every sum."""

    spent: Money
    """Paid, or sent and not yet known to be paid: as ``status`` and the ledger count it."""
    rewards: Money
    """Of it for submissions, whether approved here or found approved on the platform."""
    bonuses: Money
    """Of it beside the rewards; a compensation is one of these."""
    fee: Money
    """The platform's part of what one submission costs."""
    cap: Money
    paid: int
    """Submissions of ``rewards``."""
    bonuses_paid: int
    """Of ``bonuses``."""
    undecided: int
    """Payments of any kind of which it isn't known that they arrived (counted above), or that wait for a person (not counted).
    What was refused isn't among them: ``status`` says who is still to be paid."""


def flow(visits: pd.DataFrame) -> pd.DataFrame:
    """How many came how far, per arm.

    Args:
        visits: from ``store.answers.visits``.

    Returns:
        Indexed by arm, a column per key of ``FLOW``; every visit is in exactly one of its endings.
    """
    ending = ends(visits)
    table = pd.crosstab(visits["arm"], ending).reindex(columns=list(FLOW), fill_value=0)
    table["submitted"] = table[["waiting", "excluded", "surplus", "valid"]].sum(axis=1)
    table["arrived"] = table[["declined", "returned", "timed_out", "failed_practice", "under_way", "submitted"]].sum(axis=1)
    return table


def ends(visits: pd.DataFrame) -> "pd.Series[str]":
    """How each visit ended: a key of ``FLOW`` other than arrived and submitted."""
    states = {state.value: state.value for state in VisitState}
    states |= {state.value: "under_way" for state in UNDER_WAY}
    states[VisitState.SUBMITTED.value] = "waiting"
    ending = visits["state"].map(states)
    judged = ending.isin(["valid", "excluded"])
    ending = ending.mask(judged & visits["practised_at"].isna(), "failed_practice")
    return ending.mask(judged & visits["surplus"].fillna(False).astype(bool), "surplus")


def exclusions(visits: pd.DataFrame) -> tuple[Exclusion, ...]:
    """What each criterion excluded, the most frequent first; criteria that excluded nobody stand there with 0."""
    failed: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    limits: dict[str, str] = {}
    for checks in visits["checks"].dropna():
        limits |= {name: str(check["limit"]) for name, check in checks.items()}
        of_this = [name for name, check in checks.items() if check["passed"] is False]
        failed.update(of_this)
        if len(of_this) == 1:
            alone.update(of_this)
    found = (Exclusion(name, limit, failed[name], alone[name]) for name, limit in limits.items())
    return tuple(sorted(found, key=lambda exclusion: -exclusion.failed))


def minutes(visits: pd.DataFrame) -> pd.DataFrame:
    """Minutes of every submission by the server's clock.

    Returns:
        ``arm``, ``ending``, and minutes on the ``consent`` form, the ``instructions``, ``practice``, the ``trials`` (with
        feedback), and in ``total`` from consent to submission, as the criterion counts.
    """
    ending = ends(visits)
    done = visits[ending.isin(["waiting", "excluded", "surplus", "valid"])]
    steps = {
        "consent": ("arrived_at", "consented_at"),
        "instructions": ("consented_at", "instructed_at"),
        "practice": ("instructed_at", "practised_at"),
        "trials": ("practised_at", "submitted_at"),
        "total": ("consented_at", "submitted_at"),
    }
    taken = {name: (done[end] - done[begin]) / MINUTE_MS for name, (begin, end) in steps.items()}
    return pd.DataFrame({"arm": done["arm"], "ending": ending[done.index], **taken})


def spending(file: StudyFile, intents: pd.DataFrame, price: int) -> Spending:
    """What was spent, from the ledger's sums.

    Args:
        file: for reward, cap and currency.
        intents: from ``store.answers.intents``.
        price: minor units that one submission costs, the platform's fee included.
    """
    spends = intents[intents["operation"].isin(SPENDING)]
    bonus, done = spends["operation"] == "bonus", spends["state"] == "done"
    # What may have been done counts as spent, until it is known. What was refused cost nothing.
    counted = done | (spends["state"] == "open")

    def money(chosen: "pd.Series[bool]") -> Money:
        return Money(amount=int(spends.loc[chosen, "amount"].sum()), currency=file.pay.currency)

    return Spending(
        spent=money(counted),
        rewards=money(counted & ~bonus),
        bonuses=money(counted & bonus),
        fee=Money(amount=max(0, price - file.pay.reward), currency=file.pay.currency),
        cap=file.pay.cap_money,
        paid=int(spends.loc[counted & ~bonus, "count"].sum()),
        bonuses_paid=int(spends.loc[counted & bonus, "count"].sum()),
        undecided=int(spends.loc[spends["state"].isin(["open", "held"]), "count"].sum()),
    )
