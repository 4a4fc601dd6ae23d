"""What other limits of the exclusion criteria would have meant; nothing is changed by asking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from crowd_imi.criteria import SELECTS_ON_OUTCOME, Check, check_all
from crowd_imi.harvester.reading import read_submission
from crowd_imi.lifecycle import Payment
from crowd_imi.records import Record
from crowd_imi.store import Store
from crowd_imi.store.answers import main_answers
from crowd_imi.store.submissions import judged_visits
from crowd_imi.study import ExclusionSection


class CriterionChange(Record):
    """One criterion: whom it excluded, and whom it would have."""

    criterion: str
    limit_before: str | None
    """None where it wasn't asked for."""
    limit_after: str | None
    excluded_before: int
    """Submissions that failed it; one may fail several."""
    excluded_after: int


class ArmChange(Record):
    """One arm: how many count, and its mean proportion correct (MIS), without null units."""

    arm: str
    judged: int
    excluded_before: int
    excluded_after: int
    mis_before: float | None
    """Mean over units of the proportion correct; None where no answer is left."""
    mis_after: float | None
    mis_nobody_excluded: float | None


class WhatIf(Record):
    """What ``harvest --dry-run`` prints."""

    post_hoc: tuple[str, ...]
    """What isn't as study.lock says, a sentence each: decided after publishing, and to be reported so."""
    criteria: tuple[CriterionChange, ...]
    arms: tuple[ArmChange, ...]


@dataclass(frozen=True, slots=True)
class _Judged:
    visit: str
    arm: str
    before: Mapping[str, bool | None]
    after: Mapping[str, bool | None]
    rejected: bool

    def counts(self, which: str) -> bool:
        checks: Mapping[str, bool | None] = getattr(self, which)
        return not self.rejected and all(passed is not False for name, passed in checks.items() if name not in SELECTS_ON_OUTCOME)


def what_if(store: Store, limits: ExclusionSection, published: ExclusionSection | None) -> WhatIf:
    """Judge every submission that has a verdict anew, and set both beside each other.

    Surplus submissions are left out. With a looser limit some who were excluded wouldn't have been replaced, so their tasks
    have more responses here than they would have had.

    Args:
        store: only read.
        limits: the other ones.
        published: what study.lock says; None where nothing was published.
    """
    said: dict[str, list[str | None]] = {}
    judged = []
    with store.read() as session:
        for arm, visit, verdict in judged_visits(session):
            if verdict.surplus:
                continue
            anew = check_all(read_submission(session, visit), limits)
            before = [Check.model_validate(check) for check in verdict.checks.values()]
            for place, checks in enumerate((before, anew)):
                for check in checks:
                    said.setdefault(check.criterion, [None, None])[place] = check.limit
            rejected = visit.payment == Payment.REJECTED
            judged.append(_Judged(visit.id, arm, _passed(before), _passed(anew), rejected))
        answers = main_answers(session)
    real = answers[~answers["unit"].astype(str).str.endswith("~null") & ~answers["surplus"]]
    return WhatIf(
        post_hoc=tuple(post_hoc(limits, published)),
        criteria=tuple(_criterion(name, limit, judged) for name, limit in said.items()),
        arms=tuple(_arm(arm, [one for one in judged if one.arm == arm], real) for arm in sorted({one.arm for one in judged})),
    )


def post_hoc(limits: ExclusionSection, published: ExclusionSection | None) -> list[str]:
    """What isn't as it was published, a sentence each."""
    if published is None:
        return []
    was, now = published.model_dump(), limits.model_dump()
    return [
        f"exclusion.{key} was {was[key]} when the study was published and is {now[key]} here"
        for key in now
        if was[key] != now[key]
    ]


def _passed(checks: Sequence[Check]) -> dict[str, bool | None]:
    return {check.criterion: check.passed for check in checks}


def _criterion(name: str, limit: Sequence[str | None], judged: Sequence[_Judged]) -> CriterionChange:
    return CriterionChange(
        criterion=name,
        limit_before=limit[0],
        limit_after=limit[1],
        excluded_before=sum(one.before.get(name) is False for one in judged),
        excluded_after=sum(one.after.get(name) is False for one in judged),
    )


def _arm(arm: str, judged: Sequence[_Judged], answers: pd.DataFrame) -> ArmChange:
    here = answers[answers["arm"].astype(str) == arm]
    counting = {which: {one.visit for one in judged if one.counts(which)} for which in ("before", "after")}
    return ArmChange(
        arm=arm,
        judged=len(judged),
        excluded_before=len(judged) - len(counting["before"]),
        excluded_after=len(judged) - len(counting["after"]),
        mis_before=_mis(here, counting["before"]),
        mis_after=_mis(here, counting["after"]),
        mis_nobody_excluded=_mis(here, {one.visit for one in judged}),
    )


def _mis(answers: pd.DataFrame, visits: set[str]) -> float | None:
    kept = answers[answers["visit"].astype(str).isin(visits)]
    if kept.empty:
        return None
    return float(kept.groupby(kept["unit"].astype(str))["correct"].mean().mean())
