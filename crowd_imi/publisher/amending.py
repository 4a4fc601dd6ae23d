"""``extend`` and ``void``: more tasks under the same lock, and others in the place of bad ones.

An amendment comes about in one transaction of the store: its tasks, what is set aside, and its own row. Before it stands
the intent to raise the places, after it the raising itself; so a crash leaves no amendment, or one that the next run (or
harvest) finishes.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from math import gcd

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crowd_imi.errors import CapReached, PublishError, command
from crowd_imi.ledger import HeldLease, IntentState, PaidCall, close, lease
from crowd_imi.ledger.paid_calls import intend
from crowd_imi.lifecycle import VisitState
from crowd_imi.plan import Amendment, PlannedTask, Replaced, VoidedUnit
from crowd_imi.platforms.base import Platform, PostingState
from crowd_imi.publisher.launch import Offer, offer_of, promised
from crowd_imi.publisher.lock import keep_amendments
from crowd_imi.records import Money
from crowd_imi.stock import posting_state, take_stock
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.money import intents_in
from crowd_imi.store.postings import MAIN, PILOT, postings
from crowd_imi.store.tables import Posting, Task, Trial, Visit
from crowd_imi.store.tasks import add_tasks, amendments, keep_amendment, retire, set_aside
from crowd_imi.study import ArmSection, Study


def extension(study: Study, store: Store, platform: Platform, responses: int, arms: Sequence[str]) -> Amendment | None:
    """What brings units to so many valid responses each; None when they have them in the plan already.

    Args:
        study: published.
        store: its own.
        platform: that it is on.
        responses: per unit, in all: saying the same again changes nothing.
        arms: which; all of them when it is empty.

    Raises:
        PublishError: the study isn't published or was stopped, there is no such arm, there would be fewer responses, or they
            can't be cut into whole tasks; one line for each.
    """
    _require_open(study, store, platform)
    unknown = [arm for arm in arms if arm not in {each.id for each in study.file.arms}]
    if unknown:
        raise PublishError(f"there is no arm {', '.join(unknown)}; study.toml has {', '.join(arm.id for arm in study.file.arms)}")
    with store.read() as session:
        earlier = amendments(session)
    wanted = {arm.id: (_responses(arm, earlier), responses) for arm in study.file.arms if not arms or arm.id in arms}
    if all(now > responses for now, _ in wanted.values()):
        raise PublishError(
            f"--responses {responses}: units have {min(now for now, _ in wanted.values())} in the plan already, and an extension "
            "only adds; give a larger number"
        )
    more = {arm: step for arm, step in wanted.items() if step[1] > step[0]}
    problems = [_uneven(study, study.file.arm(arm), *step) for arm, step in more.items()]
    if any(problems):
        raise PublishError("\n".join(filter(None, problems)))
    if not more:
        return None
    sizes = {
        arm: _units(study.file.arm(arm)) * (after - before) // study.file.tasks.trials for arm, (before, after) in more.items()
    }
    return Amendment(name=_name("extend", earlier), kind="extend", at=_now(store), tasks=sizes, responses=more)


def voiding(  # noqa: PLR0913 (one per option)
    study: Study, store: Store, platform: Platform, *, units: Sequence[str] = (), task: str | None = None, reason: str = ""
) -> Amendment:
    """What sets answers to units' panels, or to a task, aside and puts other tasks in the place of those that show them.

    Args:
        study: published.
        store: its own.
        platform: that it is on.
        units: keys (``model/layer/channel``), in every arm that has them.
        task: ``arm/number``.
        reason: why, for the lock.

    Raises:
        PublishError: the study isn't published, or there is no such unit or task.
    """
    _require_posted(study, store, platform)
    with store.read() as session:
        earlier = amendments(session)
        voided = tuple(one for unit in units for one in _voided_unit(session, unit))
        tasks = {task.id: task for one in voided for task in _showing(session, one)}
        if task is not None:
            tasks |= {found.id: found for found in [_task(session, task)]}
        replaced = _replaced(session, list(tasks.values()))
    sizes = {arm: sum(one.arm == arm for one in replaced) for arm in dict.fromkeys(one.arm for one in replaced)}
    return Amendment(
        name=_name("void", earlier), kind="void", at=_now(store), tasks=sizes, units=voided, replaced=replaced, reason=reason
    )


def places_needed(study: Study, store: Store, offer: Offer, amendment: Amendment) -> int:
    """Places that an amendment's tasks need beyond those offered: a bad task that nobody has leaves its place to the other."""
    stock = take_stock(study, store, Money(amount=offer.reward.amount + offer.fee.amount, currency=offer.reward.currency))
    free = {(task.arm, task.number) for task in (*stock.open, *stock.unaffordable)}
    left = sum((one.arm, one.number) in free for one in amendment.replaced if one.label == MAIN)
    pilots = sum(one.label != MAIN for one in amendment.replaced)
    return sum(amendment.tasks.values()) - pilots - left


def offer_for(study: Study, store: Store, platform: Platform, amendment: Amendment) -> Offer:
    """What an amendment may cost at most: nothing where the study was stopped, as nobody comes any more.

    Raises:
        PublishError: with what is spent and promised already it is more than the cap.
    """
    terms = offer_of(study, 0, platform)
    if posting_state(store, platform, _require_posted(study, store, platform)) is PostingState.STOPPED:
        return terms
    return offer_of(study, places_needed(study, store, terms, amendment), platform, promised=promised(study, store, platform))


def carry_out(  # noqa: PLR0913, PLR0917 (what, with what, where)
    study: Study, store: Store, platform: Platform, amendment: Amendment, tasks: Sequence[PlannedTask], offer: Offer
) -> Posting:
    """Let an amendment come about: tasks, lock, places. Run again after a crash, it goes on and does nothing twice.

    Args:
        study: published.
        store: its own.
        platform: that it is on.
        amendment: laid out.
        tasks: its tasks, with their sprites minted.
        offer: as ``offer_for`` says.

    Raises:
        PublishError: somebody else amended the study meanwhile, or the cap doesn't hold it any more.
        PlatformError: the platform said no; the next run or harvest raises the places.
        LedgerError: somebody else spends at the moment, or the cap forbids it.
    """
    with lease(store, amendment.kind, study.file.pay.cap_money) as held:
        posting = _require_posted(study, store, platform)
        _close_unborn(held, store)
        now = offer_for(study, store, platform, amendment)  # much may have been paid since, where panels were made anew
        offer = now if now.places < offer.places else offer
        if offer.places and posting_state(store, platform, posting) is PostingState.OPEN:
            target = platform.places(str(posting.platform_id)) + offer.places
            intent, _ = intend(held, PaidCall("places", f"{posting.id}/{amendment.name}/{target}", offer.total))
            if intent.state == IntentState.HELD:
                raise CapReached(f"{amendment.name}: {intent.outcome}")
        with store.write() as session:
            held.renew(session)
            earlier = amendments(session)
            if amendment.name != _name(amendment.kind, earlier):
                raise PublishError(
                    f"{study.folder}: somebody else amended this study meanwhile ({earlier[-1].name}); run it again"
                )
            add_tasks(session, tasks, study.file.study.seed, amendment.name)
            set_aside(session, units=amendment.units, tasks=() if amendment.units else amendment.replaced)
            retire(session, amendment.replaced, store.now())
            keep_amendment(session, amendment)
        return _finish(study, store, platform, held)


def finish(study: Study, store: Store, platform: Platform) -> Posting:
    """Finish what a crash left of an earlier amendment; does nothing when there is nothing left to do.

    Raises:
        as ``carry_out``.
    """
    with lease(store, "amend", study.file.pay.cap_money) as held:
        _require_posted(study, store, platform)
        _close_unborn(held, store)
        return _finish(study, store, platform, held)


def _finish(study: Study, store: Store, platform: Platform, held: HeldLease) -> Posting:
    keep_amendments(study, store)
    posting = _require_posted(study, store, platform)
    for intent, target in _open_places(store):
        platform_id = str(posting.platform_id)
        if platform.places(platform_id) < target:
            platform.set_places(platform_id, target)
        close(held, intent, IntentState.DONE, f"{target} places")
        with store.write() as session:
            posting = session.get_one(Posting, posting.id)
            posting.places = target
    return posting


def _close_unborn(held: HeldLease, store: Store) -> None:
    """Close intents of amendments that never came about: a crash came between the two."""
    with store.read() as session:
        born = {amendment.name for amendment in amendments(session)}
        unborn = [i.id for i in intents_in(session, IntentState.OPEN, "places") if _amendment_of(i.subject) not in (None, *born)]
    for intent in unborn:
        close(held, intent, IntentState.REFUSED, "the amendment didn't come about")


def _open_places(store: Store) -> list[tuple[str, int]]:
    """Intents to raise places for amendments, with the places that were meant."""
    with store.read() as session:
        found = intents_in(session, IntentState.OPEN, "places")
        return [(i.id, int(i.subject.rpartition("/")[2])) for i in found if _amendment_of(i.subject) is not None]


def _amendment_of(subject: str) -> str | None:
    """The amendment that places were raised for; None for a harvest's, which are counted."""
    name = subject.split("/")[1]
    return None if name.isdigit() else name


def _require_posted(study: Study, store: Store, platform: Platform) -> Posting:
    if store.kind is not StoreKind.STUDY:
        raise PublishError(f"{store.url}: this is a {store.kind}; only a published study is amended")
    with store.read() as session:
        found = [posting for posting in postings(session, MAIN) if posting.platform == platform.name and posting.platform_id]
        piloted = any(posting.platform_id for posting in postings(session, PILOT))
    if not found and piloted:
        raise PublishError(
            f"{study.folder}: only the pilot is posted, and the study is frozen since; run `{command('publish', study.folder)}` "
            "first, or copy the folder without study.lock and study.db to a new study and change that"
        )
    if not found:
        raise PublishError(
            f"{study.folder}: the study isn't published yet; edit study.toml, or run `{command('publish', study.folder)}`"
        )
    return found[0]


def _require_open(study: Study, store: Store, platform: Platform) -> None:
    posting = _require_posted(study, store, platform)
    state = posting_state(store, platform, posting)
    if state is PostingState.STOPPED:
        raise PublishError(f"{study.file.study.name} was stopped on {platform.name}, which is for good; publish a new study")
    if state is PostingState.PAUSED:
        raise PublishError(f"{study.file.study.name} is paused; run `{command('resume', study.folder)}` first")


def _responses(arm: ArmSection, earlier: Sequence[Amendment]) -> int:
    """Valid responses per unit that are planned by now."""
    return max([arm.responses, *(one.responses[arm.id][1] for one in earlier if arm.id in one.responses)])


def _units(arm: ArmSection) -> int:
    return arm.units + arm.null


def _uneven(study: Study, arm: ArmSection, before: int, after: int) -> str | None:
    units, trials = _units(arm), study.file.tasks.trials
    if units * (after - before) % trials == 0:
        return None
    step = trials // gcd(units, trials)
    return (
        f"arm {arm.id}: {after - before} more responses of {units} units can't be cut into tasks of {trials} trials; the next "
        f"numbers that can are {before + step} and {before + 2 * step}"
    )


def _name(kind: str, earlier: Sequence[Amendment]) -> str:
    return f"{kind}-{1 + sum(amendment.post_hoc for amendment in earlier)}"


def _now(store: Store) -> datetime:
    return datetime.fromtimestamp(store.now() / 1000, UTC)


def _voided_unit(session: Session, unit: str) -> list[VoidedUnit]:
    query = (
        select(Task.arm, func.max(Trial.revision))
        .join(Trial, Trial.task_id == Task.id)
        .where(Trial.unit == unit)
        .group_by(Task.arm)
        .order_by(Task.arm)
    )
    found = session.execute(query).all()
    if not found:
        raise PublishError(f"--unit {unit}: no task asks about it; a unit is written model/layer/channel, as in report/units.csv")
    return [VoidedUnit(arm=arm, unit=unit, revision=revision + 1) for arm, revision in found]


def _showing(session: Session, voided: VoidedUnit) -> Sequence[Task]:
    """Tasks that lack a valid response for a unit, or that would still show its panels to somebody.

    A task with a valid response that shows the unit in a catch trial alone is done: catch trials aren't analysed.
    """
    shown = select(Trial.task_id).where(Trial.unit == voided.unit, Trial.revision < voided.revision, ~Trial.voided)
    main = shown.where(Trial.kind == "main")
    done = select(Visit.task_id).where(Visit.holds_task, Visit.state == VisitState.VALID.value)
    lacking = Task.id.in_(main) & ((Task.label == MAIN) | Task.id.not_in(done))
    showing = Task.id.in_(shown) & Task.id.not_in(done)
    query = select(Task).where(Task.arm == voided.arm, Task.retired_at.is_(None), lacking | showing).order_by(Task.id)
    return session.scalars(query).all()


def _task(session: Session, named: str) -> Task:
    arm, _, number = named.rpartition("/")
    if not (arm and number.isdigit()):
        raise PublishError(f"--task {named}: a task is written arm/number, as `crowd-imi status` and exports have it")
    found = session.scalars(select(Task).where(Task.arm == arm, Task.label == MAIN, Task.number == int(number))).one_or_none()
    if found is None:
        raise PublishError(f"--task {named}: there is no such task")
    if found.retired_at is not None:
        raise PublishError(f"--task {named}: another task took its place already")
    return found


def _replaced(session: Session, tasks: Sequence[Task]) -> tuple[Replaced, ...]:
    query = select(Task.arm, Task.label, func.max(Task.number)).group_by(Task.arm, Task.label)
    last = {(arm, label): number for arm, label, number in session.execute(query)}
    found = []
    for task in tasks:
        last[task.arm, task.label] += 1
        found.append(
            Replaced.model_validate(
                {"arm": task.arm, "label": task.label, "number": task.number, "by": last[task.arm, task.label]}
            )
        )
    return tuple(found)
