"""The participants' side that all stand-ins share: only browsers and scripts of this machine come in."""

from flask import Response, request
from werkzeug.sansio.utils import host_is_trusted

TRUSTED_HOSTS = ("127.0.0.1", "localhost")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self' http: https:; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""As for the local platform's list of places: a form's target may lead on to the task pages, at another address."""


def stranger() -> Response | None:
    """A refusal for a request that another site made, which a browser on this machine may have open; None for ours.

    A name of theirs may be made to point here (then the Host is theirs), and a form of theirs may be sent here (then the
    browser says so). Scripts say nothing of where they come from, and are on this machine.
    """
    if not host_is_trusted(request.headers.get("Host"), TRUSTED_HOSTS):
        return _told("this address isn't the stand-in's: use the one that it printed, which begins with http://127.0.0.1", 400)
    if request.method in ("GET", "HEAD"):
        return None
    site, origin = request.headers.get("Sec-Fetch-Site", "none"), request.headers.get("Origin")
    if site not in ("same-origin", "none") or (origin is not None and origin != request.host_url.rstrip("/")):
        return _told("another site sent this, and nothing was done", 403)
    return None


def _told(message: str, status: int) -> Response:
    return Response(message + "\n", status, mimetype="text/plain")
