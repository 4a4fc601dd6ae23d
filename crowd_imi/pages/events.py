"""Where platforms tell what happened: checked, written down, and left to the harvest.

A page's server never acts on an event; it stores that there is something to look at.
"""

import os
import time

from flask import Blueprint, Response, request

from crowd_imi.errors import PlatformError
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
        return Response(status=404)
    body = request.get_data(cache=False)
    if len(body) > LARGEST_EVENT:
        return Response(status=413)
    try:
        event = read_event(secret, dict(request.headers), body, time.time())
    except PlatformError:
        return Response(status=403)
    if event.submission is not None:
        note(here.store, here.key, event.id, event.submission)
    return Response(status=204)
