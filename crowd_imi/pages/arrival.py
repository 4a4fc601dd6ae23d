"""Where participants come in: ``/arrive``, ``/preview``, the page itself, and what refused people read."""

import logging

from flask import Blueprint, Response, abort, render_template, request
from pydantic import ValidationError

from crowd_imi.allocation import Arrival, arrive, arrive_for_preview
from crowd_imi.errors import PlatformError, Refused
from crowd_imi.pages.context import pages, request_clock
from crowd_imi.pages.requests import ArrivalRequest
from crowd_imi.platforms.base import PlatformSubmission
from crowd_imi.resources import resource
from crowd_imi.store import StoreKind
from crowd_imi.store.tables import Visit
from crowd_imi.store.visits import posting_of

log = logging.getLogger(__name__)
arrival = Blueprint("arrival", __name__)

ACTIVE = "active"
HANDED_IN = ("awaiting_review", "approved", "rejected")


@arrival.before_request
def only_real_visits() -> None:
    """Mail programs and link checkers ask for the head of a page; they aren't participants."""
    if request.method == "HEAD":
        abort(405)


@arrival.get("/arrive")
def arrive_from_platform() -> Response:
    """Check what the link says with the platform, and give out a task."""
    here = pages()
    now = request_clock(here.store).now()
    try:
        ids = ArrivalRequest.model_validate(request.args.to_dict())
    except ValidationError:
        raise _bad_link() from None
    if here.platform is None:
        raise _bad_link()
    with here.store.read() as session:
        posting = posting_of(session, here.platform.name, ids.posting)
    if posting is None:
        raise _bad_link()
    _check(ids, _ask_platform(ids.submission))
    comer = Arrival(
        platform=here.platform.name,
        platform_participant=ids.participant,
        platform_submission=ids.submission,
        posting_id=posting.id,
        now=now,
    )
    return _enter(arrive(here.store, here.study, comer))


@arrival.get("/preview")
def arrive_for_a_look() -> Response:
    """A signed link: a new visit each time, which never counts."""
    here = pages()
    token = request.args.get("token", "")
    if here.store.kind is not StoreKind.PREVIEW or not here.tokens.is_preview(token, here.study.file.study.name):
        raise _bad_link()
    return _enter(arrive_for_preview(here.store, here.study, request_clock(here.store).now()))


@arrival.get("/visit")
def shell() -> Response:
    """The page, the same for everybody; its token stands behind the # of its address."""
    page = resource("hit_templates", pages().study.file.pages.template, "visit.html").read_bytes()
    return Response(page, mimetype="text/html", headers={"Cache-Control": "no-cache"})


def refusal_page(refused: Refused) -> Response:
    """What somebody reads who can't take part: why, and what to do."""
    texts = pages().texts["refusals"]
    words = texts.get(refused.code, texts["bad-link"])
    page = render_template("refusal.html", refusal=refused.code, **words)
    return Response(page, refused.status, mimetype="text/html", headers={"Cache-Control": "no-store"})


def _ask_platform(submission: str) -> PlatformSubmission:
    platform = pages().platform
    if platform is None:
        raise _bad_link()
    try:
        return platform.submission(submission)
    except PlatformError:
        raise _unknown() from None


def _check(ids: ArrivalRequest, submission: PlatformSubmission) -> None:
    """Ids in a link prove nothing: the platform's word counts."""
    if (submission.participant, submission.posting) != (ids.participant, ids.posting):
        raise _unknown()
    if submission.status in HANDED_IN:
        raise Refused("You have handed in already.", 403, "already-took-part")
    if submission.status != ACTIVE:
        raise Refused("You have given this place back, or its time is over.", 410, "ended")


def _bad_link() -> Refused:
    return Refused("This link lacks something that says where you come from.", 404, "bad-link")


def _unknown() -> Refused:
    return Refused("The link you followed belongs to no open place of this study.", 404, "unknown-submission")


def _enter(visit: Visit) -> Response:
    # The token stands behind the #, so that no server's log and no Referer ever holds it.
    address = f"/visit#{pages().tokens.for_visit(visit.id, visit.generation)}"
    return Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
