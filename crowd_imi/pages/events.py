"""Where platforms tell what happened: checked, written down, and left to the harvest.

A page's server never acts on an event; it stores that there is something to look at.
"""

import os
import time

from flask import Blueprint, Response, request

from crowd_imi.errors import PlatformError, Refused
from crowd_imi.pages.context import pages
from crowd_imi.platforms.prolific_hooks import LARGEST_EVENT, SECRET_VARIABLE, read_event
from crowd_imi.store.notices import note

events = Blueprint("events", __name__)


@events.post("/events/prolific")
def prolific() -> Response:
    """``POST /events/prolific``: 204 once it is on disk, also for a repeat; 403 for what Prolific didn't sign."""
    here = pages()
    secret = os.environ.get(SECRET_VARIABLE, "").strip()
    if not secret or here.platform is None or here.platform.name != "prolific":
        raise Refused("This study takes no events from Prolific.", 404, "not-found")
    body = request.get_data(cache=False)
    if len(body) > LARGEST_EVENT:
        raise Refused(f"An event of Prolific has at most {LARGEST_EVENT} bytes.", 413, "request-entity-too-large")
    try:
        event = read_event(secret, dict(request.headers), body, time.time())
    except PlatformError:
        raise Refused("Prolific didn't sign this event, or not with the secret of this study.", 403, "forged-event") from None
    if event.submission is not None:
        note(here.store, here.key, event.id, event.submission)
    return Response(status=204)
