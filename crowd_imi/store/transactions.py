"""Transactions that meet another one on a unique key, and go again."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from crowd_imi.store.engine import Store

S = TypeVar("S")
T = TypeVar("T")

ATTEMPTS = 8
"""Each repeat sees what the winner wrote, so a second one is rare; the bound keeps a defect from turning for ever."""


def transact(store: Store, work: Callable[[Session], T]) -> T:
    """Run ``work`` in one transaction that may write; once more when a unique key says that another one was faster.

    Args:
        store: where to write.
        work: everything that the transaction does; it looks at the tables anew each time.

    Raises:
        sqlalchemy.exc.IntegrityError: still in conflict after ``ATTEMPTS``.
    """
    return _again(store.write, work)


def transact_rows(store: Store, work: Callable[[Connection], T]) -> T:
    """``transact`` for work on rows, without objects: for what happens most often."""
    return _again(store.write_rows, work)


def _again(begin: Callable[[], AbstractContextManager[S]], work: Callable[[S], T]) -> T:
    for _ in range(ATTEMPTS - 1):
        try:
            with begin() as transaction:
                return work(transaction)
        except IntegrityError:
            continue
    with begin() as transaction:
        return work(transaction)
