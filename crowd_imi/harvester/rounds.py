"""One round of harvesting. Killed at any moment and run again, it comes to the same end."""

from collections.abc import Collection

from crowd_imi.errors import HarvestError, PlatformError, command
from crowd_imi.harvester.collect import Known
from crowd_imi.harvester.context import Round
from crowd_imi.harvester.places import adjust_places, count_places, pause_below_floor
from crowd_imi.harvester.reconcile import reconcile
from crowd_imi.harvester.records import Harvest, together
from crowd_imi.harvester.rules import pay_by_rule, top_up
from crowd_imi.harvester.settle import settle
from crowd_imi.harvester.undecided import note_undecided
from crowd_imi.harvester.verdicts import judge
from crowd_imi.keys import study_key
from crowd_imi.ledger import HeldLease, lease
from crowd_imi.lifecycle import PAYABLE
from crowd_imi.platforms.base import Platform, PostingState, price
from crowd_imi.promises import promised
from crowd_imi.records import Money
from crowd_imi.stock import Stock, is_complete, posting_state, take_stock, waits_for_a_verdict
from crowd_imi.store import Store
from crowd_imi.store.money import count_in_flight, keep_free_places, keep_terms
from crowd_imi.store.postings import MAIN, note_state, postings
from crowd_imi.store.submissions import submission_ids, visits_of
from crowd_imi.store.tables import Posting
from crowd_imi.study import Study


def harvest(
    study: Study, store: Store, platform: Platform, known: Known | None = None, told: Collection[str] | None = None
) -> Harvest:
    """Reconcile with the platform, judge what was submitted, pay it, and offer again what doesn't count.

    A posting that can't be read doesn't keep the other one waiting (a study's, and its pilot's): it stands in ``broken_off``,
    and in ``refused`` with the reason.

    Args:
        study: whose criteria and pay.
        store: its.
        platform: where it is posted.
        known: what earlier rounds of this process read.
        told: the submissions that the platform told of since; None reads all of them.

    Raises:
        HarvestError: nothing was published on this platform.
        LedgerError: somebody else spends at the moment.
        PlatformError: no posting can be read.
    """
    done: list[Harvest] = []
    broken_off: dict[str, PlatformError] = {}
    with lease(store, "harvest", study.file.pay.cap_money) as held:
        known = known or Known()
        for posting in _posted(study, store, platform):
            try:
                done.append(_harvest(_begin(study, store, platform, held, posting, known, told)))
            except PlatformError as error:
                broken_off[posting.label] = error
    if not done:
        raise next(iter(broken_off.values()))
    return together(done, {label: str(error) for label, error in broken_off.items()})


def _harvest(this: Round) -> Harvest:
    """One posting's round: the pilot's, then the study's."""
    study, store, platform = this.study, this.store, this.platform
    reconciled = reconcile(this)
    judged = judge(this)
    stock = _stock(this)
    offered = _offered(this)
    free = count_places(this, offered).promised(stock) + stock.elsewhere
    settled = settle(this, stock.unpaid, free)
    with store.read() as session:
        unpaid = stock.unpaid - settled.paid - count_in_flight(session, PAYABLE)
    rewarded = pay_by_rule(this, (unpaid + free) * this.price.amount)
    places = count_places(this, offered)
    stock = _stock(this)
    with store.read() as session:
        proposal = top_up(session, study, store, platform)
        came = visits_of(session, this.posting)
    waits = any(waits_for_a_verdict(visit, shown_up=this.has_shown_up(visit.id)) for visit in came)
    offered = adjust_places(this, places, stock, more=proposal is None)
    state = None if this.stop_is_news else this.state
    with store.write() as session:
        # A paused one may be opened again, and then people come.
        keep_free_places(session, this.posting, 0 if state is PostingState.STOPPED else max(0, offered - places.used))
    pause_below_floor(this, below=proposal is not None)
    open_tasks = {task.task for task in stock.open}
    return Harvest(
        valid=sum(verdict.valid for verdict in judged),
        excluded=sum(not verdict.valid and not verdict.surplus for verdict in judged),
        surplus=sum(verdict.surplus for verdict in judged),
        paid=settled.paid,
        paid_money=Money(amount=settled.paid * this.price.amount, currency=this.price.currency),
        held=settled.held + rewarded.held,
        bonuses=rewarded.paid,
        top_up=proposal,
        returned=reconciled.returned,
        timed_out=reconciled.timed_out,
        released=reconciled.released,
        replaced=len(open_tasks & {verdict.task for verdict in judged}),
        places=offered,
        short=_short(this, stock),
        to_compensate=tuple(this.stranded),
        refused=tuple(this.refused),
        complete=is_complete(_stock(this), state) and not waits,
    )


def _short(this: Round, stock: Stock) -> tuple[str, ...]:
    """A pilot's task that somebody did isn't short, whether the answers count or not, nor is any once the pilot was stopped."""
    if this.label == MAIN:
        return tuple(f"{task.arm}/{task.number}" for task in stock.short)
    if this.state is PostingState.STOPPED:
        return ()
    return tuple(f"{this.label} {task.arm}/{task.number}" for task in stock.unaffordable)


def _stock(this: Round) -> Stock:
    """Where tasks stand, with the money for bonuses by rule, and for who may still be paid on the platform, kept apart."""
    note_undecided(this)
    with this.store.read() as session:
        bonuses = promised(session, this.study, this.platform)
    return take_stock(this.study, this.store, this.price, this.label, beside=bonuses.beside, each_beside=bonuses.each)


def _posted(study: Study, store: Store, platform: Platform) -> list[Posting]:
    with store.read() as session:
        posted = [posting for posting in postings(session) if posting.platform == platform.name and posting.platform_id]
    if not posted:
        raise HarvestError(f"{study.folder}: nothing is posted on {platform.name} yet; run `{command('publish', study.folder)}`")
    return posted


def _begin(  # noqa: PLR0913, PLR0917 (what a round is made of)
    study: Study,
    store: Store,
    platform: Platform,
    held: HeldLease,
    posting: Posting,
    known: Known,
    told: Collection[str] | None,
) -> Round:
    study_key(study.key)  # is there, as strays are known by it
    platform_id = str(posting.platform_id)
    with store.write() as session:
        keep_terms(session, study.file.pay.cap, price(platform, study.file.pay.reward_money).amount)
    whole = told is None
    state = _state(store, platform, posting) if whole else PostingState(posting.state)
    # The platform is read first: whoever arrives in between has a visit here that is newer than the platform's list.
    listed = known.read(platform, platform_id, told)
    with store.people() as people:
        submissions = submission_ids(people, platform.name)
    return Round(
        study=study,
        store=store,
        platform=platform,
        lease=held,
        posting=posting.id,
        label=posting.label,
        platform_posting=platform_id,
        state=state,
        stop_is_news=state is PostingState.STOPPED and posting.state != state,
        statuses={submission.id: submission.status for submission in listed.values()},
        submissions=submissions,
        listed=listed,
        whole=whole,
    )


def _offered(this: Round) -> int:
    """Places on the platform; a look at what it told of goes by what the last whole round read, as it does for the state."""
    if this.whole:
        return this.platform.places(this.platform_posting)
    with this.store.read() as session:
        return session.get_one(Posting, this.posting).places


def _state(store: Store, platform: Platform, posting: Posting) -> PostingState:
    """Whether people are let in, noted for who doesn't ask the platform."""
    state = posting_state(store, platform, posting)
    if state != posting.state:
        with store.write() as session:
            note_state(session, posting.id, state.value, by_the_platform=True)
    return state
