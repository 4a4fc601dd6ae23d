"""One spender at a time: an expiring lease that publish, harvest and pay hold."""

import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from crowd_imi.errors import Busy, LedgerError
from crowd_imi.records import Money
from crowd_imi.store import Clock, Store, SystemClock
from crowd_imi.store.backups import require_original
from crowd_imi.store.money import SPENDER, lease_row
from crowd_imi.store.tables import Lease
from crowd_imi.store.transactions import transact

LEASE_MS = 900_000
"""A lease ends this long after its holder last spent something; longer than any one thing that is
spent may take with all of its tries."""

_HELD: set[str] = set()
"""Holders of this process."""

_HOLDER = re.compile(r"process (\d+) on (\S+) ")


@dataclass(frozen=True, slots=True)
class HeldLease:
    """Proof that this process may spend, from which books and up to what cap."""

    store: Store
    cap: Money
    holder: str
    clock: Clock
    name: str = SPENDER

    def renew(self, session: Session) -> None:
        """Make sure that the lease is still ours, and hold it for longer; in a transaction that writes.

        Raises:
            LedgerError: it ran out and somebody else took it, so nothing may be spent any more.
        """
        row = lease_row(session, self.name)
        if row is None or row.holder != self.holder:
            other = "nobody" if row is None else row.holder
            raise LedgerError(f"the right to spend ran out while {self.holder} was at it ({other} has it now); run it again")
        row.expires_at = self.clock.now() + LEASE_MS


@contextmanager
def lease(store: Store, holder: str, cap: Money, clock: Clock | None = None, *, name: str = SPENDER) -> Iterator[HeldLease]:
    """Hold the right to spend.

    Args:
        store: whose money.
        holder: what is done with it, e.g. ``harvest``.
        cap: the most that may ever be spent.
        clock: real time where it isn't given, also in a rehearsal, because it is real processes that compete.
        name: which of the leases; the right to spend where it isn't given.

    Raises:
        Busy: somebody else holds it; says who and until when.
        StoreError: this is a copy that hasn't taken over.
    """
    unique = f"{holder} (process {os.getpid()} on {socket.gethostname()} {secrets.token_hex(3)})"
    held = HeldLease(store, cap, unique, clock or SystemClock(), name)
    _HELD.add(unique)
    try:
        transact(store, lambda session: _take(session, held))  # on PostgreSQL two may write the first row at once
        try:
            yield held
        finally:
            with store.write() as session:
                row = lease_row(session, name)
                if row is not None and row.holder == held.holder:
                    session.delete(row)
    finally:
        _HELD.discard(unique)


def _take(session: Session, held: HeldLease) -> None:
    require_original(session, held.store)
    row = lease_row(session, held.name)
    if row is None:
        row = Lease(name=held.name, holder=held.holder, expires_at=0)
        session.add(row)
    elif row.expires_at > held.clock.now() and not _is_dead(row.holder):
        until = datetime.fromtimestamp(row.expires_at / 1000, UTC)
        doing = "spends" if held.name == SPENDER else "is at it"
        raise Busy(
            f"{row.holder} {doing} at the moment, until {until:%H:%M:%S} UTC at the latest; run this again when it has ended"
        )
    row.holder = held.holder
    row.expires_at = held.clock.now() + LEASE_MS


def _is_dead(holder: str) -> bool:
    """Whether the holder was a process of this machine that was killed: then nobody need wait for the lease to run out."""
    match = _HOLDER.search(holder)
    if match is None or match[2] != socket.gethostname():
        return False
    if int(match[1]) == os.getpid():  # in a container that was started again each process has the number that it had before
        return holder not in _HELD
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
