"""Which lab's key a study was published with: with another one, who took part before would be taken for somebody new."""

from crowd_imi.errors import StoreError
from crowd_imi.keys import keyed_hash, lab_key
from crowd_imi.store.engine import Store, StoreKind
from crowd_imi.store.tables import About

ROW = "lab_key"
"""In ``about``; stores of versions before 0.2 lack it."""


def lab_key_mark() -> str:
    """What tells lab keys apart without telling the key."""
    return keyed_hash(lab_key(), "check")


def require_lab_key(store: Store) -> None:
    """Make sure that the lab's key here is the one that this study's participants are known by.

    Raises:
        StoreError: it is another one.
    """
    if store.kind is not StoreKind.STUDY:
        return
    with store.read() as session:
        noted = session.get(About, ROW)
    if noted is not None and noted.value != lab_key_mark():
        raise StoreError(
            f"{store.url}: this study was published with another lab key, by which returning participants are known; copy "
            "lab.key from that machine's ~/.config/crowd_imi to here, or set CROWD_IMI_LAB_KEY to what it was there"
        )
