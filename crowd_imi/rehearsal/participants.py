"""What every participant does: come, read, practise, answer, hand in, at a human pace on the simulated clock."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from crowd_imi.plan import Grid
from crowd_imi.rehearsal.browser import Browser, Said, ShownTrial, Step, View
from crowd_imi.rehearsal.eyes import Sight
from crowd_imi.rehearsal.observers import Choice, Observer
from crowd_imi.rehearsal.records import CharacterName
from crowd_imi.rehearsal.schedule import MINUTE, SECOND, Life

OVER: frozenset[Step] = frozenset({"done", "failed_practice", "declined"})

BROWSER = {
    "name": "Rehearsal",
    "window_width": 1280,
    "window_height": 720,
    "pixel_ratio": 1.0,
    "zoom": 1.0,
    "tile_css_px": 64,
    "fullscreen": True,
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast somebody is, in milliseconds; the page's own locks come on top."""

    consent: int
    instructions: int
    """All pages together."""
    thinking: float
    """Median from the buttons' opening to the click."""
    spread: float
    """Standard deviation of the logarithm of it."""
    going_on: int
    """From the end of the feedback to the next trial."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Pace":
        """A person who takes the task seriously."""
        return cls(
            consent=int(rng.uniform(15, 45) * SECOND),
            instructions=int(rng.uniform(20, 60) * SECOND),
            thinking=float(rng.lognormal(np.log(2.6 * SECOND), 0.2)),
            spread=0.5,
            going_on=int(rng.uniform(0.4, 1.2) * SECOND),
        )


class Participant:
    """Somebody who looks at the pictures and does as the pages say; others override what they do differently."""

    character: CharacterName = "observer"

    def __init__(self, browser: Browser, sight: Sight, rng: np.random.Generator, over: Callable[[], bool]) -> None:
        """Make a person.

        Args:
            browser: this person's own.
            sight: what pictures look like.
            rng: all that is individual or by chance about this person.
            over: whether the rehearsal is over, so that it is no use to wait for a place.
        """
        self.browser = browser
        self.rng = rng
        self.over = over
        self.gone = False
        """Closed the tab in the middle."""
        self.step: Step = "consent"
        self.surprises: list[str] = []
        self._sight = sight
        self.observer = Observer.draw(rng)
        self.pace = Pace.draw(rng)
        self._saving: float | None = None
        self._loaded: dict[str, bytes] = {}

    def live(self) -> Life:
        """All that this person does, from the list of places to the end."""
        try:
            yield from self.act()
        except Said as said:
            self.surprises.append(str(said))

    def act(self) -> Life:
        """Take a place and take part."""
        if not (yield from self.take_place()):
            return
        if self.browser.arrive():
            yield from self.take_part()
        else:
            self.browser.give_back()

    def take_place(self) -> Generator[int, None, bool]:
        """Look for an open place until there is one.

        Returns:
            Whether there was one before the rehearsal was over.
        """
        while not self.over():
            for posting in self.browser.postings():
                if self.browser.take(posting) is not None:
                    yield self.some(3 * SECOND)
                    return True
            yield self.some(5 * MINUTE)
        return False

    def take_part(self) -> Life:
        """Do what the page shows, from wherever the visit stands; what comes next is in each reply."""
        view = self.browser.look()
        self.step = view.step
        while self.step not in OVER and not self.gone:
            yield from self._do(view)
        if self.gone:
            return
        completion = self.browser.look().completion
        if completion is not None:
            self.browser.complete(completion)

    def _do(self, view: View) -> Life:
        match self.step:
            case "consent":
                yield from self.consent(view)
            case "instructions":
                yield from self.read(view)
            case "practice":
                yield from self.practise(view)
            case "main":
                yield from self.answer_all(view)
            case _:
                yield from self.hand_in()

    def consent(self, view: View) -> Life:
        yield self.pace.consent
        self.step = self.browser.consent(True, str(view.texts["consent"]["version"]))

    def read(self, view: View) -> Life:
        """Read the instructions page by page."""
        pages = [str(page["id"]) for page in view.texts["instructions"]]
        shares = self.rng.dirichlet(np.full(len(pages), 8.0))
        for page, share in zip(pages, shares, strict=True):
            shown = max(1, int(share * self.pace.instructions))
            yield shown
            self.browser.page(page, shown)
        self.step = self.browser.instructions(BROWSER)

    def practise(self, view: View) -> Life:
        """One block after another, until the page goes on."""
        block = view.practice
        while block is not None:
            following = None
            for trial in block.trials[block.position :]:
                choice = self.choose_in_practice(trial, self._picture(trial), view.grid)
                reaction = self.reaction(view)
                yield reaction
                reply = self.browser.practise(block.block, trial.position, choice, reaction)
                self.told_in_practice(trial, choice, reply.correct)
                yield self.feedback(view)
                following = reply.practice
                self.step = reply.step
            block = following

    def answer_all(self, view: View) -> Life:
        """The trials that aren't answered yet, one at a time."""
        for trial in (view.main or ())[view.answered :]:
            yield from self.answer(view, trial)

    def answer(self, view: View, trial: ShownTrial) -> Life:
        """Look, think, click, hear whether it was right."""
        choice = self.choose(trial, self._picture(trial), view.grid)
        self._load_next(view, trial)
        reaction = self.reaction(view)
        yield reaction
        reply = self.browser.answer(trial.position, choice, reaction, self._saving)
        self._saving = float(self.some(60))
        self.step = reply.step
        self.told(trial, choice, reply.correct)
        yield self.feedback(view)

    def hand_in(self) -> Life:
        yield self.some(15 * SECOND)
        self.step = self.browser.submit("").step

    def choose(self, trial: ShownTrial, picture: bytes, grid: Grid) -> Choice:
        """Decide by what the picture looks like."""
        return self.observer.decide(self._sight(picture, grid), trial.places, self.rng)

    def choose_in_practice(self, trial: ShownTrial, picture: bytes, grid: Grid) -> Choice:
        return Participant.choose(self, trial, picture, grid)

    def told(self, trial: ShownTrial, choice: Choice, correct: bool) -> None:
        """Hear whether an answer was right; observers don't make use of it."""

    def told_in_practice(self, trial: ShownTrial, choice: Choice, correct: bool) -> None:
        """Hear whether a practice answer was right."""

    def reaction(self, view: View) -> int:
        """Milliseconds from the painted frame to the click."""
        return view.timing.unlock_ms + int(self.pace.thinking * self.rng.lognormal(0.0, self.pace.spread))

    def feedback(self, view: View) -> int:
        """Milliseconds from the click to the next frame."""
        return view.timing.verdict_ms + view.timing.feedback_ms + self.some(self.pace.going_on)

    def some(self, milliseconds: float) -> int:
        """About so long: between a half and one and a half."""
        return int(milliseconds * self.rng.uniform(0.5, 1.5))

    def _picture(self, trial: ShownTrial) -> bytes:
        loaded = self._loaded.pop(trial.sprite, None)
        return self.browser.sprite(trial.sprite).content if loaded is None else loaded

    def _load_next(self, view: View, trial: ShownTrial) -> None:
        """Load the next trial's picture ahead, as the page does, and begin to see it while others are served."""
        for following in (view.main or ())[trial.position + 1 : trial.position + 2]:
            content = self.browser.sprite(following.sprite).content
            self._loaded[following.sprite] = content
            self._sight.ahead(content, view.grid)
