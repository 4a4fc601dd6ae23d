"""The link platform's pages: the first one, where who was invited begins, and the last one, with the code to copy."""

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from crowd_imi.errors import BadLink, NoPlace, PlatformError
from crowd_imi.pages.arrival import bad_link, holds, link_query, no_place_page, not_ours, render_page
from crowd_imi.pages.context import pages
from crowd_imi.platforms.link import LinkPlatform

link = Blueprint("link", __name__)

POLICY = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
"""Without any script; the first page's button is a form."""


@link.get("/join")
def join() -> AnyResponse:
    """What the study is, and a button: until it is pressed nothing has happened, whoever follows the link before."""
    platform = _platform()
    query = link_query()
    try:
        done = platform.handed_in(query)
        if done is not None:
            return redirect(platform.finish_url(done), 303)
        entry = platform.entry(query)
    except BadLink:
        raise (not_ours() if holds(query, {"invitation"}, {"open"}) else bad_link()) from None
    except NoPlace as none:
        return no_place_page(none)
    return _page("start.html", entry=entry, words=pages().texts["start"])


@link.get("/finished")
def finished() -> Response:
    """Thanks, and what the participant shows to be paid."""
    platform, token = _platform(), request.args.get("token", "")
    if not token:
        raise bad_link()
    try:
        completion = platform.completion(token)
    except PlatformError:
        raise not_ours() from None
    return _page("finished.html", completion=completion, words=pages().texts["finished"])


def _platform() -> LinkPlatform:
    platform = pages().platform
    if not isinstance(platform, LinkPlatform):
        raise bad_link()
    return platform


def _page(template: str, **facts: object) -> Response:
    return Response(
        render_page(template, **facts),
        mimetype="text/html",
        headers={"Cache-Control": "no-store", "Content-Security-Policy": POLICY},
    )
