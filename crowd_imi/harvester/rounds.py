"""One round of harvesting. Killed at any moment and run again, it comes to the same end."""

from crowd_imi.errors import HarvestError
from crowd_imi.harvester.context import Round
from crowd_imi.harvester.places import adjust_places, count_places
from crowd_imi.harvester.reconcile import reconcile
from crowd_imi.harvester.records import Harvest
from crowd_imi.harvester.settle import settle
from crowd_imi.harvester.stock import take_stock
from crowd_imi.harvester.verdicts import judge
from crowd_imi.ledger import HeldLease, lease
from crowd_imi.platforms.base import Platform
from crowd_imi.records import Money
from crowd_imi.store import Store
from crowd_imi.store.postings import postings
from crowd_imi.store.submissions import submission_ids
from crowd_imi.study import Study


def harvest(study: Study, store: Store, platform: Platform) -> Harvest:
    """Reconcile with the platform, judge what was submitted, pay it, and offer again what doesn't count.

    Raises:
        HarvestError: nothing was published on this platform.
        LedgerError: somebody else spends at the moment.
        PlatformError: the platform can't be read.
    """
    with lease(store, "harvest", study.file.pay.cap_money) as held:
        this = _begin(study, store, platform, held)
        reconciled = reconcile(this)
        judged = judge(this)
        stock = take_stock(study, store)
        offered = platform.places(this.platform_posting)
        settled = settle(this, stock.unpaid, count_places(this, offered).promised(stock))
        stock = take_stock(study, store)
        offered = adjust_places(this, count_places(this, offered), stock)
    open_tasks = {task.task for task in stock.open}
    return Harvest(
        valid=sum(verdict.valid for verdict in judged),
        excluded=sum(not verdict.valid and not verdict.surplus for verdict in judged),
        surplus=sum(verdict.surplus for verdict in judged),
        paid=settled.paid,
        paid_money=Money(amount=settled.paid * this.reward.amount, currency=this.reward.currency),
        held=settled.held,
        returned=reconciled.returned,
        timed_out=reconciled.timed_out,
        released=reconciled.released,
        replaced=len(open_tasks & {verdict.task for verdict in judged}),
        places=offered,
        short=tuple(f"{task.arm}/{task.number}" for task in stock.short),
        refused=tuple(this.refused),
        complete=stock.complete,
    )


def _begin(study: Study, store: Store, platform: Platform, held: HeldLease) -> Round:
    with store.read() as session:
        posted = [posting for posting in postings(session) if posting.platform == platform.name]
    if not posted or posted[0].platform_id is None:
        raise HarvestError(f"{study.folder}: nothing is posted on {platform.name} yet; run `crowd-imi publish {study.folder}`")
    # The platform is read first: whoever arrives in between has a visit here that is newer than the platform's list.
    statuses = {submission.id: submission.status for submission in platform.submissions(posted[0].platform_id)}
    with store.people() as people:
        submissions = submission_ids(people, platform.name)
    return Round(
        study=study,
        store=store,
        platform=platform,
        lease=held,
        posting=posted[0].id,
        platform_posting=posted[0].platform_id,
        statuses=statuses,
        submissions=submissions,
    )
