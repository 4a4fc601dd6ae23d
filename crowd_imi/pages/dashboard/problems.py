"""What a person should look at, in sentences."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.engine import make_url

from crowd_imi.ledger import Books
from crowd_imi.lifecycle import UNDER_WAY, VisitState
from crowd_imi.records import Money
from crowd_imi.stock import Stock
from crowd_imi.store import Store
from crowd_imi.store.progress import VisitProgress
from crowd_imi.study import Study

MINUTE_MS = 60_000
WAITING_MINUTES = 60
"""A submission that waits longer for its verdict means that no harvest is running."""
LITTLE_ROOM = 1_000_000_000
"""Bytes."""


def problems(  # noqa: PLR0913, PLR0917 (everything there is to look at)
    study: Study, store: Store, stock: Stock, ledger: Books, visits: Sequence[VisitProgress], strays: int, now: int
) -> tuple[str, ...]:
    """One sentence for each kind of trouble; none where all is well."""
    currency = study.file.pay.currency
    overdue = sum(v.state in UNDER_WAY and now - v.arrived_at > study.file.pages.visit_minutes * MINUTE_MS for v in visits)
    waiting = sum(
        now - v.submitted_at > WAITING_MINUTES * MINUTE_MS
        for v in visits
        if v.state == VisitState.SUBMITTED and v.submitted_at is not None and not v.never_shown
    )
    found = [
        (len(ledger.refused), "{n} payments were refused by the platform; `crowd-imi ledger` shows which and why"),
        (ledger.open_intents, "{n} paid calls were cut off; the next harvest reads them back"),
        (
            ledger.held_of_owed,
            f"{Money(amount=ledger.held_of_owed, currency=currency)} is owed beyond the cap; raise pay.cap and harvest again",
        ),
        (
            ledger.held_by_hand,
            f"{Money(amount=ledger.held_by_hand, currency=currency)} to be paid by hand went over the cap; raise pay.cap and run "
            "the same `crowd-imi pay` again",
        ),
        (len(stock.exhausted), "{n} tasks have no attempt left, so their units stay short; tasks.max_attempts sets how many"),
        (len(stock.unaffordable), "{n} tasks have no money left below the cap; raise pay.cap and harvest again"),
        (
            waiting,
            f"{{n}} submissions wait for a verdict for more than {WAITING_MINUTES} minutes; is `crowd-imi harvest` running?",
        ),
        (
            sum(v.never_shown for v in visits),
            "{n} visits ended here and were never handed in on the platform; `crowd-imi status` says which",
        ),
        (overdue, "{n} visits are over their time and still hold a task; the next harvest frees it"),
        (
            stock.undecided,
            "{n} submissions there are nobody's here or not finished here; `crowd-imi status` says what to do",
        ),
        (strays, "{n} places on the platform were taken without a visit here"),
    ]
    return tuple(text.format(n=number) for number, text in found if number) + _disk(store)


def _disk(store: Store) -> tuple[str, ...]:
    url = make_url(store.url)
    if url.get_backend_name() != "sqlite" or not url.database:
        return ()
    free = shutil.disk_usage(Path(url.database.removeprefix("file://")).parent).free
    return (f"only {free / 1e6:.0f} MB are left on the database's disk",) if free < LITTLE_ROOM else ()
