"""One round of harvesting. Killed at any moment and run again, it comes to the same end."""

from crowd_imi.errors import HarvestError, command
from crowd_imi.harvester.context import Round
from crowd_imi.harvester.places import adjust_places, count_places
from crowd_imi.harvester.reconcile import reconcile
from crowd_imi.harvester.records import Harvest
from crowd_imi.harvester.settle import settle
from crowd_imi.harvester.stock import take_stock
from crowd_imi.harvester.verdicts import judge
from crowd_imi.keys import study_key
from crowd_imi.ledger import HeldLease, lease
from crowd_imi.platforms.base import Platform, PostingState, price
from crowd_imi.records import Money
from crowd_imi.store import Store
from crowd_imi.store.money import keep_terms
from crowd_imi.store.postings import postings
from crowd_imi.store.submissions import submission_ids
from crowd_imi.store.tables import Posting
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
        stock = take_stock(study, store, this.price)
        offered = platform.places(this.platform_posting)
        settled = settle(this, stock.unpaid, count_places(this, offered).promised(stock))
        stock = take_stock(study, store, this.price)
        offered = adjust_places(this, count_places(this, offered), stock)
    stopped = this.state is PostingState.STOPPED
    open_tasks = {task.task for task in stock.open}
    return Harvest(
        valid=sum(verdict.valid for verdict in judged),
        excluded=sum(not verdict.valid and not verdict.surplus for verdict in judged),
        surplus=sum(verdict.surplus for verdict in judged),
        paid=settled.paid,
        paid_money=Money(amount=settled.paid * this.price.amount, currency=this.price.currency),
        held=settled.held,
        returned=reconciled.returned,
        timed_out=reconciled.timed_out,
        released=reconciled.released,
        replaced=len(open_tasks & {verdict.task for verdict in judged}),
        places=offered,
        short=tuple(f"{task.arm}/{task.number}" for task in stock.short),
        to_compensate=tuple(this.stranded),
        refused=tuple(this.refused),
        complete=stock.complete or (stopped and not stock.pending),
    )


def _begin(study: Study, store: Store, platform: Platform, held: HeldLease) -> Round:
    study_key(study.key)  # is there, as strays are known by it
    with store.read() as session:
        posted = [posting for posting in postings(session) if posting.platform == platform.name]
    if not posted or posted[0].platform_id is None:
        raise HarvestError(f"{study.folder}: nothing is posted on {platform.name} yet; run `{command('publish', study.folder)}`")
    with store.write() as session:
        keep_terms(session, study.file.pay.cap, price(platform, study.file.pay.reward_money).amount)
    state = _state(store, platform, posted[0].id, posted[0].platform_id)
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
        state=state,
        statuses=statuses,
        submissions=submissions,
    )


def _state(store: Store, platform: Platform, posting: str, platform_id: str) -> PostingState:
    """Whether people are let in: the platform knows, also of what was done on its website; but what we stopped stays so."""
    with store.read() as session:
        ours = session.get_one(Posting, posting).state
    if ours == PostingState.STOPPED:
        return PostingState.STOPPED
    theirs = platform.state(platform_id)
    if theirs != ours:
        with store.write() as session:
            session.get_one(Posting, posting).state = theirs.value
    return theirs
