"""A cheating participant: bets on everything that the browser gets but the content of the pictures.

All cheaters of a rehearsal pool what they learn from the feedback. If nothing gives the answers away, their bets are
coin tosses: that is what ``CheatersResult`` tests, channel by channel.
"""

import math
import zlib
from collections import Counter
from dataclasses import dataclass, field
from json import loads

import numpy as np
from numpy.typing import NDArray

from crowd_imi.plan import Grid
from crowd_imi.rehearsal.browser import ShownTrial, View
from crowd_imi.rehearsal.observers import Choice
from crowd_imi.rehearsal.participants import Participant
from crowd_imi.rehearsal.records import Channel, ChannelResult, CharacterName, CheatersResult
from crowd_imi.rehearsal.schedule import Life
from crowd_imi.rehearsal.wire import Reply

Clues = dict[Channel, NDArray[np.float64]]

LEARNING = 24
"""Bets per channel before they count."""

REPEATABLE: tuple[Channel, ...] = ("order", "size", "envelope")
"""What is the same whenever a rehearsal is repeated. Waiting times aren't, and names hang on the study's secret key."""


class Bettor:
    """Ridge logistic regression that is fitted again as answers come in; above 0 it bets on the upper row."""

    def __init__(self, ridge: float = 2.0) -> None:
        self._ridge = ridge
        self._seen: list[NDArray[np.float64]] = []
        self._upper: list[float] = []
        self._weights: NDArray[np.float64] | None = None
        self.bets: list[bool] = []
        """Whether each bet that counts was right, in order."""

    def bet(self, clues: NDArray[np.float64]) -> float:
        """Log odds that the upper row is right; 0 while nothing is known."""
        return 0.0 if self._weights is None else float(clues @ self._weights)

    def learn(self, clues: NDArray[np.float64], bet: float, upper: bool, counts: bool = True) -> None:
        """Hear which row was right; a bet of 0 stands for the upper row."""
        if counts:
            self.bets.append((bet >= 0) == upper)
        self._seen.append(clues)
        self._upper.append(float(upper))
        if len(self._seen) % 6 == 0:
            self._fit()

    def _fit(self, rounds: int = 6) -> None:
        clues, upper = np.stack(self._seen), np.array(self._upper)
        weights = np.zeros(clues.shape[1])
        for _ in range(rounds):
            chance = 1 / (1 + np.exp(-np.clip(clues @ weights, -30, 30)))
            slope = clues.T @ (upper - chance) - self._ridge * weights
            curvature = (clues * (chance * (1 - chance))[:, None]).T @ clues + self._ridge * np.eye(len(weights))
            weights = weights + np.linalg.solve(curvature, slope)
        self._weights = weights


@dataclass(slots=True)
class Pool:
    """What all cheaters know together."""

    bettors: dict[Channel, Bettor] = field(default_factory=dict)
    met: set[str | int] = field(default_factory=set)
    """Names and checksums of the sprites that a cheater has answered."""
    practice: dict[str, int] = field(default_factory=dict)
    """Practice sprite → the tile that was right: practice is the same for everybody, and may be learnt by heart."""

    def bets(self, clues: Clues) -> dict[Channel, float]:
        return {channel: self.bettors.setdefault(channel, Bettor()).bet(values) for channel, values in clues.items()}

    def learn(self, clues: Clues, bets: dict[Channel, float], upper: bool, sprite: tuple[str, int] = ("", 0)) -> None:
        """Hear which row was right.

        A sprite that a cheater met before, because its task was offered again, is known by heart to that extent: its bet
        doesn't count, for it isn't a toss of its own. (The residue that the design names.)

        Args:
            clues: that the bets were made on.
            bets: log odds per channel.
            upper: whether the upper row was right.
            sprite: its name and its checksum; either one tells that it was met before.
        """
        fresh = self.met.isdisjoint(sprite)
        self.met.update(part for part in sprite if part)
        for channel, values in clues.items():
            self.bettors[channel].learn(values, bets[channel], upper, fresh)

    def result(self, learning: int = LEARNING) -> CheatersResult | None:
        """How the bets came out; None when there were too few to learn from."""
        channels = []
        for channel, bettor in self.bettors.items():
            counted = bettor.bets[learning:]
            if counted:
                right = sum(counted)
                p_value = at_least(right, len(counted))
                channels.append(ChannelResult(channel=channel, bets=len(counted), right=right, p_value=p_value))
        if not channels:
            return None
        smallest = min(channel.p_value for channel in channels)
        return CheatersResult(channels=tuple(channels), p_value=min(1.0, smallest * len(channels)), learning=learning)


class Cheater(Participant):
    """Never looks at a picture; learns the practice by heart and bets in the trials."""

    character: CharacterName = "cheater"
    pool: Pool

    def answer_all(self, view: View) -> Life:
        """Load all sprites first, as a page may, and compare what came."""
        reply = self.browser.look_closely()
        trials = (view.main or ())[view.answered :]
        sprites = {trial.position: self.browser.sprite(trial.sprite) for trial in trials}
        self._clues = _all_clues(trials, sprites, reply)
        self._sums = {position: zlib.crc32(sprite.content) for position, sprite in sprites.items()}
        for trial in trials:
            yield from self.answer(view, trial)

    def choose(self, trial: ShownTrial, picture: bytes, grid: Grid) -> Choice:
        self._bets = self.pool.bets(self._clues[trial.position])
        # All channels are bet on, but a click must not depend on what differs from run to run: a rehearsal can be repeated.
        odds = sum(self._bets[channel] for channel in REPEATABLE)
        return Choice("upper" if odds >= 0 else "lower", 1 + (abs(odds) > 0.5) + (abs(odds) > 2))

    def told(self, trial: ShownTrial, choice: Choice, correct: bool) -> None:
        upper_is_right = (choice.row == "upper") == correct
        sprite = (trial.sprite, self._sums[trial.position])
        self.pool.learn(self._clues[trial.position], self._bets, upper_is_right, sprite)

    def choose_in_practice(self, trial: ShownTrial, picture: bytes, grid: Grid) -> Choice:
        known = self.pool.practice.get(trial.sprite)
        if known is None:
            return Choice("upper" if self.rng.random() < 0.5 else "lower", 1)
        return Choice("upper" if trial.upper == known else "lower", 3)

    def told_in_practice(self, trial: ShownTrial, choice: Choice, correct: bool) -> None:
        upper_is_right = (choice.row == "upper") == correct
        self.pool.practice[trial.sprite] = trial.upper if upper_is_right else trial.lower

    def _picture(self, trial: ShownTrial) -> bytes:
        return b""

    def _load_next(self, view: View, trial: ShownTrial) -> None:
        """Everything was loaded at the beginning."""


def at_least(right: int, of: int) -> float:
    """Chance of at least so many heads in so many tosses of a fair coin, exactly."""
    return float(sum(math.comb(of, k) for k in range(right, of + 1)) / 2**of)


def _all_clues(trials: tuple[ShownTrial, ...], sprites: dict[int, Reply], view: Reply) -> dict[int, Clues]:
    """What there is to go by in each trial, each clue roughly between −1 and 1."""
    sizes = _ranks([len(sprites[trial.position].content) for trial in trials])
    waits = _ranks([sprites[trial.position].seconds for trial in trials])
    raw = {trial["position"]: trial for trial in loads(view.content)["main"]}
    clues: dict[int, Clues] = {}
    for trial, size, wait in zip(trials, sizes, waits, strict=True):
        sprite = sprites[trial.position]
        single: Clues = {
            "order": _order(trial),
            "size": np.array([size, np.sign(size)]),
            "token": _token(trial.sprite),
            "envelope": _envelope(trial, raw[trial.position], sprite),
        }
        together = np.concatenate(list(single.values()))
        clues[trial.position] = {**single, "all": together, "timing": np.array([wait, np.sign(wait)])}
    return clues


def _order(trial: ShownTrial) -> NDArray[np.float64]:
    upper, lower = trial.upper, trial.lower
    return np.array([np.sign(upper - lower), (upper - lower) / 10, upper % 2 - lower % 2, (upper % 5 - lower % 5) / 3], float)


def _token(sprite: str) -> NDArray[np.float64]:
    """Bits of a name's first two and last letters, and its length."""
    name = sprite.rsplit("/", 1)[-1].partition(".")[0]
    bits = [1.0 if ord(letter) >> bit & 1 else -1.0 for letter in (*name[:2], name[-1]) for bit in range(4)]
    digits = [1.0 if letter.isdigit() else -1.0 for letter in (*name[:2], name[-1])]
    # In hexadecimal the order of the letters isn't that of their codes' bits, so the value of the first comes besides.
    value = (int(name[0], 16) - 7.5) / 7.5 if name[0] in "0123456789abcdef" else 0.0
    return np.array([*bits, *digits, value, np.sign(value), len(name) / 32 - 1])


def _envelope(trial: ShownTrial, raw: dict[str, object], sprite: Reply) -> NDArray[np.float64]:
    """Position, order of the keys, headers, and what the bytes look like without being decoded."""
    keys = list(raw)
    counts = np.array(list(Counter(sprite.content).values())) / max(1, len(sprite.content))
    entropy = float(-(counts * np.log2(counts)).sum())
    checksum = zlib.crc32(sprite.content)
    return np.array(
        [
            1.0 if keys.index("upper") < keys.index("lower") else -1.0,
            1.0 if trial.position % 2 else -1.0,
            trial.position / 20 - 1,
            len(sprite.headers) / 10 - 1,
            entropy - 7.5,
            *(1.0 if checksum >> bit & 1 else -1.0 for bit in (0, 7, 31)),
        ]
    )


def _ranks(values: list[float] | list[int]) -> list[float]:
    """Each value's rank among a visit's, from −1 to 1; equal values share theirs, and all are 0 when none differs.

    Ranks, because one reply that was late for a reason of its own mustn't hide the others.
    """
    array = np.asarray(values, float)
    below = (array[:, None] > array[None, :]).sum(axis=1)
    above = (array[:, None] < array[None, :]).sum(axis=1)
    ranks: list[float] = ((below - above) / max(1, len(array) - 1)).tolist()
    return ranks
