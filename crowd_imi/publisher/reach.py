"""Whether participants will find the task pages: asked over the network, as a browser asks, before anybody is invited."""

import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests

from crowd_imi.errors import command
from crowd_imi.keys import health_answer, study_key
from crowd_imi.plan import Plan
from crowd_imi.platforms.opening import Choice
from crowd_imi.store import StoreKind
from crowd_imi.study import Study

TIMEOUT = (5, 15)


def reach_problems(study: Study, plan: Plan, choice: Choice) -> Iterator[str]:
    """Everything that is wrong with where participants are sent, a line each; asks the pages to prove whose they are.

    Before the first ``publish`` there are no pages to serve: that they don't answer isn't wrong yet (``not_served_yet``).

    Args:
        study: whose key the pages must know.
        plan: one of its sprites is fetched.
        choice: where the pages should be.
    """
    base = choice.pages_url.rstrip("/")
    start = f"start them with `{command('serve', study.folder)}`, leave them running, and run this again"
    begun = study.database.exists()
    challenge = secrets.token_hex(16)
    with requests.Session() as session:
        try:
            reply = session.get(f"{base}/health", params={"challenge": challenge}, timeout=TIMEOUT, allow_redirects=False)
        except requests.exceptions.SSLError:
            yield f"{base}: its certificate isn't accepted, so no participant's browser would open it; mend the certificate"
            return
        except requests.RequestException as error:
            if begun:
                yield f"{base}: the task pages can't be reached ({type(error).__name__}); {start}"
            return
        if 300 <= reply.status_code < 400:
            yield f"{base}: sends on to {_where(reply)}; give --pages-url the address where the pages really are"
            return
        if not begun:
            return
        said = _answer(reply)
        if said is None:
            yield f"{base}: something answers (status {reply.status_code}) that isn't these task pages; {start}"
        elif not secrets.compare_digest(said, health_answer(study_key(study.key), challenge, StoreKind.STUDY, choice.name)):
            yield (
                f"{base}: these are the pages of another study, of a rehearsal or a preview, or they were started before this "
                f"study was for {choice.name}; stop them, {start}"
            )
        else:
            yield from _sprite_problems(session, base, plan)


def not_served_yet(study: Study, choice: Choice) -> str | None:
    """Why nobody can say yet whether the pages work, and how to come there; None once there is something to serve."""
    if study.database.exists():
        return None
    elsewhere = () if choice.endpoint_url is None else ("--endpoint-url", choice.endpoint_url)
    sandbox = ("--sandbox",) if choice.sandbox else ()
    publish = command("publish", study.folder, "--on", choice.name, "--pages-url", choice.pages_url, *elsewhere, *sandbox)
    if choice.name == "local":
        return f"the pages can be served once `{publish}` has posted the study; then `{command('serve', study.folder)}`"
    return (
        f"whether the pages answer at {choice.pages_url} can't be seen yet, as there is nothing to serve before the first "
        f"publish: `{publish}` (with --pilot N for a pilot) asks for them before it posts anything, and stops; then start them "
        f"with `{command('serve', study.folder)}`, leave them running, and give the same publish again"
    )


def _sprite_problems(session: requests.Session, base: str, plan: Plan) -> Iterator[str]:
    sprite = plan.tasks[0].trials[0].sprite
    try:
        reply = session.get(f"{base}/sprites/{sprite}", timeout=TIMEOUT, allow_redirects=False)
    except requests.RequestException as error:
        yield f"{base}: a trial's picture can't be fetched ({type(error).__name__}); look at the proxy in front of the pages"
        return
    if reply.status_code != 200 or not reply.headers.get("Content-Type", "").startswith("image/"):
        yield (
            f"{base}: a trial's picture comes with status {reply.status_code} as {reply.headers.get('Content-Type', 'nothing')}; "
            "look at the sprites folder, and at the proxy in front of the pages"
        )


def _answer(reply: requests.Response) -> str | None:
    try:
        content = reply.json()
    except ValueError:
        return None
    answer = content.get("answer") if isinstance(content, dict) else None
    return answer if isinstance(answer, str) and reply.ok else None


def _where(reply: requests.Response) -> str:
    parts = urlsplit(reply.headers.get("Location", ""))
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else "another address"
