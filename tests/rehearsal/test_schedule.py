"""Simulated time."""

from crowd_imi.rehearsal.schedule import Life, Schedule
from crowd_imi.store.clock import SimulatedClock


def life(name: str, waits: list[int], heard: list[tuple[str, int]], clock: SimulatedClock) -> Life:
    for wait in waits:
        heard.append((name, clock.now()))
        yield wait
    heard.append((name, clock.now()))


def test_steps_come_in_the_order_of_their_time():
    clock = SimulatedClock(1000)
    schedule = Schedule(clock)
    heard: list[tuple[str, int]] = []
    schedule.start(life("slow", [50, 50], heard, clock))
    schedule.start(life("fast", [20, 20], heard, clock), after=10)
    assert list(schedule.steps()) == [1000, 1010, 1030, 1050, 1050, 1100]
    # At 1050 both are due; the one that was started first goes first.
    assert heard == [("slow", 1000), ("fast", 1010), ("fast", 1030), ("slow", 1050), ("fast", 1050), ("slow", 1100)]


def test_somebody_who_is_started_by_another_takes_part():
    clock = SimulatedClock(0)
    schedule = Schedule(clock)
    heard: list[tuple[str, int]] = []

    def parent() -> Life:
        yield 5
        schedule.start(life("child", [1], heard, clock), after=2)

    schedule.start(parent())
    list(schedule.steps())
    assert heard == [("child", 7), ("child", 8)]
