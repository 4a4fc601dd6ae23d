"""One render of a study at a time: two with different settings would delete each other's images."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crowd_imi.errors import FactoryError


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however that ends.

    Args:
        path: of the lock's file, which stays.

    Raises:
        FactoryError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FactoryError(
                f"{path.parents[1]}: another `crowd-imi render` of this study is at work; wait until it is done, or stop it"
            ) from None
        yield
