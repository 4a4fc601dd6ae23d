"""A process that dies at a chosen moment: before or after any call to the platform, before or after any commit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.orm import Session

from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.store import Store


class Killed(BaseException):
    """Not an ``Exception``: nothing may catch it on the way."""


class Death:
    """Comes at the ``at``-th moment, and from then on at every one: what is dead does nothing more."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.moments = 0

    def moment(self) -> None:
        self.moments += 1
        if self.moments > self.at:
            raise Killed


class DyingPlatform:
    """The local platform, on a line that is cut."""

    def __init__(self, platform: LocalPlatform, death: Death) -> None:
        self.name = platform.name
        self.capabilities = platform.capabilities
        self.fee = platform.fee  # is reckoned here: no line is needed for it
        self._platform = platform
        self._death = death

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._platform, name)

        def call(*arguments: Any) -> Any:
            self._death.moment()
            outcome = method(*arguments)
            self._death.moment()
            return outcome

        return call


class DyingStore:
    """The store, in a process that is killed."""

    def __init__(self, store: Store, death: Death) -> None:
        self._store = store
        self._death = death

    @contextmanager
    def write(self) -> Iterator[Session]:
        self._death.moment()
        with self._store.write() as session:
            yield session
        self._death.moment()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
