"""What crosses a file, a process or the network: frozen models that refuse unknown keys."""

import re
from decimal import Decimal
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

REFERENCES = 9
"""Reference images per side of a trial, shown as a 3×3 grid."""

Side = Literal["min", "max"]
Condition = Literal["natural", "synthetic"]
Difficulty = Annotated[
    str,
    Field(
        pattern=r"^(easy|medium|hard|very_hard|p(5[1-9]|[6-9][0-9])(\.[0-9]{1,4})?)$",
        json_schema_extra={"form": "easy, medium, hard, very_hard, or a percentile from p51 to p99.9999"},
    ),
]
"""``easy``, ``medium``, ``hard``, ``very_hard``, or the percentile from which queries come, e.g. ``p90``."""
TrialKind = Literal["main", "catch"]

PUBLISHED_SHARES: dict[Difficulty, float | None] = {
    "easy": None,
    "medium": 0.01,
    "hard": 0.05,
    "very_hard": 0.15,
}
"""Where the window of query images begins, as a share of all images counted from the extreme.

``easy`` begins right behind the references. The others are the published windows (ranks 12,811, 64,058 and 192,175 of
1,281,167), scaled to the number of images. Source: Zimmermann, Klein & Brendel 2023, arXiv:2307.05471.
"""

T = TypeVar("T")


def query_share(difficulty: Difficulty) -> float | None:
    """The share of all images, counted from the extreme, at which the window of query images begins.

    Returns:
        In (0, 0.49]; None when the window begins right behind the references (``easy``).
    """
    if difficulty in PUBLISHED_SHARES:
        return PUBLISHED_SHARES[difficulty]
    return float((100 - Decimal(difficulty.removeprefix("p"))) / 100)


class Record(BaseModel):
    """Base of everything that is written to disk or sent: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SidePair(Record, Generic[T]):
    """One thing for the images that drive a unit least, and one for those that drive it most."""

    min: T
    max: T

    def side(self, side: Side) -> T:
        return self.min if side == "min" else self.max


class Money(Record):
    """An amount in minor units (cents, pence) with its ISO 4217 currency."""

    amount: int
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]

    def __str__(self) -> str:
        sign = "-" if self.amount < 0 else ""
        return f"{sign}{abs(self.amount) // 100}.{abs(self.amount) % 100:02d} {self.currency}"


class Unit(Record):
    """One channel of one layer of one model; a null unit's activations are permuted over the images."""

    model: str
    layer: str
    channel: Annotated[int, Field(ge=0)]
    null: bool = False

    @property
    def key(self) -> str:
        """``trained/layer1.0.conv1/12``, with ``~null`` behind it for a null unit."""
        return f"{self.model}/{self.layer}/{self.channel}{'~null' if self.null else ''}"

    @classmethod
    def from_key(cls, key: str) -> "Unit":
        match = re.fullmatch(r"([^/]+)/(.+)/(\d+)(~null)?", key)
        if match is None:
            raise ValueError(f"{key!r} is no unit: a unit is written model/layer/channel")
        model, layer, channel, null = match.groups()
        return cls(model=model, layer=layer, channel=int(channel), null=null is not None)


class Exemplar(Record):
    """One image in its role for one unit."""

    image: str
    """SHA-256 of the stored image file in the pack."""
    rank: int | None = None
    """Rank of the image's activation among all images, 0 is the lowest; None for a visualisation."""
    activation: float | None = None
    """The unit's activation on this image (mean over space), permuted for a null unit."""


class Panel(Record):
    """The twenty images of one trial: nine references per side and one query per side."""

    batch: int
    references: SidePair[tuple[Exemplar, ...]]
    """The most extreme image first, the other eight in random order."""
    queries: SidePair[Exemplar]


class Tiles(Record):
    """Which tile of a sprite plays which role. Never leaves the server as it is."""

    references: SidePair[tuple[int, ...]]
    queries: SidePair[int]


class Serving(Record):
    """``serving.json`` in a run's folder, which a server writes once it listens: what is served where."""

    pages: str
    places: str | None
    link: str | None = None
    """A preview's link."""
    pid: int
