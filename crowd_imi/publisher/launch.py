"""Making a run's store and posting its tasks."""

import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from crowd_imi.errors import PublishError, StoreError
from crowd_imi.keys import completion_code, study_key
from crowd_imi.ledger import IntentState, PaidCall, lease, spend
from crowd_imi.pack import Pack
from crowd_imi.plan import Plan, load_plan
from crowd_imi.platforms.base import Platform, PostingRequest
from crowd_imi.publisher.lock import keep_lock, make_lock
from crowd_imi.records import Money
from crowd_imi.store import Clock, Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.store.money import intents_in
from crowd_imi.store.postings import postings
from crowd_imi.store.tables import Posting
from crowd_imi.store.tasks import load_tasks
from crowd_imi.study import Study


@dataclass(frozen=True, slots=True)
class Offer:
    """What publishing promises."""

    places: int
    reward: Money
    total: Money
    """If every place is taken and paid; replacements come on top, up to the cap."""
    cap: Money


def create_store(study: Study, plan: Plan, run_folder: Path, kind: StoreKind, clock: Clock | None = None) -> Store:
    """Make the databases of a run and load the tasks; a crash leaves none or all.

    Raises:
        StoreError: the run has a database already.
    """
    final = run_folder / "study.db"
    if final.exists():
        raise StoreError(f"{final}: there is a database here already; open it, or choose another place")
    about = {
        "study": study.file.study.name,
        "plan_sha256": plan.sha256,
        "pack_sha256": plan.pack_sha256,
    }
    run_folder.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=run_folder, prefix=".making-"))
    try:
        store = Store.create(*database_urls(making), kind, about)
        with store.write() as session:
            load_tasks(session, plan)
        store.close()  # SQLite folds its log into the file when the last connection goes
        (making / "people.db").replace(run_folder / "people.db")
        (making / "study.db").replace(final)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Store.open(*database_urls(run_folder), clock)


def require_pack_of(study: Study, plan: Plan) -> None:
    """Make sure that the tasks show the pack that lies there.

    Raises:
        PublishError: the pack was rendered anew since.
        PackError: there is none.
    """
    if Pack(study.pack).digest != plan.pack_sha256:
        raise PublishError(f"{study.pack}: rendered anew since the tasks were planned; run `crowd-imi plan {study.folder}` again")


def offer_of(study: Study, places: int) -> Offer:
    """What posting this many tasks costs.

    Raises:
        PublishError: it is more than the cap.
    """
    pay = study.file.pay
    total = Money(amount=places * pay.reward, currency=pay.currency)
    if total.amount > pay.cap:
        raise PublishError(
            f"{study.toml}: {places} tasks × {pay.reward_money} = {total}, but pay.cap allows {pay.cap_money}; "
            f"raise pay.cap to at least {total.amount} (more, to replace "
            "who is excluded), or plan fewer tasks"
        )
    return Offer(places, pay.reward_money, total, pay.cap_money)


def launch(study: Study, store: Store, platform: Platform, arrival_url: str) -> Posting:
    """Freeze the study and post its tasks; again after a crash it goes on, and posts nothing twice.

    Args:
        study: its lock is written when the store is the study's own, not a rehearsal's.
        store: made by ``create_store``.
        platform: where participants come from.
        arrival_url: where the platform sends them.

    Raises:
        PublishError: it would go over the cap, was published as something else, or is on another platform.
        PlatformError: the platform said no.
        LedgerError: somebody else spends at the moment.
    """
    plan = load_plan(study.plan)
    if store.about("plan_sha256") != plan.sha256:
        raise PublishError(f"{study.plan}: the tasks were planned anew since {store.url} was made; publish from a new folder")
    offer = offer_of(study, len(plan.tasks))
    with lease(store, "publish", study.file.pay.cap_money) as held:
        if store.kind is StoreKind.STUDY:
            _freeze(study, store, plan)
        posting = _mean_posting(store, platform.name, offer.places)
        if posting.platform_id is None:
            request = _request(study, posting, offer, arrival_url)
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


def _freeze(study: Study, store: Store, plan: Plan) -> None:
    """Write the lock or hold the study to it; one whose posting the platform refused was never published."""
    with store.read() as session:
        refused = bool(intents_in(session, IntentState.REFUSED, "post"))
    lock = make_lock(study, plan_sha256=plan.sha256, pack_sha256=plan.pack_sha256, now=store.now())
    keep_lock(study, lock, anew=refused)


def _mean_posting(store: Store, platform: str, places: int) -> Posting:
    """The posting that was made or is about to be; its id is the intent that the platform is told."""
    with store.write() as session:
        earlier = postings(session)
        if earlier and earlier[0].platform != platform:
            raise PublishError(f"this study is on {earlier[0].platform} already; a study is posted on one platform")
        if earlier:
            return earlier[0]
        posting = Posting(
            id=secrets.token_hex(8), platform=platform, places=places, state="new", created_at=store.now(), platform_id=None
        )
        session.add(posting)
        return posting


def _request(study: Study, posting: Posting, offer: Offer, arrival_url: str) -> PostingRequest:
    file = study.file
    return PostingRequest(
        intent=posting.id,
        title=file.study.title,
        description=(
            f"Look at pictures and choose which of two fits better, {file.tasks.trials + file.tasks.catch} times. "
            f"Takes about {file.pay.estimated_minutes:g} minutes, in a window of at least 940×600. "
            "You need normal colour vision."
        ),
        arrival_url=arrival_url,
        reward=offer.reward,
        places=posting.places,
        minutes=file.pay.estimated_minutes,
        completion_code=completion_code(study_key(study.key), posting.id),
    )
