"""Where participants come in: ``/arrive``, ``/preview``, the page itself, and what refused people read."""

import logging
from collections.abc import Mapping
from typing import Literal

from flask import Blueprint, Response, abort, render_template, request
from pydantic import TypeAdapter, ValidationError

from crowd_imi.allocation import Arrival, arrive, arrive_for_preview
from crowd_imi.errors import (
    BadLink,
    ForgedLink,
    MalformedLink,
    NoPlace,
    PlatformError,
    PostingPaused,
    PreviewOnly,
    Refused,
    UnknownSubmission,
)
from crowd_imi.pages.context import pages, request_clock
from crowd_imi.pages.requests import Parameter
from crowd_imi.platforms.base import Capability, Platform, PlatformSubmission
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.people import is_known
from crowd_imi.store.tables import Visit
from crowd_imi.store.visits import posting_of

log = logging.getLogger(__name__)
arrival = Blueprint("arrival", __name__)

ACTIVE = "active"
NO_VISIT = ("already-took-part", "study-full")
"""Refusals after which the place that was taken is nobody's."""
Advice = Literal["what_to_do", "given_back", "no_place"]
_QUERY = TypeAdapter(dict[str, Parameter])
WHOLE_LINKS = {"link": ({"invitation"}, {"open", "visitor"}), "local": ({"participant", "submission", "posting"},)}
"""Platform → what its links to ``arrive`` hold: one that holds it all, and is none of the platform's, was made up or changed."""
HANDED_IN = ("awaiting_review", "approved", "rejected")


@arrival.before_request
def only_real_visits() -> None:
    """Mail programs and link checkers ask for the head of a page; they aren't participants."""
    if request.method == "HEAD":
        abort(405)


@arrival.get("/arrive")
def arrive_from_platform() -> Response:
    """Check what the link says with the platform, and give out a task; not for too many at once."""
    arriving = pages().arriving
    if not arriving.acquire(blocking=False):
        raise Refused("Many people arrive at once; please reload this page in a moment.", 503, "try-again")
    try:
        return _arrive()
    finally:
        arriving.release()


def _arrive() -> Response:
    here = pages()
    now = request_clock(here.store).now()
    if here.platform is None:
        raise bad_link()
    query = link_query()
    _require_posting(here.platform, here.store, query)
    try:
        submission = _ask_platform(here.platform, query)
    except NoPlace as none:
        return no_place_page(none)
    with here.store.read() as session:
        posting = posting_of(session, here.platform.name, submission.posting)
    if posting is None:
        raise _unknown()
    _check(submission)
    comer = Arrival(
        platform=here.platform.name,
        platform_participant=submission.participant,
        platform_submission=submission.id,
        posting_id=posting.id,
        now=now,
    )
    try:
        visit = arrive(here.store, here.study, comer)
    except Refused as refused:
        given_back = _give_back(here.platform, here.store, refused, submission.id)
        return refusal_page(refused, advice="given_back" if given_back else "what_to_do")
    return _enter(visit)


@arrival.get("/preview")
def arrive_for_a_look() -> Response:
    """A signed link: a new visit each time, which never counts."""
    here = pages()
    token = request.args.get("token", "")
    if here.store.kind is not StoreKind.PREVIEW or not token:
        raise bad_link()
    if not here.tokens.is_preview(token, here.study.file.study.name):
        raise not_ours()
    return _enter(arrive_for_preview(here.store, here.study, request_clock(here.store).now()))


@arrival.get("/visit")
def shell() -> Response:
    """The page, the same for everybody; its token stands behind the # of its address."""
    return Response(render_page("visit.html", texts=pages().texts), mimetype="text/html", headers={"Cache-Control": "no-cache"})


def render_page(template: str, **facts: object) -> str:
    """A page of the study's template; all of them share their head."""
    return render_template(template, language=pages().texts["language"], **facts)


def refusal_page(refused: Refused, *, advice: Advice = "what_to_do") -> Response:
    """What somebody reads who can't take part: why, and what to do, which is less for who has no place (any more)."""
    texts = pages().texts["refusals"]
    words = texts.get(refused.code, texts["bad-link"])
    page = render_page(
        "refusal.html",
        refusal=refused.code,
        heading=words["heading"],
        explanation=words["explanation"],
        what_to_do=words.get(advice, words["what_to_do"]),
    )
    return Response(page, refused.status, mimetype="text/html", headers={"Cache-Control": "no-store"})


def no_place_page(none: NoPlace) -> Response:
    """What somebody reads whose link is good, when no place is free or nobody new is let in for now."""
    if isinstance(none, PostingPaused):
        return refusal_page(Refused("This study is paused at the moment.", 409, "paused"), advice="no_place")
    return refusal_page(Refused("Every place of this study is taken at the moment.", 409, "study-full"), advice="no_place")


def link_query() -> Mapping[str, str]:
    """The link's parameters; a platform's ids are short and plain."""
    try:
        return _QUERY.validate_python(request.args.to_dict())
    except ValidationError:
        raise _malformed() from None


def _ask_platform(platform: Platform, query: Mapping[str, str]) -> PlatformSubmission:
    try:
        return platform.arrive(query)
    except PreviewOnly:
        raise Refused("Accept the task first; then it begins here.", 403, "preview") from None
    except MalformedLink:
        raise _malformed() from None
    except ForgedLink:
        raise Refused("Nobody vouches for this link, or not any more.", 403, "forged-link") from None
    except BadLink:
        raise (not_ours() if holds(query, *WHOLE_LINKS.get(platform.name, ())) else bad_link()) from None
    except NoPlace:
        raise
    except UnknownSubmission:
        raise _unknown() from None
    except PlatformError as error:
        log.error("an arrival couldn't be checked: %s", _without_ids(error, query))
        raise Refused("We can't check your place at the moment; please reload this page in a minute.", 503, "try-again") from None


def _require_posting(platform: Platform, store: Store, query: Mapping[str, str]) -> None:
    """Anybody can make up a link: the platform is asked only about postings of ours."""
    if platform.posting_parameter is None:
        return
    named = query.get(platform.posting_parameter, "")
    if not named:
        raise bad_link()
    with store.read() as session:
        posting = posting_of(session, platform.name, named)
    if posting is None:
        raise _unknown()


def _without_ids(error: PlatformError, query: Mapping[str, str]) -> str:
    text = str(error)
    for value in sorted(filter(None, query.values()), key=len, reverse=True):
        text = text.replace(value, "…")
    return text


def _give_back(platform: Platform, store: Store, refused: Refused, submission: str) -> bool:
    """Take back the place of somebody who got no task with it, so that somebody else can have it at once."""
    if refused.code not in NO_VISIT or Capability.RELEASE not in platform.capabilities:
        return False
    with store.people() as people:
        if is_known(people, submission):  # let in by a second click at the same moment
            return False
    try:
        platform.release(submission)
    except PlatformError as error:
        log.error("a refused place couldn't be given back: %s", str(error).replace(submission, "of somebody"))
        return False
    return True


def _check(submission: PlatformSubmission) -> None:
    """Only who has a place, and hasn't handed it in, may begin or go on."""
    if submission.status in HANDED_IN:
        raise Refused("You have handed in already.", 403, "already-took-part")
    if submission.status != ACTIVE:
        raise Refused("You have given this place back, or its time is over.", 410, "ended")


def holds(query: Mapping[str, str], *wanted: set[str]) -> bool:
    """Whether a link has values for all names of any of these."""
    given = {name for name, value in query.items() if value}
    return any(names <= given for names in wanted)


def bad_link() -> Refused:
    """A link that lacks something."""
    return Refused("This link lacks something that says where you come from.", 404, "bad-link")


def not_ours() -> Refused:
    """A link that lacks nothing, but that nobody here made."""
    return Refused("This link isn't one that we made, or it was changed on its way.", 403, "not-ours")


def _malformed() -> Refused:
    """A link that was one of ours, before something was done to it."""
    return Refused("This link says who you are in a way that nobody can read.", 404, "malformed-link")


def _unknown() -> Refused:
    """A link that reads like one of ours, for a place that isn't."""
    return Refused("The link you followed belongs to no open place of this study.", 404, "unknown-submission")


def _enter(visit: Visit) -> Response:
    # The token stands behind the #, so that no server's log and no Referer ever holds it.
    address = f"/visit#{pages().tokens.for_visit(visit.id, visit.generation)}"
    return Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
