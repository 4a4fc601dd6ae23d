"""What is looked at before real people are invited."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from crowd_imi.errors import PublishError, command
from crowd_imi.pack import Pack
from crowd_imi.plan import Plan, missing_sprites
from crowd_imi.platforms.base import Platform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import Offer
from crowd_imi.publisher.pay import HOURLY_FAIR, HOURLY_FLOOR, below
from crowd_imi.signoff import require_sign_off
from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.store.tasks import amendments
from crowd_imi.study import Study
from crowd_imi.vetoes import vetoed_but_shown

LOOPBACK = ("127.0.0.1", "localhost", "::1")

LONGEST_TITLE = {"prolific": 120, "mturk": 128}
"""Characters of a posting's title that a platform takes."""

_TEMPLATE = {"contact": "you@example.org", "investigator": "Your name", "institution": "Your institution"}
"""What the templates have of ``[pages]``; real people would read it in the invitation and the consent."""


def require_ready(study: Study, plan: Plan) -> None:
    """Make sure that the tasks show the pack that lies there, all of their sprites, nothing vetoed, and that a person has looked.

    Raises:
        PublishError: the pack was rendered anew since the tasks were planned, shows what was vetoed, or nobody has signed
            it off; or sprites are missing.
        PackError: there is none.
        FactoryError: vetoes.toml is damaged.
    """
    pack = Pack(study.pack)
    if pack.digest != plan.pack_sha256:
        raise PublishError(
            f"{study.pack}: rendered anew since the tasks were planned; run `{command('plan', study.folder)}` again"
        )
    missing = missing_sprites(plan.sprites, study.sprites)
    if missing:
        raise PublishError(
            f"{study.sprites}: {len(missing)} of {len(plan.sprites)} sprites are missing, {missing[0]} for one; run "
            f"`{command('plan', study.folder)}` again, which makes the same ones"
        )
    vetoed = vetoed_but_shown(study, pack, panels_made_anew(study))
    if vetoed is not None:  # asked apart from the sign-off, in whose place a content warning may stand
        raise PublishError(vetoed)
    require_sign_off(study, pack)


def panels_made_anew(study: Study) -> tuple[str, ...]:
    """Names of the amendments that made panels anew, the oldest first.

    Raises:
        StoreError: the study has begun, and its databases can't be used.
    """
    if not study.database.exists():
        return ()
    store = Store.open(*database_urls(study.folder))
    try:
        with store.read() as session:
            return tuple(amendment.name for amendment in amendments(session) if amendment.panels_sha256 is not None)
    finally:
        store.close()


def posting_problems(
    study: Study, platform: Platform, choice: Choice, offer: Offer, *, accept_low_pay: bool = False
) -> Iterator[str]:
    """Everything that keeps a study from being posted on a platform, a line each; credentials are tried.

    Args:
        study: to be posted.
        platform: opened; it is asked for its account.
        choice: where the pages will be.
        offer: what posting promises.
        accept_low_pay: the researcher knows that the pay is under the floor.

    Raises:
        PlatformError: the platform doesn't accept the credentials, or can't be asked.
    """
    yield from url_problems(choice)
    if choice.name != "local" and not _is_tried_out(choice):
        yield from _unfilled(study)
    longest = LONGEST_TITLE.get(choice.name)
    if longest is not None and len(study.file.study.title) > longest:
        yield (f"study.title has {len(study.file.study.title)} characters, and {choice.name} takes {longest}; make it shorter")
    yield from money_problems(study, platform, choice, offer, accept_low_pay=accept_low_pay)


def money_problems(
    study: Study, platform: Platform, choice: Choice, offer: Offer, *, accept_low_pay: bool = False
) -> Iterator[str]:
    """Everything about money that keeps places from being offered; as ``posting_problems``."""
    low = below(study, HOURLY_FLOOR)
    if choice.name != "local" and low is not None and not accept_low_pay:
        yield f"{low}; raise it, or say --accept-low-pay where your review board agreed to it"
    balance = platform.account().balance
    if balance is None:
        return
    if balance.currency != offer.total.currency:
        yield f"pay.currency = {offer.total.currency!r}: this account on {choice.name} pays in {balance.currency}; change it"
    elif balance.amount < offer.most.amount:
        yield f"the balance on {choice.name} is {balance}, and the study costs {offer.most}; top it up first"
    quoted = platform.quote(offer.reward, offer.places)
    # Each place's fee is rounded by itself, the whole study's once.
    if quoted is not None and quoted.amount - offer.total.amount > offer.places:
        section = study.file.prolific
        yield (
            f"{offer.places} places cost {quoted} by {choice.name}'s own calculation, and {offer.total} by prolific.fee_percent "
            f"= {section.fee_percent:g} and prolific.vat_percent = {section.vat_percent:g}; set these to what your account pays"
        )


def board_remarks(study: Study) -> Iterator[str]:
    """What a review board asks for and study.toml doesn't say."""
    pages = study.file.pages
    if not pages.approval:
        yield "pages.approval is empty: say who reviewed the study and under which number, or why nobody had to"
    if "@" not in pages.contact:
        yield f"pages.contact = {pages.contact!r} is no e-mail address; participants must be able to reach somebody"


def url_problems(choice: Choice) -> Iterator[str]:
    """What is wrong with the address of the task pages."""
    parts = urlsplit(choice.pages_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield f"--pages-url {choice.pages_url}: this is no address; right would be https://pages.your-lab.org"
        return
    if parts.query or parts.fragment:
        yield f"--pages-url {choice.pages_url}: an address may not have anything behind ? or #"
    elif choice.name == "local" or _is_tried_out(choice):
        return
    elif parts.scheme == "http":
        yield f"--pages-url {choice.pages_url}: participants' browsers want https://; put a proxy with a certificate in front"
    elif parts.hostname in LOOPBACK:
        yield f"--pages-url {choice.pages_url}: this is this machine, which participants can't reach; give its public address"


def _is_tried_out(choice: Choice) -> bool:
    """Whether the platform is a stand-in on this machine, or people on this machine follow links."""
    own = urlsplit(choice.endpoint_url or "").hostname in LOOPBACK
    return own or (choice.name == "link" and urlsplit(choice.pages_url).hostname in LOOPBACK)


def _unfilled(study: Study) -> Iterator[str]:
    """Keys that participants read and that still say what the template that ``init`` writes says."""
    for name in ("contact", "investigator", "institution"):
        said = getattr(study.file.pages, name)
        if said == _TEMPLATE[name]:
            yield f"pages.{name} = {said!r} is what the template says, and participants read it; put your own"


def concerns(study: Study) -> Iterator[str]:
    """What doesn't keep a study from being published, and deserves a thought before it is."""
    yield from _unfilled(study)
    images = study.file.images
    if images.restricted:
        yield (
            f"images.restricted = true: by their licence ({images.licence}) these images may not be shown to the public; publish "
            "only where participants aren't the public, or with the rights holders' consent"
        )
    low = below(study, HOURLY_FLOOR) or below(study, HOURLY_FAIR)
    if low is not None:
        yield low
