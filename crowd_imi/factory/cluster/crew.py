"""Workers that share work in pieces, wherever they are."""

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeVar

from crowd_imi.errors import FactoryError

if TYPE_CHECKING:  # torch takes seconds to load
    from crowd_imi.factory.cluster.bench import Bench

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

log = logging.getLogger(__name__)


class Piece(Protocol[R_co]):
    """A part of the work that one worker does; what it is and what it gives can be pickled."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def work(self, bench: "Bench", attempt: int) -> R_co:
        """Do it.

        Args:
            bench: the worker's.
            attempt: how many workers were lost over this piece before; one that was only thought lost may still be at it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """A piece's result; None of a worker that says that it is ready."""

    result: object


@dataclass(frozen=True, slots=True)
class Failed:
    """What a piece, or a worker's beginning, raised."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker isn't there any more."""

    why: str


def answer(piece: Piece[object], bench: "Bench", attempt: int) -> Done | Failed:
    """What a worker sends back; errors too, as they would be raised here."""
    try:
        return Done(piece.work(bench, attempt))
    except Exception as error:  # whatever it is, it belongs to the one who asked
        return Failed(error)


class Crew(ABC):
    """Deals pieces to workers that are numbered from 0; a context that ends with them.

    A lost worker costs its piece, which another one does from its beginning. Workers begin with the first piece.
    """

    kind: Literal["cpu", "cuda"]
    """On what they compute."""

    def __init__(self) -> None:
        self._there: set[int] = set()
        self._idle: list[int] = []

    def do(self, pieces: Sequence[Piece[R]]) -> Iterator[tuple[int, R]]:
        """Have pieces done.

        Args:
            pieces: in the order in which they are begun.

        Returns:
            The place of each piece and its result, in the order in which they are finished.

        Raises:
            FactoryError: no worker is left.
            Exception: what a piece raised.
        """
        waiting, busy, losses = deque(range(len(pieces))), dict[int, int](), [0] * len(pieces)
        if waiting and not self._there:
            self._there = set(range(self._begin()))
        while waiting or busy:
            while waiting and self._idle:
                worker, place = self._idle.pop(0), waiting.popleft()
                busy[worker] = place
                self._give(worker, pieces[place], losses[place])
            worker, said = self._next()
            done = busy.pop(worker, None)
            if isinstance(said, Lost):
                self._lose(worker, said, "" if done is None else f"; {pieces[done].name} is done by another")
                if done is not None:
                    losses[done] += 1
                    waiting.appendleft(done)
                continue
            self._idle.append(worker)
            if isinstance(said, Failed):
                raise said.error
            if done is not None:
                yield done, said.result  # type: ignore[misc]  # what a Piece[R] gives is an R

    def _lose(self, worker: int, said: Lost, so: str) -> None:
        self._there.discard(worker)
        self._idle = [other for other in self._idle if other != worker]
        if not self._there:
            raise FactoryError(f"{self._called(worker)} {said.why}, and it was the last; run the same command again to go on")
        log.warning("%s %s%s", self._called(worker), said.why, so)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """End the workers, whatever they are doing."""

    @abstractmethod
    def _begin(self) -> int:
        """Begin with the workers; how many there are. Each answers once when it is ready."""

    @abstractmethod
    def _give(self, worker: int, piece: Piece[object], attempt: int) -> None:
        """Give an idle worker a piece; if the worker is gone, ``_next`` says so."""

    @abstractmethod
    def _next(self) -> tuple[int, Done | Failed | Lost]:
        """Wait for an answer."""

    @abstractmethod
    def _called(self, worker: int) -> str:
        """A worker's name for messages."""
