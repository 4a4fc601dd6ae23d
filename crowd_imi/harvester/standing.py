"""Where a study stands: read only, and without the right to spend."""

from collections import Counter
from collections.abc import Mapping, Sequence

from crowd_imi.harvester.context import OCCUPYING
from crowd_imi.harvester.reconcile import strays_of
from crowd_imi.harvester.records import ArmStatus, Difference, Status
from crowd_imi.harvester.stock import Stock, take_stock
from crowd_imi.ledger import Books, books
from crowd_imi.lifecycle import Action, Payment, PlatformStatus, VisitState, action_for
from crowd_imi.platforms.base import Platform, price
from crowd_imi.records import Money
from crowd_imi.store import Store
from crowd_imi.store.postings import postings
from crowd_imi.store.submissions import submission_ids, verdicts, visits_of
from crowd_imi.store.tables import Posting, Verdict, Visit
from crowd_imi.study import Study

_LEFT = (VisitState.DECLINED, VisitState.RETURNED, VisitState.TIMED_OUT)


def status(study: Study, store: Store, platform: Platform) -> Status:
    """Count tasks, visits and money, and compare them with what the platform says now.

    Raises:
        PlatformError: the platform can't be read.
    """
    posting = _posting(store, platform.name)
    statuses, places = _read_platform(platform, posting)
    each = price(platform, study.file.pay.reward_money)
    stock = take_stock(study, store, each)
    with store.people() as people:
        submissions = submission_ids(people, platform.name)
    with store.read() as session:
        visits = visits_of(session, posting.id) if posting else []
        judged = verdicts(session)
        ledger = books(session)
    there = {visit.id: statuses.get(submissions.get(visit.id, "")) for visit in visits}
    strays = strays_of(statuses, submissions, {visit.id for visit in visits})
    taken = sum(status in OCCUPYING for status in statuses.values())
    states = Counter(visit.state for visit in visits)
    return Status(
        study=study.file.study.name,
        platform=platform.name,
        posted=posting is not None and posting.platform_id is not None,
        arms=tuple(_arm(arm.id, stock, judged) for arm in study.file.arms),
        excluded_by=_excluded_by([verdict for _, verdict in judged]),
        left={state.value: states[state] for state in _LEFT if states[state]},
        surplus=sum(verdict.surplus for _, verdict in judged),
        places=places,
        places_free=max(0, places - taken),
        reward=study.file.pay.reward_money,
        spent=_money(study, ledger.spent),
        committed=_money(study, stock.payable * each.amount - ledger.held),
        held=_money(study, ledger.held),
        cap=study.file.pay.cap_money,
        differences=_differences(visits, there),
        strays=sum(statuses[stray] in OCCUPYING for stray in strays),
        remarks=_remarks(ledger),
        complete=stock.complete,
    )


def _posting(store: Store, platform: str) -> Posting | None:
    with store.read() as session:
        return next((posting for posting in postings(session) if posting.platform == platform), None)


def _read_platform(platform: Platform, posting: Posting | None) -> tuple[dict[str, str], int]:
    if posting is None or posting.platform_id is None:
        return {}, 0
    statuses = {submission.id: submission.status for submission in platform.submissions(posting.platform_id)}
    return statuses, platform.places(posting.platform_id)


def _arm(arm: str, stock: Stock, judged: Sequence[tuple[str, Verdict]]) -> ArmStatus:
    submitted = sum(task.arm == arm and task.holder == VisitState.SUBMITTED for task in stock.pending)
    pending = sum(task.arm == arm for task in stock.pending)
    lists = {name: sum(task.arm == arm for task in getattr(stock, name)) for name in ("valid", "open", "short")}
    return ArmStatus(
        arm=arm,
        tasks=sum(lists.values()) + pending,
        submitted=submitted,
        under_way=pending - submitted,
        excluded=sum(of == arm and not verdict.valid and not verdict.surplus for of, verdict in judged),
        **lists,
    )


def _excluded_by(judged: Sequence[Verdict]) -> dict[str, int]:
    failed = Counter(criterion for verdict in judged for criterion, check in verdict.checks.items() if check["passed"] is False)
    return dict(failed.most_common())


def _differences(visits: Sequence[Visit], there: Mapping[str, str | None]) -> tuple[Difference, ...]:
    """Pairs that don't fit and won't by themselves, and who was paid here and isn't approved there."""
    found: Counter[tuple[str, str, str]] = Counter()
    for visit in visits:
        status = there[visit.id]
        unpaid_there = visit.payment == Payment.PAID and status != PlatformStatus.APPROVED
        if unpaid_there or action_for(visit.state, status) is Action.SHOW:
            found[visit.state, visit.payment, status or "unknown"] += 1
    return tuple(
        Difference(visits=count, here=here, payment=payment, there=status)
        for (here, payment, status), count in sorted(found.items())
    )


def _remarks(ledger: Books) -> tuple[str, ...]:
    remarks = list(ledger.refused)
    if ledger.open_intents:
        remarks.append(f"{ledger.open_intents} paid calls were cut off; the next harvest reads them back")
    if ledger.held:
        remarks.append("some who are owed can't be paid below the cap; raise pay.cap in study.toml and harvest again")
    return tuple(remarks)


def _money(study: Study, amount: int) -> Money:
    return Money(amount=amount, currency=study.file.pay.currency)
