"""Who comes when: arrivals as long as places are open, and the harvest beside them, on one schedule."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from crowd_imi.rehearsal.browser import Browser
from crowd_imi.rehearsal.characters import CHARACTERS
from crowd_imi.rehearsal.cheater import Cheater, Pool
from crowd_imi.rehearsal.doors import Door
from crowd_imi.rehearsal.eyes import Sight
from crowd_imi.rehearsal.participants import Participant
from crowd_imi.rehearsal.records import Cast, CharacterName, Ending
from crowd_imi.rehearsal.schedule import MINUTE, SECOND, Life, Schedule
from crowd_imi.rehearsal.wire import Wire
from crowd_imi.seeds import generator

HARVEST_EVERY = 3 * MINUTE
HARVEST_EVERY_WHEN_QUIET = 15 * MINUTE
"""While nobody is at it, and only time-outs are waited for."""

BETWEEN_ARRIVALS = 25 * SECOND
"""On average."""


class Progress(Protocol):
    """Where the study stands after a harvest."""

    @property
    def short(self) -> tuple[str, ...]:
        """Tasks that stay without a valid response."""
        ...

    @property
    def complete(self) -> bool:
        """Every task has its valid response or is short, and nobody is at one."""
        ...

    @property
    def under_way(self) -> int:
        """Visits that haven't come to an end."""
        ...


@dataclass(slots=True)
class Crowd:
    """Everybody who takes part in one rehearsal, and when."""

    schedule: Schedule
    wire: Wire
    door: Door
    cast: Cast
    tasks: int
    seed: int
    harvest: Callable[[], Progress]
    """One round of the harvester."""
    pool: Pool = field(default_factory=Pool)
    people: list[Participant] = field(default_factory=list)
    ended: Ending | None = None
    short: tuple[str, ...] = ()
    harvests: int = 0
    _active: int = 0
    _sight: Sight = field(default_factory=Sight)

    def run(self) -> Iterator[int]:
        """Let everybody come and go; yields the simulated time of each step."""
        self.schedule.start(self._arrivals())
        self.schedule.start(self._harvests(), HARVEST_EVERY)
        try:
            yield from self.schedule.steps()
        finally:
            self._sight.close()

    @property
    def at_most(self) -> int:
        if self.cast.at_most is not None:
            return self.cast.at_most
        return 3 * self.tasks + len(self.cast.troublemakers) + self.cast.cheaters

    def _arrivals(self) -> Life:
        rng = generator(self.seed, "arrivals")
        order = roles(self.cast, self.tasks, self.seed)
        while self.ended is None and len(self.people) < self.at_most:
            if self.door.free_places() > 0:
                person = self._person(next(order))
                self.people.append(person)
                self.schedule.start(self._take_part(person))
                yield max(SECOND, int(rng.exponential(BETWEEN_ARRIVALS)))
            else:
                yield MINUTE

    def _take_part(self, person: Participant) -> Life:
        self._active += 1
        yield from person.live()
        self._active -= 1

    def _person(self, role: CharacterName) -> Participant:
        number = len(self.people) + 1
        browser = Browser(self.wire, self.door, f"rehearsal-{self.seed}-{number:04d}")
        rng = generator(self.seed, "participant", number)
        kind = Cheater if role == "cheater" else CHARACTERS[role]
        person = kind(browser, self._sight, rng, lambda: self.ended is not None)
        if isinstance(person, Cheater):
            person.pool = self.pool
        return person

    def _harvests(self) -> Life:
        """Harvest until nothing is left to wait for."""
        quiet = 0
        while self.ended is None:
            progress = self.harvest()
            self.short = progress.short
            self.harvests += 1
            full = len(self.people) >= self.at_most
            waiting = progress.under_way > 0 or (self.door.free_places() > 0 and not full)
            # Places that a harvest has added are taken after it, so one quiet round isn't enough.
            quiet = 0 if waiting else quiet + 1
            if progress.complete:
                self.ended = "short" if progress.short else "complete"
            elif quiet >= 2:
                self.ended = "participants" if full else "nothing_open"
            else:
                yield HARVEST_EVERY if self._active else HARVEST_EVERY_WHEN_QUIET


def roles(cast: Cast, tasks: int, seed: int) -> Iterator[CharacterName]:
    """Who the next participant is: troublemakers and cheaters are spread over the first ones, the rest are observers."""
    if cast.only_cheaters:
        while True:
            yield "cheater"
    cheaters: list[CharacterName] = ["cheater"] * cast.cheaters
    special = [*cast.troublemakers, *cheaters]
    # All of them come while there are tasks left for the others to be done after them.
    early = max(len(special), (2 * tasks) // 3)
    order: list[CharacterName] = ["observer"] * early
    rng = generator(seed, "roles")
    places = sorted(rng.choice(early, size=len(special), replace=False).tolist())
    for place, who in zip(places, rng.permutation(len(special)), strict=True):
        order[place] = special[who]
    yield from order
    while True:
        yield "observer"
