"""How a long step tells that it is getting on, without knowing whom it tells."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Goes through things and shows how many are done; ``cli.output.Output.track`` draws a bar."""

    def __call__(self, things: Iterable[T], what: str, total: int | None = None) -> Iterator[T]: ...


def silent(things: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Goes through things and shows nothing."""
    return iter(things)
