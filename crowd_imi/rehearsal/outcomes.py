"""Whether everybody came out as they should, and whether every acknowledged answer is in the store."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import select

from crowd_imi.allocation import hash_key
from crowd_imi.keys import participant_hash
from crowd_imi.rehearsal.participants import Participant
from crowd_imi.rehearsal.records import Acknowledged, CharacterName, Outcome
from crowd_imi.store import Store
from crowd_imi.store.tables import Answer, Trial, Visit
from crowd_imi.study import ExclusionSection, Study

SETTLED = ("valid", "excluded")
"""Somebody who takes it seriously may still fail a criterion."""

EXPECTED: dict[CharacterName, tuple[str, ...]] = {
    "same_row": ("excluded",),
    "rushed": ("excluded",),
    "leaves": ("timed_out",),
    "gives_back": ("returned",),
    "fails_practice": ("excluded",),
    "declines": ("declined",),
}

BLIND: frozenset[CharacterName] = frozenset({"random", "cheater"})
"""Excluded, unless chance gave them enough of the catch trials."""

REFUSED: dict[CharacterName, tuple[str, ...]] = {"comes_twice": ("already-took-part",)}


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds of one visit."""

    state: str
    answers: dict[int, Answer]
    catch: tuple[bool, ...]
    """Whether each answered catch trial was right."""
    rows: tuple[str, ...]
    """Rows chosen in main trials on real units."""


def stored_visits(study: Study, store: Store, platform: str, people: Iterable[Participant]) -> dict[str, Stored]:
    """Everybody's visit, by the platform's name for the participant; who has none is left out."""
    key = hash_key(store, study)
    names = {
        participant_hash(key, platform, browser.door.known_as(browser.participant)): browser.participant
        for browser in (person.browser for person in people)
    }
    found: dict[str, Stored] = {}
    with store.read() as session:
        for visit in session.scalars(select(Visit)):
            rows = session.execute(
                select(Answer, Trial)
                .join(Trial, (Trial.task_id == visit.task_id) & (Trial.position == Answer.position))
                .where(Answer.visit_id == visit.id)
            ).all()
            found[names[visit.participant]] = Stored(
                state=visit.state,
                answers={answer.position: answer for answer, _trial in rows},
                catch=tuple(answer.correct for answer, trial in rows if trial.kind == "catch"),
                rows=tuple(answer.row for answer, trial in rows if trial.kind == "main" and not trial.null_unit),
            )
    return found


def outcome(number: int, person: Participant, visit: Stored | None, limits: ExclusionSection) -> Outcome:
    """How one participant came out, beside how they should have."""
    refusals = tuple(person.browser.refusals)
    expected = _expected(person.character, visit, limits)
    right_state = visit is not None and visit.state in expected and refusals == REFUSED.get(person.character, ())
    # Who found no task any more took part in nothing, which is nobody's fault.
    turned_away = visit is None and (person.browser.ticket is None or refusals == ("study-full",))
    return Outcome(
        number=number,
        participant=person.browser.participant,
        character=person.character,
        state=None if visit is None else visit.state,
        expected=expected,
        refusals=refusals,
        surprises=tuple(person.surprises),
        ok=(right_state or turned_away) and not person.surprises,
    )


def _expected(character: CharacterName, visit: Stored | None, limits: ExclusionSection) -> tuple[str, ...]:
    if character in BLIND:
        return ("valid",) if visit is not None and _lucky(visit, limits) else ("excluded",)
    return EXPECTED.get(character, SETTLED)


def _lucky(visit: Stored, limits: ExclusionSection) -> bool:
    """Whether somebody who doesn't look has met what is asked of catch trials and of rows, counted here once more."""
    balanced = min(visit.rows.count("upper"), visit.rows.count("lower")) >= limits.min_row_choices
    return balanced and sum(visit.catch) >= limits.min_catch_ratio * len(visit.catch)


def lost(acknowledged: Iterable[Acknowledged], visits: dict[str, Stored]) -> Iterator[str]:
    """One line for every acknowledged answer that the store doesn't hold as it was acknowledged."""
    for said in acknowledged:
        visit = visits.get(said.participant)
        answer = None if visit is None else visit.answers.get(said.position)
        if answer is None:
            yield f"{said.participant}: the answer to trial {said.position} was acknowledged and isn't in the store"
        elif (answer.row, answer.confidence) != (said.row, said.confidence):
            yield f"{said.participant}: the answer to trial {said.position} was acknowledged as another than the store holds"
