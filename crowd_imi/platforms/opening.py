"""Which platform a study is on, and its adapter: chosen when it is published, kept in its store, opened by every command."""

import os
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

from crowd_imi.errors import StoreError
from crowd_imi.keys import study_key
from crowd_imi.platforms.addresses import require_address
from crowd_imi.platforms.base import Platform
from crowd_imi.records import Money, Record
from crowd_imi.store import Clock, Store
from crowd_imi.store.postings import chosen_platform, postings
from crowd_imi.study import Study

PlatformName = Literal["local", "link", "prolific", "mturk"]
NAMES: tuple[str, ...] = get_args(PlatformName)
ARRIVAL_SECONDS, ARRIVAL_ATTEMPTS = 8.0, 3
"""How long, and how often, a platform is asked while somebody waits for a page."""


DEFAULT_PAGES_URL = "http://127.0.0.1:8000"


class Choice(Record):
    """Where a study's participants come from."""

    name: PlatformName = "local"
    pages_url: str = DEFAULT_PAGES_URL
    """Where participants reach the task pages."""
    endpoint_url: str | None = None
    """A stand-in, or a server that speaks the platform's protocol; the platform's own where it isn't set."""
    sandbox: bool = False
    """MTurk's sandbox."""

    @property
    def arrival_url(self) -> str:
        return f"{self.pages_url.rstrip('/')}/arrive"


def choice_of(store: Store) -> Choice:
    """What a study was published with; the local platform where it wasn't.

    Raises:
        StoreError: a later version wrote down something else.
    """
    with store.read() as session:
        noted = chosen_platform(session)
    if noted is None:
        return Choice()
    try:
        return Choice.model_validate_json(noted)
    except ValidationError:
        raise StoreError(
            f"{store.url}: says of its platform what this version doesn't know ({noted[:80]}); use the one that published it"
        ) from None


def price_on(study: Study, platform: PlatformName, reward: Money | None = None) -> Money | None:
    """What one paid submission costs on a platform, fees included, without asking it; None where its currency isn't paid.

    Args:
        study: its sections say what the platform takes.
        platform: which.
        reward: what is paid, if it isn't the study's reward.
    """
    reward = reward or study.file.pay.reward_money
    match platform:
        case "prolific":
            from crowd_imi.platforms.prolific import CURRENCIES, fee_of

            if reward.currency not in CURRENCIES:
                return None
            return Money(amount=reward.amount + fee_of(study.file.prolific, reward).amount, currency=reward.currency)
        case "mturk":
            from crowd_imi.platforms.mturk import fee_of as fee_on_mturk

            if reward.currency != "USD":
                return None
            return Money(amount=reward.amount + fee_on_mturk(study.file.mturk, reward).amount, currency=reward.currency)
        case _:
            return reward


def open_platform(
    study: Study, run_folder: Path, choice: Choice, clock: Clock | None = None, *, patient: bool = True
) -> Platform:
    """The adapter of a run's platform. Nothing is asked of the platform yet.

    Args:
        study: its sections say what platforms are told.
        run_folder: the study's folder, or a rehearsal's, where the local platforms have their books.
        choice: which platform.
        clock: whose time the local platforms' books show.
        patient: whether a request that fails is tried again for a minute; not while somebody waits for a page.

    Raises:
        PlatformError: there are no credentials, or they would be sent where others can read them.
    """
    require_address("--pages-url", choice.pages_url)
    if choice.endpoint_url is not None:
        require_address("--endpoint-url", choice.endpoint_url)
    # A rehearsal's stand-in takes no credentials of the user's own, and its links are signed by a simulated clock.
    rehearsed = run_folder.resolve() != study.folder.resolve()
    match choice.name:
        case "local":
            from crowd_imi.platforms.local import LocalPlatform

            return LocalPlatform(run_folder / "local.db", clock)
        case "link":
            from crowd_imi.platforms.link import LinkPlatform

            return LinkPlatform(run_folder / "link.db", study_key(study.key), study.file.link, choice.pages_url, clock)
        case "prolific":
            from crowd_imi.platforms.prolific import TOKEN_VARIABLE, ProlificPlatform
            from crowd_imi.platforms.prolific_api import LAST_TRY_SECONDS

            return ProlificPlatform(
                os.environ.get(TOKEN_VARIABLE, ""),
                study.file.prolific.model_copy(update={"signed_arrivals": False}) if rehearsed else study.file.prolific,
                choice.endpoint_url,
                patience=LAST_TRY_SECONDS if patient else ARRIVAL_SECONDS,
                visit_minutes=study.file.pages.visit_minutes,
                pages=choice.pages_url,
            )
        case "mturk":
            from crowd_imi.platforms.mturk import MturkPlatform
            from crowd_imi.platforms.mturk.client import ATTEMPTS

            return MturkPlatform(
                study.file.mturk.model_copy(update={"profile": None}) if rehearsed else study.file.mturk,
                endpoint_url=choice.endpoint_url,
                sandbox=choice.sandbox,
                assignment_minutes=study.file.pages.visit_minutes,
                attempts=ATTEMPTS if patient else ARRIVAL_ATTEMPTS,
            )


def require_books(store: Store, run_folder: Path, choice: Choice) -> None:
    """Make sure that the books of a platform on this machine are there once something was posted: new ones would be empty.

    Raises:
        StoreError: they are missing.
    """
    books = {"local": "local.db", "link": "link.db"}.get(choice.name)
    if books is None or (run_folder / books).exists():
        return
    with store.read() as session:
        posted = any(posting.platform_id is not None for posting in postings(session))
    if posted:
        raise StoreError(f"{run_folder / books}: the {choice.name} platform's books are missing; restore them from a backup")
