"""Troublemakers, each with the state its visit should end in."""

from crowd_imi.plan import Grid
from crowd_imi.rehearsal.browser import Browser, Said, ShownTrial, View
from crowd_imi.rehearsal.observers import Choice
from crowd_imi.rehearsal.participants import Pace, Participant
from crowd_imi.rehearsal.records import CharacterName
from crowd_imi.rehearsal.schedule import MINUTE, SECOND, Life


class SameRow(Participant):
    """Practises properly, then always clicks in the upper row."""

    character: CharacterName = "same_row"

    def choose(self, trial: ShownTrial, picture: bytes, grid: Grid) -> Choice:
        return Choice("upper", 2)


class Rushed(Participant):
    """Skips what can be skipped and clicks as soon as the buttons open, looking all the same."""

    character: CharacterName = "rushed"

    def act(self) -> Life:
        self.pace = Pace(consent=SECOND, instructions=3 * SECOND, thinking=50.0, spread=0.2, going_on=50)
        yield from super().act()

    def hand_in(self) -> Life:
        yield SECOND // 2
        self.step = self.browser.submit("").step


class RandomClicker(Participant):
    """Practises properly, then clicks anywhere."""

    character: CharacterName = "random"

    def choose(self, trial: ShownTrial, picture: bytes, grid: Grid) -> Choice:
        return Choice("upper" if self.rng.random() < 0.5 else "lower", int(self.rng.integers(1, 4)))


class Leaves(Participant):
    """Closes the tab halfway and never comes back."""

    character: CharacterName = "leaves"

    def answer_all(self, view: View) -> Life:
        for trial in (view.main or ())[: view.trials // 2]:
            yield from self.answer(view, trial)
        self.gone = True


class GivesBack(Leaves):
    """Stops halfway and gives the place back on the platform."""

    character: CharacterName = "gives_back"

    def answer_all(self, view: View) -> Life:
        yield from super().answer_all(view)
        yield self.some(10 * SECOND)
        self.browser.give_back()


class Reloads(Participant):
    """Reloads the page every few trials, now and then by opening the platform's link once more."""

    character: CharacterName = "reloads"

    def answer_all(self, view: View) -> Life:
        for count, trial in enumerate((view.main or ())[view.answered :], 1):
            yield from self.answer(view, trial)
            if count % 3 == 0 and count < view.trials:
                yield self.some(2 * SECOND)
                if count % 2 == 0 and not self.browser.arrive():
                    self.surprises.append("the link was refused to somebody who is under way")
                seen = self.browser.look()
                if seen.answered != trial.position + 1:
                    self.surprises.append(f"after a reload {seen.answered} trials were answered instead of {trial.position + 1}")


class ComesTwice(Participant):
    """Takes part, then takes another place, and gives it back when the pages explain why."""

    character: CharacterName = "comes_twice"

    def act(self) -> Life:
        yield from super().act()
        yield self.some(MINUTE)
        if not (yield from self.take_place()):
            self.surprises.append("no second place was open before the rehearsal was over")
            return
        if self.browser.arrive() or self.browser.refusals != ["already-took-part"]:
            self.surprises.append(f"the second visit wasn't refused as a second one: {self.browser.refusals}")
        yield self.some(10 * SECOND)
        self.browser.give_back()


class TwoPlaces(Participant):
    """Opens two places at once and answers in turn: only the tab that was opened last goes on."""

    character: CharacterName = "two_places"

    def act(self) -> Life:
        if not (yield from self.take_place()):
            return
        first = self.browser
        second = Browser(first.wire, first.door, first.participant, acknowledged=first.acknowledged)
        if first.ticket is None or second.take(first.ticket.posting) is None:
            self.surprises.append("a participant couldn't open a place of their own a second time")
            return
        arrived = [first.arrive(), second.arrive()]
        if not arrived[0]:
            self.surprises.append(f"the first of two tabs was refused: {first.refusals}")
        self._expect_ended(first, arrived[1])
        self.browser = second if arrived[1] else first
        yield from self.take_part()

    def _expect_ended(self, first: Browser, taken_over: bool) -> None:
        try:
            first.look()
        except Said as said:
            if not taken_over or (said.status, said.code) != (401, "ended"):
                self.surprises.append(f"the first of two tabs heard {said.status} {said.code}")
            return
        if taken_over:
            self.surprises.append("two tabs of one visit work side by side")


class FailsPractice(Participant):
    """Doesn't get the practice right, however often."""

    character: CharacterName = "fails_practice"

    def choose_in_practice(self, trial: ShownTrial, picture: bytes, grid: Grid) -> Choice:
        seen = super().choose_in_practice(trial, picture, grid)
        return Choice("lower" if seen.row == "upper" else "upper", seen.confidence)


class Declines(Participant):
    """Says no to the consent form and gives the place back."""

    character: CharacterName = "declines"

    def consent(self, view: View) -> Life:
        yield self.pace.consent
        self.step = self.browser.consent(False, str(view.texts["consent"]["version"]))

    def take_part(self) -> Life:
        yield from super().take_part()
        yield self.some(5 * SECOND)
        self.browser.give_back()


class Resends(Participant):
    """Loses the connection: sends answers twice, and once tries to change one."""

    character: CharacterName = "resends"

    def answer(self, view: View, trial: ShownTrial) -> Life:
        yield from super().answer(view, trial)
        if trial.position % 3 == 0:
            self._again(trial.position)

    def _again(self, position: int) -> None:
        stored = self.browser.acknowledged[position]
        try:
            self.browser.answer(position, Choice(stored.row, stored.confidence), 2000.0, None)
        except Said as said:
            self.surprises.append(f"an answer that was sent again heard {said}")
        other = Choice("lower" if stored.row == "upper" else "upper", stored.confidence)
        try:
            self.browser.answer(position, other, 2000.0, None)
        except Said as said:
            if (said.status, said.code) != (409, "already-answered"):
                self.surprises.append(f"an answer that was to be changed heard {said}")
        else:
            self.surprises.append(f"the answer to trial {position} could be changed")


CHARACTERS: dict[CharacterName, type[Participant]] = {
    person.character: person
    for person in (
        Participant,
        SameRow,
        Rushed,
        RandomClicker,
        Leaves,
        GivesBack,
        Reloads,
        ComesTwice,
        TwoPlaces,
        FailsPractice,
        Declines,
        Resends,
    )
}
