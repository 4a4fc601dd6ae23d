"""Queries on the ledger's rows: intents and the spender's lease."""

from collections.abc import Collection, Sequence

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from crowd_imi.store.submissions import is_payable
from crowd_imi.store.tables import About, Intent, Lease, Visit

SPENDER = "spender"
"""The lease of whoever spends: publish, harvest and pay take turns."""
HARVESTER = "harvester"
"""The lease of whoever harvests or publishes, held for as long as that goes on, between a harvest's rounds too."""

CAP = "cap"
PRICE = "price"
FREE_PLACES = "free places/"
"""What the name begins with under which a posting's number of places that nobody used is noted."""
UNDECIDED = "undecided/"
"""What the name begins with under which a posting's number of undecided submissions is noted."""

BELOW_FLOOR = "paused below floor/"
"""What the name begins with under which it is noted that a harvest paused a posting, as people are paid too little."""

STRAY = "stray-"
"""What the subject of a submission without a visit here begins with."""
COMPENSATION = "compensation"
"""The name of the bonus that stands in for a reward which the platform can't pay any more."""
RULE = "rule"
"""The name of the bonus that ``[pay]`` promises: a visit gets it once."""

_SENT = "open", "done"
"""States of intents whose money is, or may be, gone."""


def find_intent(session: Session, operation: str, subject: str) -> Intent | None:
    """The row of one paid call, locked; None when it was never meant."""
    chosen = select(Intent).where(Intent.operation == operation, Intent.subject == subject)
    return session.scalars(chosen.with_for_update()).one_or_none()


def intents_in(session: Session, state: str, operation: str | None = None) -> Sequence[Intent]:
    """Intents in a state, the oldest first."""
    chosen = select(Intent).where(Intent.state == state)
    if operation is not None:
        chosen = chosen.where(Intent.operation == operation)
    return session.scalars(chosen.order_by(Intent.opened_at, Intent.id)).all()


def count_intents(session: Session, operation: str, subject_prefix: str) -> int:
    """How many intents there are for an operation that can happen again."""
    chosen = select(func.count()).where(Intent.operation == operation, Intent.subject.startswith(subject_prefix, autoescape=True))
    return session.scalar(chosen) or 0


def amount_of(session: Session, operations: Sequence[str], states: Sequence[str], *, but: str | None = None) -> int:
    """Sum of intents' amounts in minor units; ``but`` leaves out one intent's id."""
    chosen = select(func.sum(Intent.amount)).where(Intent.operation.in_(operations), Intent.state.in_(states))
    if but is not None:
        chosen = chosen.where(Intent.id != but)
    return session.scalar(chosen) or 0


def spending_beside(session: Session, states: Collection[str], price: int, *, in_time_only: bool = False) -> int:
    """What is spent beside visits' rewards takes of the cap, in minor units: bonuses, and submissions that have no visit here.

    A compensation stands in for a reward that ``count_payable`` counts: of it, only what it costs more or less counts here.

    Args:
        session: only read.
        states: as for ``count_payable``: in which a visit may have to be paid.
        price: what one reward costs, fees included.
        in_time_only: as for ``count_payable``.
    """
    sent = select(func.sum(Intent.amount)).where(Intent.operation == "bonus", Intent.state.in_(_SENT))
    stand_ins = count_stand_ins(session, states, in_time_only=in_time_only)
    return (session.scalar(sent) or 0) - stand_ins * price + stray_spending(session)


def count_stand_ins(session: Session, states: Collection[str], *, in_time_only: bool = False) -> int:
    """Compensations that stand in for a reward that ``count_payable`` counts, with the same arguments."""
    suffix = f"/{COMPENSATION}"
    sent = select(Intent.subject).where(Intent.operation == "bonus", Intent.state.in_(_SENT), Intent.subject.endswith(suffix))
    whose = [subject.removesuffix(suffix) for subject in session.scalars(sent) if subject.endswith(suffix)]
    if not whose:
        return 0
    rewarded = exists().where(Intent.operation.in_(("approve", "found")), Intent.state.in_(_SENT), Intent.subject == Visit.id)
    counted = select(func.count()).select_from(Visit).where(Visit.id.in_(whose), is_payable(states, in_time_only), ~rewarded)
    return session.scalar(counted) or 0


def count_in_flight(session: Session, states: Collection[str], *, in_time_only: bool = False) -> int:
    """Rewards among those that ``count_payable`` counts as unpaid that were sent without an answer: they count as spent already.

    Args:
        session: only read.
        states: as for ``count_payable``.
        in_time_only: as for ``count_payable``.
    """
    sent = exists().where(Intent.operation == "approve", Intent.state == "open", Intent.subject == Visit.id)
    chosen = select(func.count()).select_from(Visit).where(is_payable(states, in_time_only), Visit.payment == "unpaid", sent)
    return session.scalar(chosen) or 0


def stray_spending(session: Session) -> int:
    """What was paid, here or on the platform, for submissions that have no visit here, in minor units."""
    chosen = select(func.sum(Intent.amount)).where(
        Intent.operation.in_(("approve", "found")), Intent.state.in_(_SENT), Intent.subject.startswith(STRAY)
    )
    return session.scalar(chosen) or 0


def held_by_hand(session: Session) -> int:
    """What the cap holds back of payments that a person gives by hand, in minor units.

    They are bonuses other than the rule's, and strays' rewards. Where a compensation is held, the reward that it stands in for is
    promised all the same.
    """
    held = intents_in(session, "held")
    return sum(
        one.amount
        for one in held
        if one.subject.startswith(STRAY) or (one.operation == "bonus" and not one.subject.endswith(f"/{RULE}"))
    )


def keep_terms(session: Session, cap: int, price: int) -> None:
    """Note what publish and harvest go by, for servers, which don't ask the platform and may have read an older study.toml.

    Args:
        session: in a transaction that writes.
        cap: the most that may be spent.
        price: what one paid submission costs, fees included.
    """
    session.merge(About(name=CAP, value=str(cap)))
    session.merge(About(name=PRICE, value=str(price)))


def current_cap(session: Session, otherwise: int) -> int:
    """The cap that publish or harvest went by last; ``otherwise`` before the first."""
    return _noted(session, CAP, otherwise)


def current_price(session: Session, otherwise: int) -> int:
    """What one paid submission costs, by publish's or harvest's last word; ``otherwise`` before the first."""
    return _noted(session, PRICE, otherwise)


def keep_undecided(session: Session, posting: str, count: int) -> None:
    """Note how many of a posting's submissions the platform may still pay, though nothing is owed here.

    Args:
        session: in a transaction that writes.
        posting: our id.
        count: by what the platform said last.
    """
    session.merge(About(name=f"{UNDECIDED}{posting}", value=str(count)))


def count_undecided(session: Session) -> int:
    """Submissions, of every posting, that the platform may still pay though nothing is owed here, by harvest's last word."""
    return sum(int(noted) for noted in session.scalars(select(About.value).where(About.name.startswith(UNDECIDED))))


def keep_free_places(session: Session, posting: str, count: int) -> None:
    """Note how many may still come to a posting, as nobody used their places yet.

    Args:
        session: in a transaction that writes.
        posting: our id.
        count: by what the platform said last; none while nobody is let in.
    """
    session.merge(About(name=f"{FREE_PLACES}{posting}", value=str(count)))


def count_free_places(session: Session, postings: Collection[str]) -> int:
    """Places of these postings that somebody may still come with, by harvest's last word."""
    return sum(_noted(session, f"{FREE_PLACES}{posting}", 0) for posting in postings)


def note_paused_below_floor(session: Session, posting: str, *, paused: bool) -> None:
    """Note that a harvest itself lets nobody new into a posting, or does again; what a person paused isn't noted.

    Args:
        session: in a transaction that writes.
        posting: our id.
        paused: whether it does.
    """
    session.merge(About(name=f"{BELOW_FLOOR}{posting}", value=str(int(paused))))


def is_paused_below_floor(session: Session, posting: str) -> bool:
    """Whether a harvest paused a posting, as people are paid too little."""
    return _noted(session, f"{BELOW_FLOOR}{posting}", 0) == 1


def _noted(session: Session, name: str, otherwise: int) -> int:
    row = session.get(About, name)
    return otherwise if row is None else int(row.value)


def lease_row(session: Session, name: str = SPENDER) -> Lease | None:
    """Who holds a lease right now, locked; None when nobody does."""
    return session.get(Lease, name, with_for_update=True)


def all_intents(session: Session) -> Sequence[Intent]:
    """The whole ledger, the oldest first."""
    return session.scalars(select(Intent).order_by(Intent.opened_at, Intent.id)).all()
