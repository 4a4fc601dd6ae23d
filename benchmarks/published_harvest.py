"""What the published collection loop loses by its known faults, on responses that our harvester was given.

The loop, as far as its faults go, is written again here: it goes through its HITs in turn, every so often, and keeps what it
knows in memory. Per HIT it asks for the responses, approves them, and offers a task again that has no valid one. Its faults:

- the response that uses up a HIT's last allowed attempt is approved, and the HIT given up before that response is looked at;
- a call that fails ends the pass, and the next one begins with the first HIT again: those behind it wait, pass after pass;
- what was read is in memory: when the process ends, every task that isn't on the platform any more as a finished HIT is posted
  again, and responses that were read before are forgotten.

Each is measured by itself, and beside them the loop without any. What our own harvester made of the same responses is read from
its store (``benchmarks.harvest``).
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.counted_standins import MINUTE, START
from benchmarks.fortnight_study import Size

PUBLISHED_ATTEMPTS = 3
FAILING = 0.07
"""Share of calls that fail, as in the fortnight."""
ENDINGS = 14
"""How often the process ends: once a day."""

FAULTS = {
    "last_attempt": "published: the last allowed response isn't read",
    "failing_call": "published: a failing call ends the pass",
    "memory": "published: what it knows is in memory",
    "none": "published, without these faults",
}
OURS = "ours"


@dataclass(frozen=True, slots=True)
class Loss:
    """What a loop made of the responses."""

    paid_not_read: int
    """Responses that were paid and never came into the data."""
    posted_again: int
    """Tasks that were offered again though their valid response was there."""
    short_tasks: int
    """Tasks that end without a valid response, though enough people would have come."""
    hours_until_read: float
    """Mean time from a response to its being read, of those that were read."""


def compare(responses: Mapping[int, Sequence[tuple[int, bool]]], size: Size) -> dict[str, Loss]:
    """Each fault by itself.

    Args:
        responses: task → (time, passes) of the responses that came to it, in order.
        size: of the fortnight: how often it looks.
    """
    tasks = [tuple(responses[task]) for task in sorted(responses)]
    return {fault: _loop(fault, tasks, size) for fault in FAULTS}


def _loop(fault: str, tasks: Sequence[Sequence[tuple[int, bool]]], size: Size) -> Loss:
    chance = random.Random(f"{size.seed} {fault}")
    attempts = PUBLISHED_ATTEMPTS if fault == "last_attempt" else max(map(len, tasks), default=0)
    state = [_Task(answers, attempts) for answers in tasks]
    step = size.round_minutes * MINUTE
    rounds = max((1 + (at - START) // step for answers in tasks for at, _ in answers), default=0)
    endings = {round(rounds * (number + 1) / (ENDINGS + 1)) for number in range(ENDINGS)} if fault == "memory" else set()
    for number in range(1, rounds + 1):
        now = START + number * step
        if number in endings:
            for task in state:
                task.forget()
        for task in state:
            if task.given_up:
                continue
            if fault == "failing_call" and chance.random() < FAILING:
                break
            task.look(now, reads_last=fault != "last_attempt")
    waits = [wait for task in state for wait in task.waits]
    return Loss(
        paid_not_read=sum(task.paid - len(task.read) for task in state),
        posted_again=sum(task.posted_again for task in state),
        short_tasks=sum(not any(good for _, good in task.read) for task in state),
        hours_until_read=sum(waits) / len(waits) / (60 * MINUTE) if waits else 0.0,
    )


class _Task:
    """One task as the loop knows it."""

    def __init__(self, answers: Sequence[tuple[int, bool]], attempts: int) -> None:
        self._answers, self._attempts = answers, attempts
        self.read: list[tuple[int, bool]] = []
        self.waits: list[int] = []
        self.paid = self.posted_again = 0
        self.given_up = False

    def look(self, now: int, *, reads_last: bool) -> None:
        """One pass: approve what came, give up after the last attempt, else read."""
        came = [answer for answer in self._answers[: self._attempts] if answer[0] <= now]
        new = came[self.paid :]
        self.paid += len(new)
        for place, answer in enumerate(new, self.paid - len(new) + 1):
            if place == self._attempts and not reads_last:
                self.given_up = True
                return
            self.read.append(answer)
            self.waits.append(now - answer[0])
            if answer[1]:
                self.given_up = True

    def forget(self) -> None:
        """The process ends: what was read is lost, and a task that was done is posted again."""
        self.posted_again += any(good for _, good in self.read)
        self.read, self.given_up = [], False
