"""What a plan asks for: people, bytes and money."""

from math import sqrt
from statistics import fmean
from typing import get_args

from crowd_imi.plan import Plan
from crowd_imi.platforms.opening import PlatformName, price_on
from crowd_imi.records import Money, Record, Unit
from crowd_imi.study import Study

Z95 = 1.96


class ArmSummary(Record):
    """One arm of a plan."""

    arm: str
    units: int
    null_units: int
    tasks: int
    responses: int
    """Valid responses per unit."""
    half_width: float
    """Half of a unit's 95 % interval where it is widest, at a proportion correct of 0.5 (normal approximation)."""


class PlanSummary(Record):
    """What ``plan --json`` prints."""

    study: str
    plan: str
    plan_sha256: str
    arms: tuple[ArmSummary, ...]
    tasks: int
    trials_per_task: int
    catch_per_task: int
    practice_trials: int
    sprites: int
    sprite_bytes: int
    bytes_per_visit: int
    """Images of one visit: practice and one task, mean over tasks."""
    reward: Money
    costs: dict[str, Money]
    """Platform → what it costs with that platform's fees when nobody has to be replaced."""
    cost: Money
    """Rewards when nobody has to be replaced; without a platform's fees."""
    cap: Money
    dearest: PlatformName
    """The platform that takes most for a submission, fee included; the first of them where they take the same."""
    replacements_within_cap: int | None
    """Submissions that can be paid there beyond one per task; negative when the cap doesn't even pay those, None when
    nobody is paid."""


def summarise(study: Study, plan: Plan) -> PlanSummary:
    """Count what the plan and its sprites come to."""
    size = {path.name: path.stat().st_size for path in study.sprites.glob("*.avif")}
    practice = sum(size[trial.sprite] for trial in plan.practice)
    visits = [practice + sum(size[trial.sprite] for trial in task.trials) for task in plan.tasks]
    pay = study.file.pay
    tasks = len(plan.tasks)
    prices = _prices(study)
    dearest = max(prices, key=lambda platform: prices[platform].amount)
    each = prices[dearest].amount
    return PlanSummary(
        study=plan.study,
        plan=str(study.plan),
        plan_sha256=plan.sha256,
        arms=tuple(_arm(plan, study, arm.id) for arm in study.file.arms),
        tasks=tasks,
        trials_per_task=study.file.tasks.trials,
        catch_per_task=study.file.tasks.catch,
        practice_trials=len(plan.practice),
        sprites=len(plan.practice) + sum(len(task.trials) for task in plan.tasks),
        sprite_bytes=practice + sum(visits) - len(visits) * practice,
        bytes_per_visit=round(fmean(visits)),
        reward=pay.reward_money,
        costs={name: Money(amount=tasks * price.amount, currency=price.currency) for name, price in prices.items()},
        cost=Money(amount=tasks * pay.reward, currency=pay.currency),
        cap=Money(amount=pay.cap, currency=pay.currency),
        dearest=dearest,
        replacements_within_cap=(pay.cap - tasks * each) // each if pay.reward else None,
    )


def _prices(study: Study) -> dict[PlatformName, Money]:
    """Platform → what a submission costs there, fee included, where the study's currency is paid."""
    names: tuple[PlatformName, ...] = get_args(PlatformName)
    return {name: price for name in names if (price := price_on(study, name)) is not None}


def _arm(plan: Plan, study: Study, arm: str) -> ArmSummary:
    tasks = [task for task in plan.tasks if task.arm == arm]
    units = {Unit.from_key(trial.unit) for task in tasks for trial in task.trials}
    responses = study.file.arm(arm).responses
    return ArmSummary(
        arm=arm,
        units=sum(not unit.null for unit in units),
        null_units=sum(unit.null for unit in units),
        tasks=len(tasks),
        responses=responses,
        half_width=Z95 * sqrt(0.25 / responses),
    )
