"""Where every task stands, and what the money still allows."""

from dataclasses import dataclass

from crowd_imi.allocation import ATTEMPTS
from crowd_imi.lifecycle import PAYABLE, VisitState
from crowd_imi.records import Money
from crowd_imi.store import Store
from crowd_imi.store.money import bonus_spending
from crowd_imi.store.submissions import TaskStanding, count_payable, task_standings
from crowd_imi.study import Study


@dataclass(frozen=True, slots=True)
class Stock:
    """Every task, in exactly one of the lists."""

    valid: tuple[TaskStanding, ...]
    pending: tuple[TaskStanding, ...]
    """Somebody is at it, or it waits for a verdict."""
    open: tuple[TaskStanding, ...]
    """Nobody's, and there is money for it."""
    unaffordable: tuple[TaskStanding, ...]
    """Nobody's, with attempts left, but the cap allows no more visits."""
    exhausted: tuple[TaskStanding, ...]
    """No attempt left."""
    payable: int
    """Visits that are paid or may have to be."""
    unpaid: int
    """Those of them that aren't paid yet."""

    @property
    def short(self) -> tuple[TaskStanding, ...]:
        return self.unaffordable + self.exhausted

    @property
    def complete(self) -> bool:
        return not self.open and not self.pending


def take_stock(study: Study, store: Store, price: Money) -> Stock:
    """Count tasks and visits as they are now; ``price`` is what one paid submission costs, fees included."""
    pay, tasks = study.file.pay, study.file.tasks
    with store.read() as session:
        standings = task_standings(session, ATTEMPTS)
        payable = count_payable(session, PAYABLE)
        left = pay.cap - bonus_spending(session)
        unpaid = count_payable(session, PAYABLE, unpaid_only=True)
    nobodys = [task for task in standings if task.holder is None]
    free = [task for task in nobodys if task.attempts < tasks.max_attempts]
    affordable = max(0, left // price.amount - payable) if price.amount else len(free)
    return Stock(
        valid=tuple(task for task in standings if task.holder == VisitState.VALID),
        pending=tuple(task for task in standings if task.holder not in (None, VisitState.VALID)),
        open=tuple(free[:affordable]),
        unaffordable=tuple(free[affordable:]),
        exhausted=tuple(task for task in nobodys if task.attempts >= tasks.max_attempts),
        payable=payable,
        unpaid=unpaid,
    )
