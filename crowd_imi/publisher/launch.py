"""Making a run's store and posting its tasks."""

import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.errors import PublishError, StoreError
from crowd_imi.files import DATABASES_NOTE, LOCK, begun_by, why_no_database
from crowd_imi.keys import completion_code, study_key
from crowd_imi.ledger import PaidCall, lease, spend
from crowd_imi.lifecycle import PAYABLE
from crowd_imi.plan import Amendment, Plan, PlannedTask, load_plan
from crowd_imi.platforms.base import Ending, Platform, PostingRequest, price
from crowd_imi.platforms.opening import Choice
from crowd_imi.promises import one_bonus
from crowd_imi.promises import promised as bonuses_promised
from crowd_imi.publisher.lock import keep_amendments, keep_lock, make_lock, require_lock, was_refused
from crowd_imi.records import Money
from crowd_imi.stock import take_stock
from crowd_imi.store import Clock, Store, StoreKind
from crowd_imi.store.engine import database_urls, is_there
from crowd_imi.store.lab import ROW as LAB_KEY
from crowd_imi.store.lab import lab_key_mark
from crowd_imi.store.money import HARVESTER, count_stand_ins, find_intent, keep_terms, spending_beside, stray_spending
from crowd_imi.store.people import holds_ids
from crowd_imi.store.postings import MAIN, PILOT, chosen_platform, is_stopped_here, keep_platform, postings
from crowd_imi.store.server import Databases, connection_urls, databases_asked_for, note_databases
from crowd_imi.store.tables import Posting, Task
from crowd_imi.store.tasks import add_tasks, amendments, keep_amendment, load_tasks
from crowd_imi.study import Study


@dataclass(frozen=True, slots=True)
class Offer:
    """What publishing promises."""

    places: int
    reward: Money
    fee: Money
    """The platform's, on each reward."""
    total: Money
    """If every place is taken and paid, fees included; replacements come on top, up to the cap."""
    bonuses: Money
    """If everybody there earns the bonus of ``[pay]``, fees included."""
    cap: Money

    @property
    def most(self) -> Money:
        """What has to be there when these places are offered."""
        return Money(amount=self.total.amount + self.bonuses.amount, currency=self.total.currency)


def create_store(study: Study, plan: Plan, run_folder: Path, kind: StoreKind, clock: Clock | None = None) -> Store:
    """Make the databases of a run and load the tasks; a crash leaves none or all.

    A study's are on the server that the environment names, where it names one; rehearsals and previews have theirs in a folder.

    Raises:
        StoreError: the run has a database already, or the study was published from one that is gone, or the ids of its people
            are there.
    """
    final, people = begun_by(run_folder), run_folder / "people.db"
    if final.exists():
        raise StoreError(f"{final}: there is a database here already; open it, or choose another place")
    # One without ids is what a crash between the last two lines below leaves.
    if people.exists() and holds_ids(people):
        raise StoreError(
            f"{people}: holds the ids of people who took part, but {final.name} beside it is missing; put {final.name} back "
            f"from a backup, or move {people.name} away to begin anew (then who took part could do so again, and who isn't paid "
            "yet can't be paid)"
        )
    server = databases_asked_for(study.key, study.file.study.name) if kind is StoreKind.STUDY else None
    if kind is StoreKind.STUDY and (run_folder / LOCK).exists() and not (server and is_there(connection_urls(server)[0])):
        raise StoreError(f"{final}: {why_no_database(run_folder)}")
    study_key(study.key)  # before the database, beside which it may not be made any more
    about = {
        "study": study.file.study.name,
        "plan_sha256": plan.sha256,
        "pack_sha256": plan.pack_sha256,
    }
    if kind is StoreKind.STUDY:
        about[LAB_KEY] = lab_key_mark()
    run_folder.mkdir(parents=True, exist_ok=True)
    if server is not None:
        _create_on_server(plan, server, about)
        note_databases(run_folder, server)
        return Store.open(*database_urls(run_folder), clock)
    making = Path(tempfile.mkdtemp(dir=run_folder, prefix=".making-"))
    try:
        store = Store.create(*database_urls(making), kind, about, fill=lambda session: load_tasks(session, plan))
        store.close()  # SQLite folds its log into the file when the last connection goes
        (making / "people.db").replace(people)
        (making / "study.db").replace(final)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Store.open(*database_urls(run_folder), clock)


def _create_on_server(plan: Plan, server: Databases, about: dict[str, str]) -> None:
    """The study's schemas; those that a crash left before the folder noted them are taken as they are.

    Raises:
        StoreError: they were made from another plan.
    """
    urls = connection_urls(server)
    try:
        store = Store.create(*urls, StoreKind.STUDY, about, fill=lambda session: load_tasks(session, plan))
    except StoreError:
        if not is_there(urls[0]):
            raise
        store = Store.open(*urls)
    try:
        if store.about("plan_sha256") != plan.sha256:
            raise StoreError(
                f"{store.url}: this study's database is there already, made from another plan; put that plan and "
                f"{DATABASES_NOTE} back, or, if nothing was ever published from it, drop the schema"
            )
    finally:
        store.close()


def offer_of(study: Study, places: int, platform: Platform, *, promised: int = 0) -> Offer:
    """What posting this many tasks costs on a platform.

    Args:
        study: for reward and cap.
        places: one per task.
        platform: for its fee.
        promised: minor units that are spent already, or promised to others, and that the cap has to hold as well.

    Raises:
        PublishError: it is more than the cap.
    """
    pay = study.file.pay
    each = price(platform, pay.reward_money)
    fee = Money(amount=each.amount - pay.reward, currency=pay.currency)
    total = Money(amount=places * each.amount, currency=pay.currency)
    bonuses = Money(amount=places * one_bonus(study, platform), currency=pay.currency)
    offer = Offer(places, pay.reward_money, fee, total, bonuses, pay.cap_money)
    wanted = offer.most.amount + promised
    if places and wanted > pay.cap:  # where no place is added, nothing more is promised
        beside = f" ({pay.reward_money} and a fee of {fee})" if fee.amount else ""
        earned = f", and {bonuses} in bonuses" if bonuses.amount else ""
        others = f", and {Money(amount=promised, currency=pay.currency)} are spent or promised already" if promised else ""
        raise PublishError(
            f"{study.toml}: {places} tasks × {each}{beside} = {total}{earned}{others}, but pay.cap allows {pay.cap_money}; "
            f"raise pay.cap to at least {wanted} (more, to replace "
            "who is excluded), or plan fewer tasks"
        )
    return offer


def promised(study: Study, store: Store, platform: Platform) -> int:
    """Minor units that are spent, or promised to who takes part or may do so on a posting that there is.

    Who handed in on the platform without a visit here may be approved there: all of its places count, where they cost more
    than what is known of here.
    """
    each = price(platform, study.file.pay.reward_money)
    with store.read() as session:
        posted = [posting for posting in postings(session) if posting.platform_id is not None]
        bonuses = bonuses_promised(session, study, platform)
        spent, strays = spending_beside(session, PAYABLE, each.amount), stray_spending(session)
        compensated = count_stand_ins(session, PAYABLE)
        going_on = [posting for posting in posted if not is_stopped_here(session, posting.id)]
    stock = take_stock(study, store, each, beside=bonuses.beside, each_beside=bonuses.each)
    nobodys = len(stock.open) + len(stock.unaffordable) if any(posting.label == MAIN for posting in posted) else 0
    coming = nobodys + stock.elsewhere
    places = sum(platform.places(str(one.platform_id)) for one in going_on)
    rewards = max((stock.payable + stock.undecided + coming) * each.amount + strays, (places + compensated) * each.amount)
    return rewards + spent - strays + bonuses.beside + coming * bonuses.each


def note_platform(store: Store, choice: Choice, offer: Offer, label: str = MAIN) -> Posting:
    """Write down what will be posted and where, before anything is; so a copy of the study knows of the same posting.

    Args:
        store: of the study.
        choice: a study that was posted keeps what it was posted with.
        offer: what is promised.
        label: main, or pilot for one that comes before.

    Returns:
        The posting that was made or is about to be; its id is the intent that the platform is told.

    Raises:
        PublishError: it is posted on another platform, or elsewhere.
    """
    with store.write() as session:
        keep_terms(session, offer.cap.amount, offer.reward.amount + offer.fee.amount)
        for earlier in postings(session):
            _require_same(session, earlier, choice)
            if earlier.label == label:
                return earlier
        keep_platform(session, choice.model_dump_json())
        posting = Posting(
            id=secrets.token_hex(8),
            platform=choice.name,
            places=offer.places,
            state="new",
            created_at=store.now(),
            platform_id=None,
            label=label,
        )
        session.add(posting)
        return posting


def is_posted(store: Store, label: str = MAIN) -> bool:
    """Whether a platform has taken the study's posting, or its pilot's."""
    with store.read() as session:
        return any(posting.platform_id is not None for posting in postings(session, label))


def launch(study: Study, store: Store, platform: Platform, choice: Choice, label: str = MAIN) -> Posting:
    """Freeze the study and post its tasks; again after a crash it goes on, and posts nothing twice.

    Args:
        study: its lock is written when the store is the study's own, not a rehearsal's.
        store: made by ``create_store``.
        platform: where participants come from.
        choice: the platform and where it sends them; kept, so that every later command finds it.
        label: main; or pilot, whose tasks ``add_pilot`` has written.

    Raises:
        PublishError: it would go over the cap, was published as something else, or is on another platform.
        PlatformError: the platform said no.
        Busy: somebody else spends at the moment, or a harvest runs, be it between two rounds.
    """
    plan = load_plan(study.plan)
    study_key(study.key)  # is there, or nothing is posted
    if store.about("plan_sha256") != plan.sha256:
        raise PublishError(f"{study.plan}: the tasks were planned anew since {store.url} was made; publish from a new folder")
    places = len(plan.tasks) if label == MAIN else len(pilot_of(store))
    cap = study.file.pay.cap_money
    with lease(store, "publish", cap, name=HARVESTER), lease(store, "publish", cap) as held:  # not beside a harvest, idle or not
        # Nobody else spends from here on: what the cap held when the offer was looked at may be promised since.
        already = 0 if is_posted(store, label) else promised(study, store, platform)
        offer = offer_of(study, places, platform, promised=already)
        if store.kind is StoreKind.STUDY:
            _freeze(study, store, plan)
        posting = note_platform(store, choice, offer, label)
        if posting.platform_id is None:
            request = _request(study, posting, offer, choice.arrival_url)
            platform_id = spend(
                held,
                PaidCall("post", posting.id, offer.total),
                lambda: platform.post(request),
                read_back=lambda: platform.find(posting.id),
            )
            with store.write() as session:
                posting = session.get_one(Posting, posting.id)
                posting.platform_id, posting.state = platform_id, "open"
    return posting


def pilot_of(store: Store) -> tuple[str, ...]:
    """The pilot's tasks, as ``arm/number``; nothing where no pilot was asked for."""
    with store.read() as session:
        found = session.execute(select(Task.arm, Task.number).where(Task.label == PILOT, Task.retired_at.is_(None)))
        return tuple(f"{arm}/{number}" for arm, number in found)


def add_pilot(store: Store, amendment: Amendment, tasks: Sequence[PlannedTask], seed: int) -> None:
    """Write a pilot's tasks into the store, once."""
    with store.write() as session:
        if all(known.name != amendment.name for known in amendments(session)):
            add_tasks(session, tasks, seed, amendment.name)
            keep_amendment(session, amendment)


def _freeze(study: Study, store: Store, plan: Plan) -> None:
    """Write the lock or hold the study to it; one whose posting the platform refused was never published."""
    require_lock(study, store)
    lock = make_lock(study, plan_sha256=plan.sha256, pack_sha256=plan.pack_sha256, now=store.now())
    keep_lock(study, lock, anew=was_refused(store))
    keep_amendments(study, store)


def _require_same(session: Session, posting: Posting, choice: Choice) -> None:
    """A study is posted once; what no platform was told may change, and where its pages are until it is posted."""
    if find_intent(session, "post", posting.id) is None:
        posting.platform = choice.name
        keep_platform(session, choice.model_dump_json())
        return
    if posting.platform != choice.name:
        raise PublishError(f"this study is on {posting.platform} already; a study is posted on one platform")
    noted = chosen_platform(session)
    earlier = choice if noted is None else Choice.model_validate_json(noted)
    if (earlier.endpoint_url, earlier.sandbox) != (choice.endpoint_url, choice.sandbox):
        where = earlier.endpoint_url or ("the sandbox" if earlier.sandbox else "the platform itself")
        raise PublishError(f"this study was published at {where}; a study is posted once: say the same again")
    if posting.platform_id is None:
        keep_platform(session, choice.model_dump_json())
    elif earlier.pages_url.rstrip("/") != choice.pages_url.rstrip("/"):
        raise PublishError(
            f"this study's participants are sent to {earlier.pages_url}, which {posting.platform} was told; keep the pages there"
        )


def _request(study: Study, posting: Posting, offer: Offer, arrival_url: str) -> PostingRequest:
    file = study.file
    warning = file.pages.content_warning.strip()
    return PostingRequest(
        intent=posting.id,
        title=file.study.title,
        description=(
            f"Look at pictures and choose which of two fits better, {file.tasks.trials + file.tasks.catch} times. "
            f"Takes about {file.pay.estimated_minutes:g} minutes, in a window of at least 940×600. "
            "You need normal colour vision." + (f" Please know beforehand: {warning}" if warning else "")
        ),
        arrival_url=arrival_url,
        reward=offer.reward,
        places=posting.places,
        minutes=file.pay.estimated_minutes,
        completion_code=completion_code(study_key(study.key), posting.id),
        other_codes={
            ending: completion_code(study_key(study.key), posting.id, ending) for ending in Ending if ending != Ending.COMPLETED
        },
    )
